"""A database, however its connections are made."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn

from taxi_ingest.load.address import address_of, parse_address
from taxi_ingest.load.interrupt import cancelled_by_signals
from taxi_ingest.load.refusals import RESTARTING, explained
from taxi_ingest.load.session import ENCODING, make_ours

_RESTART_SECONDS = 60
_PAUSE_SECONDS = 0.2

_DEFAULTS = {
    "application_name": "taxi-ingest",
    "connect_timeout": "10",
    # A peer that vanished is noticed within a minute, one that takes nothing any more within five.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "300000",
}


@dataclass(frozen=True)
class Database(ABC):
    """Where to load: a value that can be sent to another process, and printed without showing a secret."""

    address: str
    """A libpq URL without a password."""

    @abstractmethod
    def open(self) -> AbstractContextManager[Connection]:
        """A new connection as the server gives it, closed at the end; raises psycopg2.Error."""

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


@dataclass(frozen=True)
class LibpqDatabase(Database):
    """A database that libpq finds by itself."""

    dsn: str = field(repr=False)
    """Its parameters, secrets included."""

    def open(self) -> AbstractContextManager[Connection]:
        return closing(_open(self.dsn))


def database_at(url: str) -> Database:
    """The database behind a libpq URL or key=value string; SQLAlchemy's `postgresql+driver:` serves too.

    Raises DatabaseError for what is neither, without repeating it: it may hold a password.
    """
    # The encoding at once, as psycopg2 does not know all that an environment may name.
    parameters = {**_DEFAULTS, **parse_address(url), "client_encoding": ENCODING}
    return LibpqDatabase(address_of(url), make_dsn(**parameters))


def _open(dsn: str) -> Connection:
    """A connection; a server that is just restarting is waited for."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while True:
        try:
            connection: Connection = psycopg2.connect(dsn)
            return connection
        except psycopg2.OperationalError as error:
            if RESTARTING not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def one(cursor: Cursor) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    row = cursor.fetchone()
    assert row is not None
    return row
