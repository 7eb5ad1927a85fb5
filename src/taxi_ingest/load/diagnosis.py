"""What stands between here and a table: why a connection fails, which right is missing, what is slow."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import partition, parts
from taxi_ingest.load.database import Database, LibpqDatabase, one, parse_address
from taxi_ingest.load.refusals import explained
from taxi_ingest.load.table import LEDGER_SCHEMA

_USUAL_PORT = 5432
_LOCAL_HOSTS = frozenset({"", "localhost", "127.0.0.1", "::1"})
_SOME_DATABASES = 10


@dataclass(frozen=True)
class _Cause:
    """Why a connection fails, by what libpq or the server says (in English, as nothing else tells them)."""

    said: tuple[str, ...]
    message: str
    hint: str


_CAUSES = (
    _Cause(
        ("could not translate host name",),
        "There is no machine named {host}.",
        "Check the host's name. A service of docker compose has that name inside of its network only; from"
        " this machine it is localhost, and the port that compose publishes.",
    ),
    _Cause(
        ("Connection refused",),
        "Nobody listens at {place}.",
        "Start the server, or check host and port: docker ps shows what a container publishes.",
    ),
    _Cause(
        ("No such file or directory",),
        "No Postgres listens on the socket of {place}.",
        "Start the server, or name its host: localhost, if it listens on TCP.",
    ),
    _Cause(
        ("timeout expired", "timed out", "No route to host", "Network is unreachable"),
        "{place} does not answer.",
        "Check host, network and firewall, and that it is a Postgres that has this port.",
    ),
    _Cause(
        ("invalid response to SSL negotiation", "expected authentication request", "unsupported frontend"),
        "What answers at {place} is no Postgres.",
        "Check the port: Postgres' own is 5432.",
    ),
    _Cause(
        ("server does not support SSL", "SSL was required"),
        "The server at {place} has no SSL, which is asked for.",
        "Leave sslmode out (or PGSSLMODE), or turn SSL on there.",
    ),
    _Cause(
        ("SSL off", "no encryption", "connection requires a valid client certificate"),
        "The server at {place} lets {user} in with SSL only, or not from here.",
        "Add ?sslmode=require to the URL; else its administrator must let you in (pg_hba.conf).",
    ),
    _Cause(
        ("no pg_hba.conf entry", "pg_hba.conf rejects"),
        "The server at {place} does not let {user} in from here.",
        "Its administrator must add a line to pg_hba.conf.",
    ),
    _Cause(
        ("certificate", "SSL error"),
        "The server's certificate at {place} is not accepted.",
        "Check sslmode and sslrootcert.",
    ),
    _Cause(
        ("no password supplied",),
        "The server at {place} asks for the password of {user}.",
        "Give it by PGPASSWORD, ~/.pgpass, a block or TAXI_INGEST_DATABASE_URL.",
    ),
    _Cause(
        ("password authentication failed",),
        "The password of {user} is wrong, or there is no such role (Postgres tells nobody which).",
        "Check user and password, and that it is the server that you mean.",
    ),
    _Cause(
        ("Peer authentication failed", "Ident authentication failed"),
        "On its socket the server at {place} lets {user} in only as the system's user of that name.",
        "Name the host: localhost, and give a password.",
    ),
)


def examine_connection(database: Database) -> str:
    """What answers, and as whom we are there. Raises DatabaseError that tells why there is no connection."""
    try:
        with database.open() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version'), session_user, current_database(),"
                " pg_catalog.pg_is_in_recovery()"
            )
            version, user, name, is_standby = one(cursor)
    except psycopg2.Error as error:
        raise _explained(error, database) from error
    if is_standby:
        raise DatabaseError(
            f"The server of {name} is a standby, which takes no writes.", "Name the primary server."
        )
    with database.connect():
        return f"PostgreSQL {version}, database {name}, as {user}"


def _explained(error: psycopg2.Error, database: Database) -> DatabaseError:
    text = str(error)
    words = _words(database)
    if 'role "' in text and "does not exist" in text:
        return DatabaseError(
            f"The server at {words['place']} has no role {words['user']}.",
            f"Make it (createuser), or name another user.{_who_listens(database)}",
        )
    if 'database "' in text and "does not exist" in text:
        return DatabaseError(
            f"The server at {words['place']} has no database {words['database']}.",
            f"Make it (createdb), or name one that it has{_databases(database)}.{_who_listens(database)}",
        )
    for cause in _CAUSES:
        if any(said in text for said in cause.said):
            hint = cause.hint + ("" if "listens" in cause.message else _who_listens(database))
            return DatabaseError(cause.message.format(**words), hint)
    try:
        with explained():
            raise error
    except DatabaseError as other:
        return other


def _words(database: Database) -> dict[str, str]:
    parameters = parse_address(database.address)
    host, port = parameters.get("host") or "the usual socket", parameters.get("port") or str(_USUAL_PORT)
    return {
        "host": host,
        "place": host if host.startswith("/") else f"{host}:{port}",
        "user": parameters.get("user") or "your system user",
        "database": parameters.get("dbname") or parameters.get("user") or "of your system user's name",
    }


def _who_listens(database: Database) -> str:
    """Which program of this machine has the port: another Postgres than is meant is a common mistake."""
    parameters = parse_address(database.address)
    port = parameters.get("port") or str(_USUAL_PORT)
    if parameters.get("host", "") not in _LOCAL_HOSTS or not port.isdecimal():
        return ""
    with suppress(psutil.Error):
        for each in psutil.net_connections("tcp"):
            at_port = (each.status, *each.laddr[1:]) == (psutil.CONN_LISTEN, int(port))
            if at_port and each.pid:
                name = psutil.Process(each.pid).name()
                return f" Port {port} of this machine is held by {name} (process {each.pid})."
    return ""


def _databases(database: Database) -> str:
    """Which databases the server has, if it tells."""
    if not isinstance(database, LibpqDatabase):
        return ""
    there = replace(database, dsn=make_dsn(database.dsn, dbname="postgres"))
    try:
        with there.open() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate ORDER BY 1")
            names = [name for (name,) in cursor.fetchmany(_SOME_DATABASES)]
    except psycopg2.Error:
        return ""
    return f": {', '.join(names)}"


# Rights

_TRIAL = "taxi_ingest_doctor"
"""Its table is never committed."""


def examine_rights(database: Database, schema: str = "public") -> str:
    """Try all that a load does in a database, and undo it. Raises DatabaseError for what is refused."""
    with _undone(database) as cursor:
        _try_ledger(cursor)
        _try_table(cursor, schema)
    return f"may make the ledger's schema {LEDGER_SCHEMA} and tables in {schema}"


@contextmanager
def _undone(database: Database) -> Iterator[Cursor]:
    with database.connect() as connection, connection.cursor() as cursor:
        try:
            yield cursor
        finally:
            connection.rollback()


def _try_ledger(cursor: Cursor) -> None:
    cursor.execute("SELECT to_regnamespace(%s), to_regclass(%s)", (LEDGER_SCHEMA, f"{LEDGER_SCHEMA}.loads"))
    schema, table = one(cursor)
    if schema is None:
        cursor.execute("SELECT current_database(), session_user")
        name, user = map(_quoted, one(cursor))
        _try(cursor, f"CREATE SCHEMA {LEDGER_SCHEMA}", f"GRANT CREATE ON DATABASE {name} TO {user}")
    elif table is not None:
        _try(
            cursor,
            f"INSERT INTO {LEDGER_SCHEMA}.loads OVERRIDING SYSTEM VALUE"  # noqa: S608
            f" SELECT * FROM {LEDGER_SCHEMA}.loads WHERE false",
            f"load as the role that made the schema {LEDGER_SCHEMA}, or become a member of it",
        )


def _try_table(cursor: Cursor, schema: str) -> None:
    cursor.execute("SELECT to_regnamespace(%s), session_user", (schema,))
    found, user = one(cursor)
    if found is None:
        raise DatabaseError(f"There is no schema {schema}.", f"CREATE SCHEMA {schema}")
    grant = f"GRANT USAGE, CREATE ON SCHEMA {_quoted(schema)} TO {_quoted(user)}"
    table = f"{_quoted(schema)}.{_TRIAL}"
    for statement in (
        f"CREATE TABLE {table} (_load_id bigint, day timestamp) PARTITION BY LIST (_load_id)",
        f"CREATE TABLE {table}_1 (LIKE {table})",
        f"CREATE INDEX ON {table}_1 USING brin (day)",
        f"ALTER TABLE {table} ATTACH PARTITION {table}_1 FOR VALUES IN (1)",
        f"INSERT INTO {table} VALUES (1, '2024-01-01')",  # noqa: S608
    ):
        _try(cursor, statement, grant)


def _try(cursor: Cursor, statement: str, grant: str) -> None:
    try:
        cursor.execute(statement)
    except psycopg2.errors.InsufficientPrivilege as error:
        message = str(error).splitlines()[0]
        raise DatabaseError(f"A right is missing: {message}.", f"An administrator helps: {grant}") from error


def _quoted(name: str) -> str:
    quoted: str = sql.Identifier(name).strings[0]
    return '"' + quoted.replace('"', '""') + '"'


# What is left over


def left_parts(database: Database) -> list[str]:
    """The tables of loads that were ended before they were complete. Raises DatabaseError."""
    with _undone(database) as cursor:
        return [str(partition.aside(part_id)) for part_id in parts.find_ownerless(cursor)]


# What is slow


@dataclass(frozen=True)
class SlowSetting:
    """A setting of the server that slows loading."""

    name: str
    value: str
    advice: str


@dataclass(frozen=True)
class _Rule:
    name: str
    is_slow: str
    """SQL about `setting`, a text in the unit of pg_settings."""
    advice: str


_RULES = (
    _Rule(
        "wal_level",
        "setting <> 'minimal'",
        "All rows are written twice, once to the WAL. Where nobody replicates or archives it:"
        " wal_level = minimal and max_wal_senders = 0.",
    ),
    _Rule(
        "synchronous_standby_names",
        "setting <> '' AND current_setting('synchronous_commit') NOT IN ('off', 'local')",
        "Each load waits for standbys; after ALTER ROLE … SET synchronous_commit = local for this one alone.",
    ),
    _Rule(
        "max_wal_size",
        "setting::bigint < 4096 AND current_setting('wal_level') <> 'minimal'",
        "Large loads force checkpoints: max_wal_size = 4GB or more.",
    ),
    _Rule(
        "shared_buffers",
        "setting::bigint < 16384",
        "Little memory for tables: shared_buffers = 25 % of the machine's memory.",
    ),
    _Rule("log_statement", "setting = 'all'", "Each statement is logged: log_statement = ddl or none."),
    _Rule(
        "default_table_access_method",
        "setting <> 'heap'",
        "Tables are not Postgres' own: unset it for the role.",
    ),
)
"""https://www.postgresql.org/docs/current/populate.html has the reasons."""


def slow_settings(database: Database) -> list[SlowSetting]:
    """The server's settings that slow loading, and what to do about each. Raises DatabaseError."""
    query = " UNION ALL ".join(
        f"SELECT name FROM pg_settings WHERE name = '{rule.name}' AND {rule.is_slow}"  # noqa: S608
        for rule in _RULES
    )
    advice = {rule.name: rule.advice for rule in _RULES}
    with _undone(database) as cursor:
        cursor.execute(
            f"SELECT slow.name, current_setting(slow.name) FROM ({query}) AS slow (name)"  # noqa: S608
        )
        return [SlowSetting(name, value, advice[name]) for name, value in cursor.fetchall()]
