"""Connecting to Postgres, and saying clearly what went wrong with it."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn, parse_dsn

from taxi_ingest.errors import DatabaseError, TransientDatabaseError
from taxi_ingest.load.interrupt import cancelled_by_signals
from taxi_ingest.load.session import ENCODING, make_ours

_NO_ROOM = "Free disk space on the database's machine and run the same command again."
_NO_RIGHT = "README names the rights that a loading role needs."
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

_RESTARTING = "the database system is"
"""… starting up, shutting down, in recovery mode, not yet accepting connections."""
_RESTART_SECONDS = 60
_PAUSE_SECONDS = 0.2

_PASSING_TEXTS = (
    *_LOST,
    "Connection refused",
    "No such file or directory",
    "timeout expired",
    _RESTARTING,
    "server terminated abnormally",
)
"""What libpq says where there is no SQLSTATE: while connecting to a server that restarts, mostly."""

_DEFAULTS = {
    "application_name": "taxi-ingest",
    "connect_timeout": "10",
    # A peer that vanished is noticed within a minute, one that takes nothing any more within five.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "300000",
}

_OTHER_HINT = "Nothing was loaded. The server's log may tell more."


@dataclass(frozen=True)
class Database(ABC):
    """Where to load. Printing it shows no password; another process can be sent it."""

    address: str
    """A libpq URL without a password."""

    @abstractmethod
    def open(self) -> AbstractContextManager[Connection]:
        """A connection, closed at the end; raises psycopg2.Error."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection whose session is ours (see session.py), closed at the end.

        Raises DatabaseError for all that Postgres refuses, and for a database that can't hold all text.
        """
        with explained(), self.open() as connection, cancelled_by_signals(connection):
            make_ours(connection)
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """A transaction of its own connection, committed at the end; on any error nothing has changed."""
        with self.connect() as connection:
            with connection.cursor() as cursor:
                yield cursor
            # Where this is not reached, closing the connection rolls back; a ROLLBACK of our own would
            # fail on a lost connection, and hide how it was lost.
            connection.commit()

    def server_version(self) -> str:
        """What the server says it is: `PostgreSQL 18.4`."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return f"PostgreSQL {one(cursor)[0]}"


def database_at(url: str) -> Database:
    """The database behind a libpq URL or key=value string; SQLAlchemy's `postgresql+driver:` serves too.

    Raises DatabaseError for what is neither, without repeating it: it may hold a password.
    """
    # The encoding at once, as psycopg2 does not know all that an environment may name.
    parameters = {**_DEFAULTS, **_parsed(url), "client_encoding": ENCODING}
    return ServerDatabase(address_of(url), parameters)


@dataclass(frozen=True)
class ServerDatabase(Database):
    """A database by the parameters that libpq connects with."""

    parameters: dict[str, Any] = field(repr=False)

    def open(self) -> AbstractContextManager[Connection]:
        return closing(_open(self.parameters))


def _open(parameters: dict[str, Any]) -> Connection:
    """A connection; a server that is just restarting is waited for."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            connection: Connection = psycopg2.connect(**parameters)
            return connection
        except psycopg2.OperationalError as error:
            if _RESTARTING not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def one(cursor: Cursor) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    row = cursor.fetchone()
    assert row is not None
    return row


def _parsed(url: str) -> dict[str, Any]:
    scheme, separator, rest = url.partition("://")
    if separator:
        url = f"{scheme.partition('+')[0]}://{rest}"
        _check_reads_as_meant(rest)
    try:
        parameters = dict(parse_dsn(url))
        # libpq's error repeats what stands there: a password, where host and @ were forgotten.
        for port in filter(None, parameters.get("port", "").split(",")):
            int(port)
    except (psycopg2.ProgrammingError, ValueError):
        raise DatabaseError(
            "The database's URL can't be read.", "Write postgresql://user@host:5432/database."
        ) from None
    return parameters


def _check_reads_as_meant(rest: str) -> None:
    """Refuse a URL whose password libpq would take for host, port or database, and tell in its errors."""
    if rest.count("@") > 1 or "@" in rest.partition("/")[2]:
        raise DatabaseError(
            "The database's URL can't be read: an @ or / in it stands where none can.",
            "In a user or password write %40 for @, %2F for /, %3A for : and %25 for %, or give the password"
            " by PGPASSWORD or ~/.pgpass.",
        )


def join_dsn(url: str, parts: dict[str, str], password: str | None) -> str:
    """A libpq key=value string of a URL and single parts, and a password unless the URL has one."""
    parameters = {**_parsed(url), **parts}
    if password:
        parameters.setdefault("password", password)
    return str(make_dsn(**parameters))


def without_secrets(url: str) -> dict[str, str]:
    """The parameters of a libpq URL or key=value string that may be shown."""
    return {name: value for name, value in _parsed(url).items() if not _is_secret(name, value)}


def secrets_of(url: str) -> set[str]:
    """The names of the parameters that may not be shown."""
    return {name for name, value in _parsed(url).items() if _is_secret(name, value)}


def _is_secret(name: str, value: str) -> bool:
    return name in _SECRETS or (name == "options" and _NAMES_A_SECRET.search(value) is not None)


_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
"""Those that libpq itself marks as not to be shown
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS)."""

_NAMES_A_SECRET = re.compile("passw|secret|token|key|credential", re.IGNORECASE)
"""A setting of the user's own in `options` (`-c app.secret=…`)."""


def address_of(url: str) -> str:
    """A database's URL without its secrets, as psql takes it."""
    parameters = without_secrets(url)
    user, host, port = (parameters.pop(name, "") for name in ("user", "host", "port"))
    database = quote(parameters.pop("dbname", ""), safe="")
    if host.startswith("/"):
        parameters["host"], host = host, ""
    place = f"{quote(user, safe='')}@" if user else ""
    place += f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"postgresql://{place}/{database}{query}"


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
