"""What the ledger tells: which loads there are, whose rows they have, what a table holds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal
from weakref import WeakSet

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError, UsageError, nearest
from taxi_ingest.load import migrations
from taxi_ingest.load.database import Database
from taxi_ingest.load.table import Target
from taxi_ingest.settings.job import Names
from taxi_ingest.sources import Validators

Status = Literal["loading", "loaded", "replaced", "undone", "dropped"]
Verdict = Literal["match", "revised", "short", "unknown"]
"""Of the rows against those that TLC's file is known to have: see checks.py."""


@dataclass(frozen=True)
class LoadRecord:
    """A file that was loaded, as the ledger has it; its fields are columns of `taxi_ingest.loads`."""

    load_id: int
    table_schema: str
    table_name: str
    source: str
    status: Status
    sha256: str
    bytes: int
    etag: str | None
    last_modified: str | None
    dataset: str | None
    month: str | None
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    known_rows: int | None
    verdict: Verdict
    quality: dict[str, int]
    notes: list[str]
    replaces: int | None
    """The load whose rows it replaced."""
    started_at: datetime
    finished_at: datetime
    ended_at: datetime | None
    """When its rows left the table."""
    flow_run_url: str | None
    tool_version: str

    @property
    def target(self) -> Target:
        """The table that it is in."""
        return Target(self.table_schema, self.table_name)

    @property
    def validators(self) -> Validators:
        """What tells, without its content, whether the file has changed since."""
        return Validators(self.etag, self.last_modified)


@dataclass(frozen=True)
class TableRecord:
    """What the ledger knows of a table: the dataset of its files, and how its columns are spelled."""

    dataset: str | None
    names: Names
    load_id: int
    """Its latest load."""

    def check_dataset(self, dataset: str | None, target: Target) -> None:
        """One table, one dataset: a file put into another's table is a slip. Raises DataError."""
        if self.dataset != dataset:
            raise DataError(
                f"{target} holds files of {_described(self.dataset)}, this is one of {_described(dataset)}.",
                "Load it into another --table.",
            )


@dataclass(frozen=True)
class Filter:
    """Which loads to list; None stands for all."""

    target: Target | None = None
    dataset: str | None = None
    month: str | None = None
    status: Status | None = None
    limit: int | None = None
    """Only the latest so many."""


@dataclass(frozen=True)
class LookBack:
    """What the ledger knows before a load."""

    file: LoadRecord | None
    """The file, if the table has it."""
    table: TableRecord | None


_NAMES = [field.name for field in fields(LoadRecord)]
COLUMNS = ", ".join(_NAMES)

_HOLDER = """(
    SELECT min(inhparent) FROM taxi_ingest.parts
    LEFT JOIN pg_inherits ON inhrelid = to_regclass('taxi_ingest.load_' || _load_id) AND NOT inhdetachpending
    WHERE parts.load_id = loads.load_id
    HAVING count(*) = count(inhparent) AND min(inhparent) = max(inhparent))"""
"""The table that has a load's parts now, whatever it was called then; null while one is detached."""

_IN_RECORDED = """(is_partition IS NOT TRUE AND (
    SELECT relkind = 'r' AND (description NOT LIKE 'taxi-ingest: load %%'
        OR description LIKE 'taxi-ingest: load ' || load_id || ', %%') IS NOT FALSE
    FROM pg_class LEFT JOIN pg_description
        ON objoid = pg_class.oid AND classoid = 'pg_class'::regclass AND objsubid = 0
    WHERE pg_class.oid = to_regclass(format('%%I.%%I', table_schema, table_name))))"""
"""Whether a load without a partition has its table still; that of a lookup says whose rows it has."""

_PRESENT = f"({_HOLDER} IS NOT NULL OR coalesce({_IN_RECORDED}, false))"
"""Whether a load's rows are still there: someone may have dropped the table or the partition."""

_IN_TARGET = f"""(
    {_HOLDER} = to_regclass(format('%%I.%%I', %(schema)s::text, %(table)s::text))
    OR table_schema = %(schema)s AND table_name = %(table)s AND {_HOLDER} IS NULL AND {_IN_RECORDED})"""
"""Whether a load's rows are in a table that goes by this name now."""

_FIND = f"""
SELECT {COLUMNS} FROM taxi_ingest.loads
WHERE status = 'loaded' AND (source = %(source)s OR sha256 = %(sha256)s) AND {_IN_TARGET}
ORDER BY source = %(source)s DESC, load_id DESC
LIMIT 1
"""  # noqa: S608

_FIND_RUN = f"""
SELECT {COLUMNS} FROM taxi_ingest.loads
WHERE status = 'loaded' AND sha256 = %(sha256)s AND flow_run_url = %(run)s AND {_IN_TARGET}
ORDER BY load_id DESC
LIMIT 1
"""  # noqa: S608

_FIND_MONTH = f"""
SELECT {COLUMNS} FROM taxi_ingest.loads
WHERE status = 'loaded' AND dataset = %(dataset)s AND month = %(month)s AND {_IN_TARGET}
ORDER BY load_id
"""  # noqa: S608

_FIND_TABLE = f"""
SELECT dataset, names, load_id FROM taxi_ingest.loads
WHERE status = 'loaded' AND {_IN_TARGET}
   OR status = 'undone' AND table_schema = %(schema)s AND table_name = %(table)s
      AND to_regclass(format('%%I.%%I', table_schema, table_name)) IS NOT NULL
ORDER BY load_id DESC
LIMIT 1
"""  # noqa: S608

_NOW = {
    "status": f"CASE WHEN status = 'loaded' AND NOT {_PRESENT} THEN 'dropped' ELSE status END",
    "table_schema": f"""coalesce((
        SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = {_HOLDER}), table_schema)""",  # noqa: S608
    "table_name": f"coalesce((SELECT relname FROM pg_class WHERE oid = {_HOLDER}), table_name)",  # noqa: S608
}
"""What of a record may have changed without us."""

_LIVE = f"""
SELECT * FROM
    (SELECT {", ".join(f"{_NOW[name]} AS {name}" if name in _NOW else name for name in _NAMES)}
    FROM taxi_ingest.loads) AS loads
"""  # noqa: S608

_LIST = f"""
SELECT * FROM (
{_LIVE}
WHERE (table_schema = %(schema)s AND table_name = %(table)s OR %(schema)s IS NULL)
  AND (dataset = %(dataset)s OR %(dataset)s IS NULL)
  AND (month = %(month)s OR %(month)s IS NULL)
  AND (status = %(status)s OR %(status)s IS NULL)
ORDER BY load_id DESC LIMIT %(limit)s) AS latest
ORDER BY load_id
"""  # noqa: S608


_TABLES = f"""
SELECT dataset, table_schema, table_name, bool_or(status = 'loaded') FROM (
    SELECT dataset, table_schema, table_name, status FROM ({_LIVE}) AS live
    UNION ALL
    SELECT dataset, nspname, relname, status FROM taxi_ingest.loads
    JOIN pg_description ON description LIKE 'taxi-ingest: load ' || load_id || ', %%'
        AND classoid = 'pg_class'::regclass AND objsubid = 0
    JOIN pg_class ON pg_class.oid = objoid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE is_partition IS NOT TRUE
) AS loads
WHERE dataset IS NOT NULL AND status = ANY (%(statuses)s)
  AND (SELECT relkind FROM pg_class
    WHERE oid = to_regclass(format('%%I.%%I', table_schema, table_name))) IN ('r', 'p')
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608
"""A lookup's table is found by the comment on it, too, which goes with it when it is renamed."""


_READABLE = 2
"""The ledger's first version that has all columns that are read here."""


_PARTS_SINCE = 7
_ONE_PART_EACH = "(SELECT load_id AS _load_id, load_id FROM taxi_ingest.loads) AS parts"
"""What stands for `taxi_ingest.parts` in a ledger that has no such table yet."""
_WITH_PARTS: WeakSet[Connection] = WeakSet()
"""The connections to a ledger that has it: it never loses it again, so that it is looked up once."""


def execute(cursor: Cursor, query: str, values: Any = None) -> None:
    """Execute a query about loads and their parts, in a ledger of any version, which stays as it is."""
    if not _has_parts(cursor):
        query = query.replace("taxi_ingest.parts", _ONE_PART_EACH)
    cursor.execute(query, values)


def _has_parts(cursor: Cursor) -> bool:
    connection = cursor.connection
    if connection not in _WITH_PARTS and migrations.version(cursor) >= _PARTS_SINCE:
        _WITH_PARTS.add(connection)
    return connection in _WITH_PARTS


def exists(cursor: Cursor) -> bool:
    """Whether this database has a ledger that can be read; the very first is brought up to date for it."""
    if _has_parts(cursor):
        return True
    number = migrations.version(cursor)
    if 0 < number < _READABLE:
        migrations.upgrade(cursor)
    return number > 0


def find(cursor: Cursor, target: Target, url: str | None, sha256: str | None = None) -> LoadRecord | None:
    """What the table has of the file at `url`, or else of one with the same content."""
    execute(cursor, _FIND, {"schema": target.schema, "table": target.name, "source": url, "sha256": sha256})
    row = cursor.fetchone()
    return LoadRecord(*row) if row else None


def find_table(cursor: Cursor, target: Target) -> TableRecord | None:
    """What is known of a table; None for one without loads."""
    execute(cursor, _FIND_TABLE, {"schema": target.schema, "table": target.name})
    row = cursor.fetchone()
    return TableRecord(*row) if row else None


def find_run(cursor: Cursor, target: Target, sha256: str, flow_run_url: str) -> LoadRecord | None:
    """What a flow run has loaded of this content into this table."""
    values = {"schema": target.schema, "table": target.name, "sha256": sha256, "run": flow_run_url}
    execute(cursor, _FIND_RUN, values)
    row = cursor.fetchone()
    return LoadRecord(*row) if row else None


def find_month(cursor: Cursor, target: Target, dataset: str, month: str) -> list[LoadRecord]:
    """What the table has of a dataset's month, from whatever address, oldest first."""
    values = {"schema": target.schema, "table": target.name, "dataset": dataset, "month": month}
    execute(cursor, _FIND_MONTH, values)
    return [LoadRecord(*row) for row in cursor.fetchall()]


def known_load(cursor: Cursor, load_id: int) -> LoadRecord:
    """A load by its number, as it is now. Raises UsageError for one that there never was."""
    if exists(cursor):
        execute(cursor, f"{_LIVE} WHERE load_id = %s", (load_id,))
        if row := cursor.fetchone():
            return LoadRecord(*row)
        if whole := loads_of(cursor, [load_id]).get(load_id):
            raise UsageError(
                f"There is no load {load_id}: the rows with this _load_id are a part of load {whole}.",
                f"`taxi-ingest loads {whole}` tells of it.",
            )
    raise UsageError(f"There is no load {load_id}.", "`taxi-ingest loads` lists them.")


def find_load(database: Database, load_id: int) -> LoadRecord:
    """A load by its number. Raises UsageError for one that there never was."""
    with database.connect() as connection, connection.cursor() as cursor:
        return known_load(cursor, load_id)


def list_loads(database: Database, wanted: Filter) -> list[LoadRecord]:
    """The loads that fit the filter, oldest first; none where there is no ledger yet."""
    schema, name = wanted.target.key if wanted.target else (None, None)
    values = {
        "dataset": wanted.dataset,
        "month": wanted.month,
        "status": wanted.status,
        "limit": wanted.limit,
    }
    with database.connect() as connection, connection.cursor() as cursor:
        if not exists(cursor):
            return []
        execute(cursor, _LIST, {"schema": schema, "table": name, **values})
        return [LoadRecord(*row) for row in cursor.fetchall()]


def tables_of_datasets(cursor: Cursor) -> list[tuple[str, Target, bool]]:
    """Each dataset of TLC's that was loaded, a table that its files went into, whether any is there still."""
    if not exists(cursor):
        return []
    execute(cursor, _TABLES, {"statuses": ["loaded", "undone"]})
    return [(dataset, Target(schema, name), there) for dataset, schema, name, there in cursor.fetchall()]


def no_such_table(cursor: Cursor, target: Target) -> UsageError:
    """The error for a table that is not there, with the loaded one that was meant."""
    return UsageError(f"There is no table {target}.", find_hint(cursor, target))


def table_hint(database: Database, target: Target) -> str:
    """Of a table that has no loads: the one that was meant, or where they are told."""
    with database.connect() as connection, connection.cursor() as cursor:
        return find_hint(cursor, target)


def find_hint(cursor: Cursor, target: Target) -> str:
    """The same, in a transaction that is begun."""
    if exists(cursor):
        cursor.execute(
            "SELECT DISTINCT table_schema, table_name FROM taxi_ingest.loads WHERE status = 'loaded'"
        )
        known = {str(Target(*row)) for row in cursor.fetchall()}
        if (near := nearest(str(target), known)) and near != str(target):
            return f"Did you mean {near}?"
    return "`taxi-ingest loads` lists what was loaded."


def loads_of(cursor: Cursor, part_ids: Sequence[int]) -> dict[int, int]:
    """The loads whose parts go by these numbers; none where there is no ledger yet."""
    if not exists(cursor):
        return {}
    execute(
        cursor, "SELECT _load_id, load_id FROM taxi_ingest.parts WHERE _load_id = ANY (%s)", (list(part_ids),)
    )
    return dict(cursor.fetchall())


def committed_runs(database: Database, flow_run_urls: list[str]) -> set[str]:
    """Those of the flow runs whose load was committed."""
    with database.connect() as connection, connection.cursor() as cursor:
        if not exists(cursor):
            return set()
        cursor.execute(
            "SELECT flow_run_url FROM taxi_ingest.loads WHERE flow_run_url = ANY(%s)", (flow_run_urls,)
        )
        return {url for (url,) in cursor.fetchall()}


def _described(dataset: str | None) -> str:
    return f"TLC's dataset {dataset}" if dataset else "no TLC dataset"
