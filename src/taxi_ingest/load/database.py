"""A database: its address, what of it may be shown, and connections whose sessions are ours."""

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

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load.interrupt import cancelled_by_signals
from taxi_ingest.load.refusals import RESTARTING, explained

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

_ENCODING = "UTF8"
"""What pgpq sends, and the only encoding of a database that can hold all text of all files."""

_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
"""Those that libpq itself marks as not to be shown
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS)."""

_NAMES_A_SECRET = re.compile("passw|secret|token|key|credential", re.IGNORECASE)
"""A setting of the user's own in `options` (`-c app.secret=…`)."""


@dataclass(frozen=True)
class Database(ABC):
    """Where to load: a value that can be sent to another process, and printed without showing a secret."""

    address: str
    """A libpq URL without a password."""

    @property
    def secrets(self) -> dict[str, str]:
        """What `address` leaves out, by libpq's names, for another program that is to connect."""
        return {}

    @abstractmethod
    def open(self) -> AbstractContextManager[Connection]:
        """A new connection as the server gives it, closed at the end; raises psycopg2.Error."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection whose session is ours (see `_SESSION_SETTINGS`), closed at the end.

        Raises DatabaseError for all that Postgres refuses, and for a database that can't hold all text.
        """
        with explained(), self.open() as connection, cancelled_by_signals(connection):
            _make_ours(connection)
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

    @property
    def secrets(self) -> dict[str, str]:
        """What the address must not show: libpq's parameter -> its value."""
        return secrets_at(self.dsn)

    def open(self) -> AbstractContextManager[Connection]:
        """A new connection, closed at the end. Raises psycopg2's errors."""
        return closing(_open(self.dsn))


def database_at(url: str) -> Database:
    """The database behind a libpq URL or key=value string; SQLAlchemy's `postgresql+driver:` serves too.

    Raises DatabaseError for what is neither, without repeating it: it may hold a password.
    """
    # The encoding at once, as psycopg2 does not know all that an environment may name.
    parameters = {**_DEFAULTS, **parse_address(url), "client_encoding": _ENCODING}
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


def address_of(url: str) -> str:
    """A database's URL without its secrets, as psql takes it."""
    parameters = _without_secrets(url)
    user, host, port = (parameters.pop(name, "") for name in ("user", "host", "port"))
    database = quote(parameters.pop("dbname", ""), safe="")
    if host.startswith("/"):
        parameters["host"], host = host, ""
    place = f"{quote(user, safe='')}@" if user else ""
    place += f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"postgresql://{place}/{database}{query}"


def join_dsn(url: str, parts: dict[str, str], password: str | None) -> str:
    """A libpq key=value string of a URL and single parts, and a password unless the URL has one."""
    parameters = {**parse_address(url), **parts}
    if password:
        parameters.setdefault("password", password)
    return str(make_dsn(**parameters))


def secrets_at(url: str) -> dict[str, str]:
    """The parameters that may not be shown."""
    return {name: value for name, value in parse_address(url).items() if _is_secret(name, value)}


def parse_address(url: str) -> dict[str, Any]:
    """The parameters of a libpq URL or key=value string, secrets included; SQLAlchemy's
    `postgresql+driver:` serves too.

    Raises DatabaseError for what is neither, without repeating it: it may hold a password.
    """
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


def _without_secrets(url: str) -> dict[str, str]:
    """The parameters of a libpq URL or key=value string that may be shown."""
    return {name: value for name, value in parse_address(url).items() if not _is_secret(name, value)}


def _is_secret(name: str, value: str) -> bool:
    return name in _SECRETS or (name == "options" and _NAMES_A_SECRET.search(value) is not None)


def _check_reads_as_meant(rest: str) -> None:
    """Refuse a URL whose password libpq would take for host, port or database, and tell in its errors."""
    if rest.count("@") > 1 or "@" in rest.partition("/")[2]:
        raise DatabaseError(
            "The database's URL can't be read: an @ or / in it stands where none can.",
            "In a user or password write %40 for @, %2F for /, %3A for : and %25 for %, or give the password"
            " by PGPASSWORD or ~/.pgpass.",
        )


_SESSION_SETTINGS: dict[str, tuple[str, ...]] = {
    # No schema but Postgres' own: what someone has put into `public` never runs with our rights
    # (https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-PATTERNS).
    "search_path": ("pg_catalog, pg_temp",),
    # Who has waited for another's commit must see it, or a file is loaded twice.
    "default_transaction_isolation": ("read committed",),
    "default_transaction_read_only": ("off",),
    "default_transaction_deferrable": ("off",),
    # A load lasts as long as it lasts; waiting.py has its own bound for waiting.
    "statement_timeout": ("0",),
    "lock_timeout": ("0",),
    "transaction_timeout": ("0",),
    "idle_in_transaction_session_timeout": ("0",),
    "idle_session_timeout": ("0",),
    # A lock that was not to be had is an answer, not the end of the session.
    "exit_on_error": ("off",),
    # How values are read and written as text, which the ledger's are.
    "DateStyle": ("ISO, MDY",),
    "IntervalStyle": ("postgres",),
    "TimeZone": ("UTC",),
    "timezone_abbreviations": ("Default",),
    "bytea_output": ("hex",),
    "extra_float_digits": ("1", "2", "3"),
    "standard_conforming_strings": ("on",),
    "xmloption": ("content",),
    # How expressions are read, and definitions spelled.
    "transform_null_equals": ("off",),
    "array_nulls": ("on",),
    "quote_all_identifiers": ("off",),
    # The ledger's keys and checks hold, and the user's triggers fire, as for everyone.
    "session_replication_role": ("origin",),
    # Rows that a policy hides are an error, not rows that are not there.
    "row_security": ("off",),
    # What is told as loaded survives a crash; to wait for standbys too is the user's choice.
    "synchronous_commit": ("on", "local", "remote_write", "remote_apply"),
    # The server notices within a minute that we are gone, as it holds our locks until then.
    "tcp_keepalives_idle": ("30",),
    "tcp_keepalives_interval": ("10",),
    "tcp_keepalives_count": ("3",),
}
"""What every session of ours relies on, whatever role, database, environment or service file have set.

A setting that could change what our statements mean, end them early or let another's function run with
our rights is stated here; those that only make them slower or faster are the user's. Setting -> what it must
be, in the unit of pg_settings; where several will do, the first is set.
"""

_SETTINGS_SQL = ", ".join(
    f"('{name.lower()}', ARRAY{list(values)})" for name, values in _SESSION_SETTINGS.items()
)

_SET_FIRST = "SET statement_timeout = 0; SET search_path = pg_catalog, pg_temp"
_SET_FIRST_SINCE_17 = "SET transaction_timeout = 0"
"""On their own: what sets the others would else be cut short, or find another's functions."""

# Only what differs is set, as some settings ask for rights; and only what this version of Postgres has.
_SET = f"""
SELECT set_config(name, fine[1], false)
FROM (VALUES {_SETTINGS_SQL}) AS ours (setting_name, fine) JOIN pg_settings ON lower(name) = setting_name
WHERE setting <> ALL (fine)
"""  # noqa: S608


def _make_ours(connection: Connection) -> None:
    """Make a new connection's session what our statements rely on.

    Raises DatabaseError for a database that can't hold all text, psycopg2.Error for what Postgres refuses.
    """
    _check_encoding(connection)
    connection.rollback()
    connection.set_client_encoding(_ENCODING)
    # Outside of a transaction, with which it would be undone.
    connection.set_session(autocommit=True)
    with connection.cursor() as cursor:
        if connection.server_version >= 17_00_00:
            cursor.execute(_SET_FIRST_SINCE_17)
        cursor.execute(_SET_FIRST)
        cursor.execute(_SET)
    connection.set_session("default", "default", "default", autocommit=False)


def _check_encoding(connection: Connection) -> None:
    encoding = connection.get_parameter_status("server_encoding")
    if encoding != _ENCODING:
        raise DatabaseError(
            f"The database {connection.info.dbname} keeps text as {encoding}, which can't hold that of all "
            "files.",
            f"Make one that can, and name it: createdb -T template0 -E {_ENCODING} taxi.",
        )
