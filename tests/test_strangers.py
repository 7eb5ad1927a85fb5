"""No code that another role has planted in the database runs with the rights of who loads."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from builders import row, trips
from helpers import execute, loaded, looked_ahead, query, totals, url_with
from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import (
    Database,
    Filter,
    database_at,
    list_loads,
    migrations,
    undo,
)

LEDGER = "".join(
    files(migrations).joinpath(f"{number}.sql").read_text() for number in range(1, migrations.LATEST + 1)
)
TRAP = """
CREATE SCHEMA IF NOT EXISTS traps;
CREATE FUNCTION traps.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN ALTER ROLE mallory SUPERUSER; RETURN NEW; END $$;
CREATE FUNCTION traps.check(double precision) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN ALTER ROLE mallory SUPERUSER; RETURN true; END $$;
"""
VIEW = """
CREATE SCHEMA taxi_ingest;
CREATE TABLE taxi_ingest.ledger_version AS SELECT 4 AS number;
CREATE VIEW taxi_ingest.loads AS SELECT traps.check(1.0) AS load_id;
CREATE TABLE taxi_ingest.rejects (load_id int);
"""
ON_LOADS = (
    "CREATE TRIGGER trap BEFORE INSERT ON taxi_ingest.loads FOR EACH ROW EXECUTE FUNCTION traps.trigger()"
)
COLUMNS = "tpep_pickup_datetime timestamp, passenger_count smallint, total_amount double precision"

LEDGERS = ["CREATE SCHEMA taxi_ingest", LEDGER, LEDGER + ON_LOADS, VIEW]
"""What a stranger may have made beforehand: from nothing to a trap for the reader."""

TABLES = {
    "trigger": f"""CREATE TABLE team.trigger ("VendorID" integer, {COLUMNS});
        CREATE TRIGGER trap BEFORE INSERT ON team.trigger FOR EACH ROW EXECUTE FUNCTION traps.trigger()""",
    "check": f"""CREATE TABLE team.check
        ("VendorID" integer, {COLUMNS}, CHECK (traps.check(total_amount)))""",
    "default": f"""CREATE TABLE team.default
        ("VendorID" integer, {COLUMNS}, fine boolean DEFAULT traps.check(1.0))""",
    "generated": f"""CREATE TABLE team.generated
        ("VendorID" integer, {COLUMNS},
        fine boolean GENERATED ALWAYS AS (traps.check(total_amount)) STORED)""",
    "index": f"""CREATE TABLE team.index ("VendorID" integer, {COLUMNS});
        CREATE INDEX ON team.index (traps.check(total_amount))""",
    "partitioned": f"""CREATE TABLE team.partitioned
        (_load_id integer NOT NULL, "VendorID" integer, {COLUMNS}, CHECK (traps.check(total_amount)))
        PARTITION BY LIST (_load_id)""",
}


@pytest.fixture
def as_mallory(database_url: str) -> Iterator[Callable[[str], None]]:
    """Let a role that may make schemas and no more execute statements, and trust everybody with them."""
    name = parse_dsn(database_url)["dbname"]
    execute(
        database_url,
        "CREATE ROLE mallory",
        f"GRANT CREATE ON DATABASE {name} TO mallory",
    )

    def plant(statements: str) -> None:
        execute(
            database_url, f"SET ROLE mallory; {TRAP}; {statements}; GRANT USAGE ON SCHEMA traps TO public"
        )

    yield plant
    execute(database_url, "DROP OWNED BY mallory CASCADE", "DROP ROLE mallory")


def is_caught(url: str) -> bool:
    return query(url, "SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'") == [(False,)]


def test_a_ledger_that_a_stranger_made_is_refused(
    as_mallory: Callable[[str], None], tmp_path: Path, database: Database, database_url: str
) -> None:
    path = trips(tmp_path, [row(1)])
    as_mallory("")
    for planted in LEDGERS:
        execute(database_url, f"SET ROLE mallory; DROP SCHEMA IF EXISTS taxi_ingest CASCADE; {planted}")
        for act in (loaded, looked_ahead):
            with pytest.raises(DatabaseError, match="belongs to mallory"):
                act(path, database)
        with pytest.raises(DatabaseError, match="belongs to mallory"):
            undo(database, 1)
        # To read it is harmless.
        assert list_loads(database, Filter()) == []
    assert is_caught(database_url)


def test_a_table_with_a_strangers_code_is_refused(
    as_mallory: Callable[[str], None], tmp_path: Path, database: Database, database_url: str
) -> None:
    as_mallory("CREATE SCHEMA team;" + ";".join(TABLES.values()))
    path = trips(tmp_path, [row(1)])
    for planted in TABLES:
        for act in (loaded, looked_ahead):
            with pytest.raises(DatabaseError, match="functions of mallory"):
                act(path, database, f"team.{planted}")
    assert is_caught(database_url)


def test_a_table_of_another_role_without_code_of_its_own_is_loaded_into(
    as_mallory: Callable[[str], None], tmp_path: Path, database: Database, database_url: str
) -> None:
    as_mallory(
        f"""CREATE SCHEMA team; CREATE TABLE team.trips (id serial CHECK (abs(id) > 0), "VendorID" integer,
        {COLUMNS})"""
    )
    loaded(trips(tmp_path, [row(1)]), database, "team.trips")
    assert totals(database_url, "team.trips") == [1]


def test_a_role_that_we_are_a_member_of_is_trusted(
    as_mallory: Callable[[str], None], tmp_path: Path, database_url: str
) -> None:
    as_mallory(LEDGER)
    execute(database_url, "CREATE ROLE friend LOGIN SUPERUSER PASSWORD 'friend'; GRANT mallory TO friend")
    try:
        friend = url_with(database_url, user="friend", password="friend")
        try:
            psycopg2.connect(friend).close()
        except psycopg2.OperationalError:
            pytest.skip("this server lets only its own account in")
        loaded(trips(tmp_path, [row(1)]), database_at(friend))
        assert totals(database_url) == [1]
    finally:
        execute(database_url, "DROP OWNED BY friend CASCADE", "DROP ROLE friend")
