"""What psycopg2's errors mean: one sentence, a hint, whether it can pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from taxi_ingest.errors import DatabaseError, TransientDatabaseError

_NO_ROOM = "Free disk space on the database's machine and run the same command again."
_NO_RIGHT = "docs/security.md names the rights that a loading role needs."
_HINTS: tuple[tuple[str, str], ...] = (
    ("password authentication failed", "Check user and password; nothing was sent to any table."),
    (
        "no password supplied",
        "Give the password by PGPASSWORD, ~/.pgpass, a block or TAXI_INGEST_DATABASE_URL.",
    ),
    ("no pg_hba.conf entry", "The server does not let this user in from here: ask its administrator."),
    ("does not exist", "Create it first, or name another one (createdb, CREATE SCHEMA, CREATE ROLE)."),
    ("could not translate host name", "Check the host's name in the database's URL."),
    (
        "Connection refused",
        "Is the server running, and on this port? `taxi-ingest status` tells of the local one.",
    ),
    ("No such file or directory", "Is the server running? `taxi-ingest up` starts the local one."),
    ("timeout expired", "Is the server reachable from here (network, firewall)?"),
    ("No space left on device", _NO_ROOM),
    ("could not extend file", _NO_ROOM),
    ("permission denied", _NO_RIGHT),
    ("must be owner", _NO_RIGHT),
)
"""What the server or libpq says -> what to do. The server's words may be in any language: where there is
an SQLSTATE, `_HINTS_BY_CODE` goes first."""

_HINTS_BY_CODE = {
    "3D000": "Create the database first, or name another one (createdb).",
    "3F000": "Create the schema first, or name another one (CREATE SCHEMA).",
    "42501": _NO_RIGHT,
    "53100": _NO_ROOM,
}
_LOST_CODES = ("57P01", "57P02", "08")
_LOST = (
    "invalid socket",
    "connection already closed",
    "server closed the connection",
    "terminating connection",
    "no connection to the server",
    "could not receive data from server",
    "could not send data to server",
    "SSL SYSCALL error",
)
"""What libpq and psycopg2 say when the server is gone in the middle of a statement."""

_PASSING_CODES = (
    "08",  # connection exceptions
    "40",  # deadlock, serialization failure
    "53300",  # too many connections
    "55P03",  # lock not available
    "57P01",  # the server is shut down
    "57P02",  # another process of the server crashed
    "57P03",  # the server is starting up
)
"""SQLSTATEs, or their classes, of errors that can pass
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

RESTARTING = "the database system is"
"""… starting up, shutting down, in recovery mode, not yet accepting connections."""

_PASSING_TEXTS = (
    *_LOST,
    "Connection refused",
    "No such file or directory",
    "timeout expired",
    RESTARTING,
    "server terminated abnormally",
)
"""What libpq says where there is no SQLSTATE: while connecting to a server that restarts, mostly."""

_OTHER_HINT = "Nothing was loaded. The server's log may tell more."


@contextmanager
def explained() -> Iterator[None]:
    """Turn psycopg2's errors into a DatabaseError with one sentence and a hint."""
    try:
        yield
    except psycopg2.Error as error:
        if (error.pgcode or "").startswith(_LOST_CODES) or any(text in str(error) for text in _LOST):
            raise TransientDatabaseError(
                "The connection to Postgres was lost.",
                "See that the server runs, and run the same command again: what is loaded is skipped.",
            ) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        message = lines[0] if lines else type(error).__name__
        hint = _HINTS_BY_CODE.get(error.pgcode or "") or next(
            (hint for text, hint in _HINTS if text in str(error)), _OTHER_HINT
        )
        kind = TransientDatabaseError if _can_pass(error) else DatabaseError
        raise kind(f"Postgres refused: {message}", hint) from error


def _can_pass(error: psycopg2.Error) -> bool:
    if error.pgcode:
        return error.pgcode.startswith(_PASSING_CODES)
    return any(text in str(error) for text in _PASSING_TEXTS)
