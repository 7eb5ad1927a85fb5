"""Whose code would run with our rights: what a stranger has planted where we write is refused.

Triggers, checks, defaults and index expressions run as whoever writes
(https://www.postgresql.org/docs/current/perm-functions.html); to read a plain table runs none. Superusers
are no strangers, nor are roles that we are a member of. That a superuser may act as anyone makes nobody
trusted.
"""

from collections.abc import Mapping, Sequence

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load.table import LEDGER_SCHEMA, Target

_STRANGERS = """
WITH RECURSIVE ours AS (
    SELECT oid FROM pg_roles WHERE rolname IN (session_user, current_user)
    UNION SELECT roleid FROM pg_auth_members JOIN ours ON member = ours.oid
)
SELECT rolname FROM pg_roles
WHERE oid IN ({owners}) AND NOT rolsuper AND oid NOT IN (SELECT oid FROM ours)
ORDER BY 1
"""

# What comes with Postgres itself is in no dependency.
_OWNERS_OF_CODE = """
SELECT proowner FROM pg_proc JOIN pg_depend ON refclassid = 'pg_proc'::regclass AND refobjid = pg_proc.oid
WHERE (classid, objid) IN (
    SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid = to_regclass(%(table)s)
    UNION SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = to_regclass(%(table)s)
    UNION SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid = to_regclass(%(table)s)
    UNION SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = to_regclass(%(table)s))
"""

_OWNERS_OF_LEDGER = """
SELECT nspowner FROM pg_namespace WHERE nspname = %(schema)s
UNION SELECT relowner FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname IN ('loads', 'parts', 'rejects', 'attempts', 'ledger_version')
"""


def check_ledger(cursor: Cursor) -> None:
    """Raise DatabaseError where the ledger, or the schema for it, is a stranger's, who may add code to it."""
    if owners := _strangers(cursor, _OWNERS_OF_LEDGER, {"schema": LEDGER_SCHEMA}):
        raise DatabaseError(
            f"The schema {LEDGER_SCHEMA} belongs to {owners}, whose code would run with your rights.",
            f"Load as {owners}, or GRANT that role to yours if you trust it; drop the schema if no one should"
            " have it.",
        )


def check_table(cursor: Cursor, target: Target) -> None:
    """Raise DatabaseError where a stranger's functions would run when rows are added to the table."""
    if owners := _strangers(cursor, _OWNERS_OF_CODE, {"table": target.quoted_whole}):
        raise DatabaseError(
            f"{target} uses functions of {owners}, which would run with your rights.",
            f"Load as {owners}, or GRANT that role to yours if you trust it, or load into another --table.",
        )


def strangers_owning(cursor: Cursor, relations: Sequence[int]) -> str:
    """The strangers among the owners of these relations (by oid); empty where there are none."""
    owners = "SELECT relowner FROM pg_class WHERE oid = ANY (%(relations)s::oid[])"
    return _strangers(cursor, owners, {"relations": list(relations)})


def _strangers(cursor: Cursor, owners: str, values: Mapping[str, object]) -> str:
    cursor.execute(_STRANGERS.format(owners=owners), values)
    return ", ".join(name for (name,) in cursor.fetchall())
