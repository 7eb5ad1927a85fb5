"""A question about a day reads that day's pages, in tables of every age; nobody waits for that."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2.extensions import parse_dsn

from builders import months, row, trips
from helpers import execute, loaded, query, said, totals, url_with
from taxi_ingest.load import Database, database_at, undo
from taxi_ingest.transform.plan import Names

MONTHS = [f"2021-{month:02}" for month in range(1, 13)]
ROWS = 80_000
STRAYS = np.array(["2008-12-31T23:59:01", "2041-11-15T02:57:16"], "M8[us]")
INDEXES = "SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%USING brin%' ORDER BY 1"


def write_month(folder: Path, month: str) -> Path:
    """A month whose rows are ordered by pickup, roughly, as TLC's are, with strays among them."""
    random = np.random.default_rng(int(month[-2:]))
    start, end = (np.datetime64(month, "M") + n for n in (0, 1))
    length = (end.astype("M8[us]") - start.astype("M8[us]")).astype(int)
    pickups = start.astype("M8[us]") + np.sort(random.integers(0, length, ROWS)).astype("m8[us]")
    pickups = pickups[np.argsort(np.arange(ROWS) + random.normal(0, 50, ROWS))]
    pickups[random.choice(ROWS, len(STRAYS), replace=False)] = STRAYS
    path = folder / f"yellow_tripdata_{month}.parquet"
    columns = {
        "VendorID": pa.array(np.ones(ROWS, int)),
        "tpep_pickup_datetime": pa.array(pickups),
        "passenger_count": pa.array(np.ones(ROWS, int)),
        "total_amount": pa.array(np.ones(ROWS)),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve months' files."""
    folder = tmp_path_factory.mktemp("year")
    return [write_month(folder, month) for month in MONTHS]


def share_read(url: str, column: str, first: str, end: str) -> float:
    """How much of the table a question about a time reads, in pages; those of indexes count too."""
    question = f"SELECT count(*) FROM trips WHERE {column} >= '{first}' AND {column} < '{end}'"
    [(explained,)] = query(url, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {question}")
    assert isinstance(explained, list)
    plan = explained[0]["Plan"]
    [(pages,)] = query(url, "SELECT sum(pg_relation_size(relid)) / 8192 FROM pg_partition_tree('trips')")
    return float((plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) / pages)


@pytest.mark.parametrize(("names", "column"), [("tlc", "tpep_pickup_datetime"), ("snake", "pickup_datetime")])
def test_a_day_or_a_month_is_read_alone_right_after_the_load_though_all_months_have_strays(
    year: list[Path], database: Database, database_url: str, names: Names, column: str
) -> None:
    for path in year:
        loaded(path, database, chunk_size=100_000, names=names)
    assert share_read(database_url, column, "2021-05-12", "2021-05-13") < 0.03
    assert share_read(database_url, column, "2021-05-01", "2021-06-01") < 1 / 12 + 0.03
    assert share_read(database_url, column, "2015-05-12", "2015-05-13") < 0.03


def test_an_earlier_table_gets_the_index_when_it_is_next_loaded(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    for path in months(tmp_path, range(1, 4)):
        loaded(path, database)
    forget_indexes(database_url, 1, 2, 3)
    # What is skipped is no load: it stays quick.
    loaded(months(tmp_path, range(1, 2))[0], database)
    assert query(database_url, INDEXES) == []
    execute(database_url, "ALTER TABLE trips RENAME TO journeys")
    loaded(months(tmp_path, range(4, 5))[0], database, "journeys")
    assert query(database_url, INDEXES) == [(f"load_{n}",) for n in (1, 2, 3, 4)]
    statistics = "SELECT tablename FROM pg_stats WHERE attname = 'tpep_pickup_datetime' ORDER BY 1"
    assert query(database_url, statistics) == query(database_url, INDEXES)
    assert totals(database_url, "journeys") == [1, 2, 3, 4]


def forget_indexes(url: str, *load_ids: int) -> None:
    """Make partitions as earlier versions made them."""
    execute(url, *(f"DROP INDEX taxi_ingest.load_{n}_pickup" for n in load_ids))
    execute(url, "DELETE FROM pg_statistic WHERE starelid::regclass::text ~ '^taxi_ingest.load_'")


def test_who_reads_an_earlier_table_neither_waits_nor_holds_up_its_index(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    first, second = months(tmp_path, range(1, 3))
    loaded(first, database)
    forget_indexes(database_url, 1)
    reader = psycopg2.connect(database_url)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM trips")
        loaded(second, database)
        cursor.execute("SELECT count(*) FROM trips")
        assert cursor.fetchall() == [(2,)]
    reader.close()
    assert query(database_url, INDEXES) == [("load_1",), ("load_2",)]


def test_a_partition_that_someone_writes_to_gets_its_index_another_time(
    tmp_path: Path, database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths = months(tmp_path, range(1, 5))
    for path in paths[:2]:
        loaded(path, database)
    forget_indexes(database_url, 1, 2)
    writer = psycopg2.connect(database_url)
    with writer.cursor() as cursor:
        cursor.execute("UPDATE taxi_ingest.load_1 SET total_amount = 10")
        assert not loaded(paths[2], database).skipped
        assert query(database_url, INDEXES) == [("load_2",), ("load_3",)]
    writer.commit()
    writer.close()
    assert any("in use" in line for line in said(caplog))
    loaded(paths[3], database)
    assert query(database_url, INDEXES) == [(f"load_{n}",) for n in (1, 2, 3, 4)]
    assert totals(database_url) == [2, 3, 4, 10]


@pytest.fixture
def roles(database_url: str) -> Iterator[tuple[Database, Database]]:
    """The databases of a team, and of a member that the team is no member of."""
    name = parse_dsn(database_url)["dbname"]
    execute(
        database_url,
        "CREATE ROLE team",
        "CREATE ROLE ben IN ROLE team",
        f"GRANT CREATE ON DATABASE {name} TO team; GRANT USAGE, CREATE ON SCHEMA public TO team",
    )
    team, ben = (database_at(url_with(database_url, options=f"-c role={role}")) for role in ("team", "ben"))
    yield team, ben
    execute(database_url, "DROP OWNED BY ben, team CASCADE", "DROP ROLE ben, team")


def test_what_belongs_to_another_role_is_left_to_it(
    roles: tuple[Database, Database], tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    team, ben = roles
    paths = months(tmp_path, range(1, 5))
    for path, database in zip(paths, (team, ben, team), strict=False):
        if database is ben:
            forget_indexes(database_url, 1)
            loaded(path, database)
            # Ben may do as the team may, but not the other way round.
            assert query(database_url, INDEXES) == [("load_1",), ("load_2",)]
            forget_indexes(database_url, 2)
        else:
            loaded(path, database)
    assert query(database_url, INDEXES) == [("load_1",), ("load_3",)]
    loaded(paths[3], ben)
    assert query(database_url, INDEXES) == [(f"load_{n}",) for n in (1, 2, 3, 4)]
    assert not any("without" in line or "in use" in line for line in said(caplog))


def test_a_refused_index_fails_no_load(
    roles: tuple[Database, Database], tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    team, ben = roles
    paths = months(tmp_path, range(1, 4))
    loaded(paths[0], team)
    loaded(paths[1], ben)
    forget_indexes(database_url, 1)
    # As it is where a service has locked down what others' tables may get.
    execute(
        database_url,
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF to_regclass('taxi_ingest.load_3') IS NOT NULL AND to_regclass('taxi_ingest.load_1_pickup') "
        "IS NOT NULL THEN RAISE 'not here'; END IF; END $$",
        "CREATE EVENT TRIGGER refusal ON ddl_command_end WHEN TAG IN ('CREATE INDEX') "
        "EXECUTE FUNCTION refuse()",
    )
    try:
        assert not loaded(paths[2], team).skipped
    finally:
        execute(database_url, "DROP EVENT TRIGGER refusal")
    assert totals(database_url) == [1, 2, 3]
    assert query(database_url, INDEXES) == [("load_2",), ("load_3",)]
    assert any("not here" in line for line in said(caplog))


def test_only_the_partitions_that_we_made_get_an_index(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    loaded(months(tmp_path, range(1, 2))[0], database)
    execute(
        database_url,
        "CREATE TABLE taxi_ingest.load_99 (LIKE trips INCLUDING ALL)",
        "ALTER TABLE trips ATTACH PARTITION taxi_ingest.load_99 FOR VALUES IN (99)",
        "CREATE TABLE other (LIKE trips INCLUDING ALL)",
        "ALTER TABLE trips ATTACH PARTITION other FOR VALUES IN (98)",
        'CREATE TABLE mine ("VendorID" int, tpep_pickup_datetime timestamp, passenger_count smallint, '
        "total_amount float)",
    )
    foreign = tmp_path / "events.csv"
    foreign.write_text("pickup_datetime,name\n2024-01-01 00:00:00,a\n")
    zones = tmp_path / "taxi_zone_lookup.csv"
    zones.write_text("LocationID,Borough,Zone,service_zone\n1,EWR,Newark Airport,EWR\n")
    second, third = months(tmp_path, range(2, 4))
    for path, table in ((second, "trips"), (third, "mine"), (foreign, "events"), (zones, "taxi_zones")):
        loaded(path, database, table)
    assert query(database_url, INDEXES) == [("load_1",), ("load_2",)]


@pytest.mark.parametrize("kind", ["btree", "brin"])
def test_an_index_of_the_users_own_goes_on_working(
    tmp_path: Path, database: Database, database_url: str, kind: str
) -> None:
    first, second = months(tmp_path, range(1, 3))
    loaded(first, database)
    execute(database_url, f"CREATE INDEX mine ON trips USING {kind} (tpep_pickup_datetime)")
    loaded(second, database)
    loaded(trips(tmp_path, [row(5)], first.name), database)
    parts = "SELECT count(*) FROM pg_partition_tree('mine') WHERE isleaf"
    assert query(database_url, parts) == [(2,)]
    assert query(database_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'mine'::regclass") == [
        (True,)
    ]
    execute(database_url, "DROP INDEX mine")
    loaded(months(tmp_path, range(3, 4))[0], database)
    assert query(database_url, INDEXES) == [("load_2",), ("load_3",), ("load_4",)]
    assert totals(database_url) == [2, 3, 5]


def test_a_table_itself_gets_no_index(tmp_path: Path, database: Database, database_url: str) -> None:
    """It would lock all partitions, and each new one would have to have it."""
    loaded(trips(tmp_path, [row(1)]), database)
    assert query(database_url, "SELECT count(*) FROM pg_index WHERE indrelid = 'trips'::regclass") == [(0,)]


def test_an_index_goes_with_its_load(tmp_path: Path, database: Database, database_url: str) -> None:
    first, second = months(tmp_path, range(1, 3))
    loaded(first, database)
    loaded(second, database)
    loaded(trips(tmp_path, [row(9)], first.name), database)
    assert query(database_url, INDEXES) == [("load_2",), ("load_3",)]
    undo(database, 2)
    assert query(database_url, INDEXES) == [("load_3",)]


def test_a_name_that_someone_has_taken_fails_no_load(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    first, second = months(tmp_path, range(1, 3))
    loaded(first, database)
    execute(database_url, "CREATE TABLE taxi_ingest.load_2_pickup ()")
    assert not loaded(second, database).skipped
    assert totals(database_url) == [1, 2]


def test_without_index_neither_the_load_nor_an_earlier_one_gets_it(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    for path in months(tmp_path, range(1, 3)):
        loaded(path, embedded_database, index=False)
    indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'taxi_ingest' AND indexname LIKE '%_pickup'"
    assert query(embedded_database_url, indexes) == [(0,)]
    loaded(months(tmp_path, range(3, 4))[0], embedded_database)
    assert query(embedded_database_url, indexes) == [(3,)]


def test_a_load_takes_no_room_for_columns_that_its_file_lacks(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    for month in ("2021-01", "2021-02"):
        loaded(write_month(tmp_path, month), embedded_database, chunk_size=100_000, index=False)
        [(number,)] = query(embedded_database_url, "SELECT max(load_id) FROM taxi_ingest.loads")
        execute(
            embedded_database_url,
            f"""CREATE TABLE no_more_{number} AS SELECT _load_id, "VendorID", tpep_pickup_datetime,
            passenger_count, total_amount FROM taxi_ingest.load_{number}""",
        )
        sizes = f"SELECT pg_relation_size('taxi_ingest.load_{number}'), pg_relation_size('no_more_{number}')"
        [(taken, least)] = query(embedded_database_url, sizes)
        assert taken == least
    assert query(embedded_database_url, "SELECT count(*), count(pickup_longitude) FROM trips") == [
        (2 * ROWS, 0)
    ]
