"""What every session of ours relies on, whatever role, database, environment or service file have set.

A setting that could change what our statements mean, end them early or let another's function run with
our rights is stated here; those that only make them slower or faster are the user's.
"""

from psycopg2.extensions import connection as Connection

from taxi_ingest.errors import DatabaseError

ENCODING = "UTF8"
"""What pgpq sends, and the only encoding of a database that can hold all text of all files."""

_SETTINGS: dict[str, tuple[str, ...]] = {
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
"""Setting -> what it must be, in the unit of pg_settings; where several will do, the first is set."""

_OURS = ", ".join(f"('{name.lower()}', ARRAY{list(values)})" for name, values in _SETTINGS.items())

_FIRST = "SET statement_timeout = 0; SET search_path = pg_catalog, pg_temp"
_FIRST_SINCE_17 = "SET transaction_timeout = 0"
"""On their own: what sets the others would else be cut short, or find another's functions."""

# Only what differs is set, as some settings ask for rights; and only what this version of Postgres has.
_STATE = f"""
SELECT set_config(name, fine[1], false)
FROM (VALUES {_OURS}) AS ours (setting_name, fine) JOIN pg_settings ON lower(name) = setting_name
WHERE setting <> ALL (fine)
"""  # noqa: S608


def make_ours(connection: Connection) -> None:
    """Make a new connection's session what our statements rely on.

    Raises DatabaseError for a database that can't hold all text, psycopg2.Error for what Postgres refuses.
    """
    _check_encoding(connection)
    connection.rollback()
    connection.set_client_encoding(ENCODING)
    # Outside of a transaction, with which it would be undone.
    connection.set_session(autocommit=True)
    with connection.cursor() as cursor:
        if connection.server_version >= 17_00_00:
            cursor.execute(_FIRST_SINCE_17)
        cursor.execute(_FIRST)
        cursor.execute(_STATE)
    connection.set_session("default", "default", "default", autocommit=False)


def _check_encoding(connection: Connection) -> None:
    encoding = connection.get_parameter_status("server_encoding")
    if encoding != ENCODING:
        raise DatabaseError(
            f"The database {connection.info.dbname} keeps text as {encoding}, which can't hold that of all "
            "files.",
            f"Make one that can, and name it: createdb -T template0 -E {ENCODING} taxi.",
        )
