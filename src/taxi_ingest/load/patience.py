"""Locking a table that others use: asked for briefly, again and again, so that nobody queues behind us.

Who reads a table lets us wait; and whoever comes after us would wait for us
(https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES).
"""

import time
from collections.abc import Callable
from typing import TypeVar

from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError

_LOCK_TIMEOUT = "500ms"
_PAUSE_SECONDS = 0.5
_PATIENCE_SECONDS = 600

Result = TypeVar("Result")


def patiently(cursor: Cursor, change: Callable[[], Result]) -> Result:
    """Do what needs a table's lock; what came before in the transaction stays while we wait for it.

    Raises DatabaseError if others use the table for ten minutes on end.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        cursor.execute("SAVEPOINT patience")
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        try:
            result = change()
        except errors.LockNotAvailable as error:
            cursor.execute("ROLLBACK TO SAVEPOINT patience")
            if time.monotonic() > deadline:
                raise DatabaseError(
                    "Others have used the table without a pause, so that it could not be changed.",
                    "See who: SELECT pid, query FROM pg_stat_activity WHERE state <> 'idle'.",
                ) from error
            time.sleep(_PAUSE_SECONDS)
        else:
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")
            return result
