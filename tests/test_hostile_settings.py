"""Every session of ours means the same, whatever role, database, environment or schema say."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from builders import row, trips
from helpers import (
    WAITING_FOR_A_LOAD,
    Background,
    execute,
    loaded,
    looked_ahead,
    query,
    until_session,
    url_with,
)
from prefect_runs import block
from taxi_ingest import Settings, prefect_api
from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import (
    Database,
    Filter,
    LoadProgress,
    LoadResult,
    database_at,
    list_loads,
    rejects_of,
    undo,
)
from taxi_ingest.load.database import _SESSION_SETTINGS

WORST = {
    "search_path": "public, pg_catalog",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "statement_timeout": "50ms",
    "lock_timeout": "1ms",
    "transaction_timeout": "50ms",
    "idle_in_transaction_session_timeout": "50ms",
    "idle_session_timeout": "50ms",
    "exit_on_error": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "timezone_abbreviations": "India",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "xmloption": "document",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "session_replication_role": "replica",
    "row_security": "on",
    "synchronous_commit": "off",
    "tcp_keepalives_idle": "7200",
    "tcp_keepalives_interval": "7200",
    "tcp_keepalives_count": "100",
}
"""The worst that a role or a database can set; each line of `_SESSION_SETTINGS` has its own."""

HOSTILE_SCHEMA = """
CREATE TABLE public.stolen (what text);
CREATE FUNCTION public.hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO public.stolen VALUES ('hashtextextended'); RETURN 1; END $$;
CREATE FUNCTION public.to_regclass(text) RETURNS regclass LANGUAGE sql AS $$ SELECT NULL::regclass $$;
CREATE FUNCTION public.format(text, name, text) RETURNS text LANGUAGE sql AS $$ SELECT 'DROP TABLE x' $$;
CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE FUNCTION public.format_type(oid, integer) RETURNS text LANGUAGE sql AS $$ SELECT 'money' $$;
CREATE FUNCTION public.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
    AS $$ SELECT to_timestamp(0) $$;
CREATE FUNCTION public.pg_try_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION public.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION public.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.never);
CREATE FUNCTION public.never(name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.never);
CREATE DOMAIN public.smallint AS text;
CREATE DOMAIN public.int4 AS text;
CREATE DOMAIN public.text AS pg_catalog.text CHECK (VALUE ~ '^stolen');
CREATE TYPE public.regclass AS ENUM ('a');
CREATE TABLE public.pg_class (oid oid, relname name, relnamespace oid, relkind "char");
CREATE TABLE public.pg_inherits (inhrelid oid, inhparent oid, inhdetachpending boolean);
CREATE TABLE public.pg_settings (name text, setting text);
CREATE TABLE public.loads (load_id int);
"""

Setting = Callable[[dict[str, str]], None]


@pytest.fixture
def set_for_role(database_url: str) -> Setting:
    """Make settings the defaults of the tests' role in the test's database, as ALTER ROLE has it."""

    def set_all(settings: dict[str, str]) -> None:
        parts = parse_dsn(database_url)
        known = {name for (name,) in query(database_url, "SELECT lower(name) FROM pg_settings")}
        whose = f"ALTER ROLE {parts['user']} IN DATABASE {parts['dbname']}"
        statements = [
            f"{whose} SET {name} = {value if name == 'search_path' else repr(value)}"
            for name, value in settings.items()
            if name.lower() in known
        ]
        # In one session, which the settings do not hold for yet.
        execute(database_url, "; ".join(statements))

    return set_all


@pytest.fixture
def reset(database_url: str) -> Iterator[None]:
    """Put the role's settings back, also where they let no usual session of the tests live."""
    parts = parse_dsn(database_url)
    yield
    with database_at(database_url).connect() as connection:
        connection.autocommit = True
        connection.cursor().execute(f"ALTER ROLE {parts['user']} IN DATABASE {parts['dbname']} RESET ALL")


def states(database: Database) -> dict[str, str]:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT lower(name), setting FROM pg_catalog.pg_settings")
        return dict(cursor.fetchall())


def use_all(folder: Path, database: Database) -> list[object]:
    """Load, skip, replace, undo, list, look ahead; what each told and what the tables hold then."""
    folder.mkdir(exist_ok=True)
    first = trips(folder, [row(0.1), row(2), row(3, "many")], "yellow_tripdata_2024-01.csv")
    second = trips(folder, [row(0.2)], "yellow_tripdata_2024-02.csv")
    zones = folder / "zones.csv"
    zones.write_text("LocationID,Borough,Zone,service_zone\n264,Unknown,Zürich,N/A\n")
    told: list[object] = []

    def tell(path: Path, table: str, **options: object) -> None:
        load = loaded(path, database, table, max_rejects="1", **options)  # type: ignore[arg-type]
        told.append(
            (
                load.status,
                load.record.rows_loaded,
                load.record.rows_rejected,
                load.record.load_id,
                load.record.notes,
            )
        )

    for path in (first, first, second):
        tell(path, "trips")
    told.append(looked_ahead(second, database).action)
    tell(second, "trips", if_loaded="replace")
    tell(zones, "taxi_zones")
    zones.write_text("LocationID,Borough,Zone,service_zone\n264,Unknown,Zürich,N/A\n265,Ω,Łódź,N/A\n")
    tell(zones, "taxi_zones")
    told.append(rejects_of(database, 1, 10))
    undo(database, 3)
    told += [
        (load.load_id, load.status, load.table_name, load.finished_at.year)
        for load in list_loads(database, Filter())
    ]
    with database.connect() as connection, connection.cursor() as cursor:
        for statement in (
            "SELECT total_amount, tpep_pickup_datetime::pg_catalog.text FROM public.trips ORDER BY 1",
            'SELECT * FROM public.taxi_zones ORDER BY "LocationID"',
            "SELECT pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute "
            "WHERE attrelid = pg_catalog.to_regclass('public.trips') AND attnum > 0 ORDER BY attnum",
        ):
            cursor.execute(statement)
            told.append(cursor.fetchall())
    return told


@pytest.fixture(scope="module")
def usual() -> list[object]:
    """What a session with the usual settings tells; filled by the first that asks."""
    return []


def expected(usual: list[object], folder: Path, url: str) -> list[object]:
    if not usual:
        name = f"{parse_dsn(url)['dbname']}_usual"
        execute(url, f"CREATE DATABASE {name}")
        usual += use_all(folder / "usual", database_at(url_with(url, dbname=name)))
        execute(url, f"DROP DATABASE {name}")
    return usual


def test_each_setting_of_ours_has_its_worst_here() -> None:
    assert set(WORST) == set(_SESSION_SETTINGS)


@pytest.mark.usefixtures("reset")
@pytest.mark.parametrize("name", WORST)
def test_a_hostile_setting_does_not_hold_for_us(set_for_role: Setting, database_url: str, name: str) -> None:
    database = database_at(database_url)
    before = states(database)
    if name.lower() not in before:
        pytest.skip("this version of Postgres has no such setting")
    set_for_role({name: WORST[name]})
    after = states(database)
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_catalog.current_setting('transaction_isolation'), "
            "pg_catalog.current_setting('transaction_read_only')"
        )
        assert cursor.fetchone() == ("read committed", "off")
    assert after[name.lower()] in (*_SESSION_SETTINGS[name], *(["0"] if name.startswith("tcp_") else []))
    assert after == before


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server", "reset")
@pytest.mark.parametrize("way", ["url", "block"])
def test_with_all_of_them_at_once_everything_is_as_usual(
    set_for_role: Setting,
    usual: list[object],
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    as_usual = expected(usual, tmp_path, database_url)
    execute(database_url, HOSTILE_SCHEMA)
    set_for_role(WORST)
    for name, value in {"PGCLIENTENCODING": "LATIN1", "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(
        "PGOPTIONS", "-c search_path=public,pg_catalog -c default_transaction_isolation=serializable"
    )

    with prefect_api(Settings()):
        database = database_at(database_url) if way == "url" else block(database_url, "hostile")
        assert use_all(tmp_path / "hostile", database) == as_usual
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT what FROM public.stolen")
        assert cursor.fetchall() == []


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252"])
def test_a_database_that_cannot_hold_all_text_is_refused(
    embedded_url: str, tmp_path: Path, encoding: str
) -> None:
    name = f"test_{encoding.lower()}"
    execute(
        embedded_url,
        f"CREATE DATABASE {name} ENCODING {encoding} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'",
    )
    try:
        database = database_at(url_with(embedded_url, dbname=name))
        with pytest.raises(DatabaseError, match=f"keeps text as {encoding}") as failure:
            loaded(trips(tmp_path, [row(1)]), database)
        assert "-E UTF8" in failure.value.hint
    finally:
        execute(embedded_url, f"DROP DATABASE {name}")


@pytest.mark.parametrize("encoding", ["LATIN1", "MULE_INTERNAL", "EUC_TW"])
def test_text_arrives_whole_whatever_encoding_the_environment_names(
    tmp_path: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    path = tmp_path / "any.csv"
    path.write_text("n,t\n1,Zürich 🚕\n")
    monkeypatch.setenv("PGCLIENTENCODING", encoding)
    loaded(path, database_at(embedded_database_url), "towns")
    monkeypatch.delenv("PGCLIENTENCODING")
    assert query(embedded_database_url, "SELECT t FROM towns") == [("Zürich 🚕",)]


@pytest.mark.usefixtures("reset")
def test_a_load_that_waited_sees_what_the_other_has_committed(
    tmp_path: Path, set_for_role: Setting, database_url: str
) -> None:
    """Under REPEATABLE READ, who waited for the lock on the file would not see that it is loaded."""
    set_for_role({"default_transaction_isolation": "repeatable read"})
    path = trips(tmp_path, [row(n) for n in range(6)])
    database = database_at(database_url)
    others: list[Background[LoadResult]] = []

    def start_another(_: LoadProgress) -> None:
        if not others:
            others.append(Background(lambda: loaded(path, database)))
            until_session(database_url, WAITING_FOR_A_LOAD)

    assert loaded(path, database, on_progress=start_another).status == "loaded"
    assert others[0].result().status == "skipped"
