"""Advisory locks: who else is at the same work, and what is said while one waits for another.

All are held to the end of the transaction, or until it goes back to a savepoint from before.
"""

import logging

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.connection import one

_log = logging.getLogger(__name__)


def wait_for(cursor: Cursor, key: str, kind: int, doing: str) -> None:
    """Wait until no one else has the lock of this key and kind; say what the other is doing."""
    numbered = "hashtextextended(%s, %s)"
    cursor.execute(f"SELECT pg_try_advisory_xact_lock({numbered})", (key, kind))
    if one(cursor)[0]:
        return
    say_waiting(f"Another run is {doing}: waiting for it.")
    cursor.execute(f"SELECT pg_advisory_xact_lock({numbered})", (key, kind))


def say_waiting(message: str) -> None:
    """Tell who watches why nothing seems to happen."""
    _log.warning(message)
