"""Waiting for others: for who is at the same work, for who uses a table.

A table's lock is asked for briefly, again and again, so that nobody queues behind us: who reads the table
lets us wait, and whoever comes after us would wait for us
(https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES).
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import BusyError, DatabaseError
from taxi_ingest.load.database import Database
from taxi_ingest.load.locks import Lock, share_lock, try_lock, unshare_lock, wait_for_lock
from taxi_ingest.load.table import Target

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT = "500ms"
_PAUSE_SECONDS = (0.5, 1.0)
"""As long as the lock is asked for, at least: that is when others get theirs. By chance, so that two who
wait do not ask in step."""
_PATIENCE_SECONDS = 600.0

Result = TypeVar("Result")


def wait_for(cursor: Cursor, keys: Sequence[str], doing: str, wait: bool = True) -> None:
    """Wait until no one else has the locks of these keys, in turn; say what the other is doing.

    Raises BusyError where somebody has one and we are not to `wait`.
    """
    waiting = False
    for key in keys:
        if try_lock(cursor, Lock.LOAD, key):
            continue
        if not wait:
            raise BusyError(f"Another run is {doing}.")
        if not waiting:
            say_waiting(f"Another run is {doing}: waiting for it.")
            waiting = True
        wait_for_lock(cursor, Lock.LOAD, key)


@contextmanager
def loading_many(database: Database, targets: Sequence[Target], wait: bool) -> Iterator[None]:
    """Let others see, for as long as this lasts, that several files are loaded into these tables.

    Those who do so side by side wait for each other file by file. Raises BusyError where somebody does and we
    are not to `wait`.
    """
    # Not in a transaction, which would be idle for hours.
    with database.connect() as connection, connection.cursor() as cursor:
        for target in sorted(targets, key=str):
            share_lock(cursor, Lock.MANY, "|".join(target.key))
            if not wait:
                _check_alone(cursor, target)
            connection.commit()
        yield


def _check_alone(cursor: Cursor, target: Target) -> None:
    """Raise BusyError where another session shares our lock. Of two who look at once, one finds nobody."""
    key = "|".join(target.key)
    wait_for_lock(cursor, Lock.MANY, f"{key}|looking")
    if not try_lock(cursor, Lock.MANY, key):
        # Before the next one looks.
        unshare_lock(cursor, Lock.MANY, key)
        raise BusyError(
            f"Another run is loading several files into {target}.",
            "Without --no-wait this one loads beside it what the other has not begun.",
        )


def say_waiting(message: str) -> None:
    """Tell who watches why nothing seems to happen."""
    _log.warning(message)


def patiently(
    cursor: Cursor, change: Callable[[], Result], patience_seconds: float = _PATIENCE_SECONDS
) -> Result:
    """Do what needs a table's lock; what came before in the transaction stays while we wait for it.

    All locks that `change` takes, advisory ones too, are given back between two tries. Raises
    DatabaseError if others use the table all the time.
    """
    deadline = time.monotonic() + patience_seconds
    waiting = False
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
            if not waiting:
                say_waiting("Others are using the table: waiting until they let go of it.")
                waiting = True
            time.sleep(random.uniform(*_PAUSE_SECONDS))
        else:
            cursor.execute("SET LOCAL lock_timeout = 0")
            return result
