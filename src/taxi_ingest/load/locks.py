"""Advisory locks: who else is at the same work, and what is said while one waits for another.

All are held to the end of the transaction, or until it goes back to a savepoint from before.
"""

import logging
from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.database import one

_log = logging.getLogger(__name__)


def wait_for(cursor: Cursor, keys: Sequence[str], doing: str) -> None:
    """Wait until no one else has the locks of these keys, in turn; say what the other is doing."""
    numbered, waiting = "hashtextextended(%s, 0)", False
    for key in keys:
        cursor.execute(f"SELECT pg_try_advisory_xact_lock({numbered})", (key,))
        if one(cursor)[0]:
            continue
        if not waiting:
            say_waiting(f"Another run is {doing}: waiting for it.")
            waiting = True
        cursor.execute(f"SELECT pg_advisory_xact_lock({numbered})", (key,))


def say_waiting(message: str) -> None:
    """Tell who watches why nothing seems to happen."""
    _log.warning(message)
