"""The ledger's schema: made and brought up to date by the numbered SQL files beside this one.

A file, once released, is never changed: a new one is added, which sets the ledger's version.
"""

from importlib.resources import files

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load.database import one
from taxi_ingest.load.locks import Lock, try_lock, wait_for_lock
from taxi_ingest.load.trust import check_ledger
from taxi_ingest.load.waiting import say_waiting

LATEST = 7
"""The number of the last file."""

# Not to_regclass, which may still answer from its cache what was true before we waited for the lock.
_TABLES = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'taxi_ingest' AND relkind = 'r'
"""


def upgrade(cursor: Cursor) -> None:
    """Make the ledger where it is missing, and bring an older one up to date; many at once do it once.

    Raises DatabaseError for a ledger that a newer version of this tool has made, and for a stranger's.
    """
    check_ledger(cursor)
    if version(cursor) == LATEST:
        return
    if not try_lock(cursor, Lock.LEDGER):
        say_waiting("Another run is making the ledger: waiting for it.")
        wait_for_lock(cursor, Lock.LEDGER)
    for number in range(version(cursor) + 1, LATEST + 1):
        cursor.execute(files(__name__).joinpath(f"{number}.sql").read_text(encoding="utf-8"))


def version(cursor: Cursor) -> int:
    """The number of the last migration that a database's ledger has; 0 where there is none.

    Raises DatabaseError for one that is not known here.
    """
    cursor.execute(_TABLES)
    tables = {name for (name,) in cursor.fetchall()}
    if not tables >= {"loads", "rejects"}:
        # A view of that name is none of ours, and to read it may run another's functions.
        return 0
    if "ledger_version" not in tables:
        return 1
    cursor.execute("SELECT number FROM taxi_ingest.ledger_version")
    number = int(one(cursor)[0])
    if number > LATEST:
        raise DatabaseError(
            f"A newer taxi-ingest made this database's ledger (version {number}; known here: {LATEST}).",
            "Upgrade taxi-ingest.",
        )
    return number
