"""The advisory locks: what each is for, and its number, which all versions of this tool must agree on.

They are held to the end of the transaction, or until it goes back to a savepoint from before; those that
are shared, to the end of the session.
"""

from enum import Enum

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.database import one


class Lock(Enum):
    """What only one at a time may do, as the SQL of the lock's number."""

    LOAD = "hashtextextended(%(key)s, 0)"
    """Load the address, the content or the month into the table that the key names."""
    DEFINITION = "hashtextextended(%(key)s, 1)"
    """Make or alter the table that is the key."""
    INDEX = "hashtextextended(%(key)s, 2)"
    """Make the index of an earlier load, whose partition is the key."""
    MANY = "hashtextextended(%(key)s, 3)"
    """Load several files into the table that is the key: shared by all who do, for as long as they do."""
    PART = "hashtextextended(%(key)s, 4)"
    """Fill the part that is the key, for the load that has this lock: its rows are no one's without it."""
    LEDGER = "7482916301"
    """Make the ledger, or bring it up to date."""


def try_lock(cursor: Cursor, lock: Lock, key: str = "") -> bool:
    """Take a lock, unless another has it; whether it was taken."""
    cursor.execute(f"SELECT pg_try_advisory_xact_lock({lock.value})", {"key": key})
    return bool(one(cursor)[0])


def share_lock(cursor: Cursor, lock: Lock, key: str) -> None:
    """Take a lock that others may share, until the session ends; who has it alone has it for a moment."""
    cursor.execute(f"SELECT pg_advisory_lock_shared({lock.value})", {"key": key})


def unshare_lock(cursor: Cursor, lock: Lock, key: str) -> None:
    """Give it back before that."""
    cursor.execute(f"SELECT pg_advisory_unlock_shared({lock.value})", {"key": key})


def wait_for_lock(cursor: Cursor, lock: Lock, key: str = "") -> None:
    """Take a lock, however long another has it."""
    cursor.execute(f"SELECT pg_advisory_xact_lock({lock.value})", {"key": key})
