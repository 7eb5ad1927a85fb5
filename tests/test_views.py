"""The views say what the files say, over tables of every kind; nobody's objects are lost for them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psycopg2
import pytest

from builders import any_rows, csv_of, months, plain_table, row, trips, zones
from helpers import (
    SHARED_DATA,
    Background,
    Cli,
    Publish,
    execute,
    held,
    loaded,
    query,
    together,
    url_with,
    value,
)
from reckoning import all_trips, check_equal, column
from taxi_ingest.errors import DatabaseError, DataError, UsageError
from taxi_ingest.load import Database, database_at, undo
from taxi_ingest.settings.job import Names
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.views import drop_views, make_views, refresh_views

VIEWS = (
    *("zones", "vendors", "vendor_names", "rate_codes", "payment_types", "payment_names", "trip_types"),
    *("apps", "loaded_months", "trips", "fhv_trips", "fhvhv_trips"),
    *("trips_daily", "trips_hourly_by_zone", "zone_revenue_monthly"),
)
SUMMING = VIEWS[-3:]
GENERATED = {
    "yellow": ("2009-03.csv", "2010-03.csv", "2014-02.csv", "2016-03.csv", "2016-08.csv", "2021-05.parquet"),
    "green": ("2013-09.csv", "2016-08.csv", "2021-05.parquet", "2025-01.parquet"),
    "fhv": ("2015-03.csv", "2018-03.csv", "2021-05.parquet"),
    "fhvhv": ("2019-04.csv", "2021-05.parquet"),
}


def frame(url: str, view: str, schema: str = "public") -> pd.DataFrame:
    """All rows of a view, but for the number of their load."""
    names = [
        name
        for (name,) in query(
            url,
            f"SELECT attname FROM pg_attribute WHERE attrelid = '{schema}.{view}'::regclass AND attnum > 0",
        )
        if name != "load_id"
    ]
    return pd.DataFrame(query(url, f"SELECT {', '.join(names)} FROM {schema}.{view}"), columns=names)


def check_all(url: str, files: dict[str, list[Path]], lookup: Path, schema: str = "public") -> None:
    """Compare each view that has trips or sums with what pandas makes of the files."""
    reckoned = all_trips([*files["yellow"], *files["green"]], lookup)
    check_equal(frame(url, "trips", schema), reckoned)
    for dataset in ("fhv", "fhvhv"):
        check_equal(frame(url, f"{dataset}_trips", schema), all_trips(files[dataset], lookup))
    pickup = reckoned["pickup_datetime"]
    for view, name, begun in (
        ("trips_daily", "day", pickup.dt.normalize()),
        ("trips_hourly_by_zone", "hour", pickup.dt.floor("h")),
        ("zone_revenue_monthly", "month", pickup.dt.to_period("M").dt.start_time),
    ):
        keys = ["dataset"] if view == "trips_daily" else ["dataset", "pickup_location_id"]
        check_equal(
            dated(frame(url, view, schema), name), summed(reckoned.assign(**{name: begun}), [name, *keys])
        )


def dated(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows.assign(**{name: pd.to_datetime(rows[name])})


def summed(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The sums and means of trips that are alike in these columns."""
    amounts = ["fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "ehail_fee", "total_amount"]
    for name in (*amounts, "improvement_surcharge", "pickup_location_id"):
        rows[name] = column(rows, name)
    groups = rows.groupby(keys, dropna=False)
    return pd.DataFrame(
        {
            **{name: groups[name].sum(min_count=1) for name in (*amounts, "improvement_surcharge")},
            "trips": groups.size(),
            "passengers": groups["passenger_count"].sum(min_count=1),
            "trip_distance": groups["trip_distance"].sum(min_count=1),
            "average_minutes": groups["duration_minutes"].mean(),
            "average_passengers": groups["passenger_count"].mean(),
            "average_distance": groups["trip_distance"].mean(),
            "pickup_borough": groups["pickup_borough"].first(),
            "pickup_zone": groups["pickup_zone"].first(),
        }
    ).reset_index()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[Path]], Path]:
    """Files of several eras of each dataset, and the zones."""
    folder = tmp_path_factory.mktemp("files")
    files = {
        dataset: [
            write_sample(dataset, name.partition(".")[0], folder / f"{dataset}_tripdata_{name}", 300)
            for name in names
        ]
        for dataset, names in GENERATED.items()
    }
    return files, write_sample("zones", "", folder / "taxi_zone_lookup.csv")


@pytest.mark.parametrize(
    ("names", "materialize", "schema"),
    [("tlc", None, "public"), ("snake", True, "answers"), ("lower", False, "x y")],
)
def test_every_view_says_what_pandas_reckons_from_the_files(
    generated: tuple[dict[str, list[Path]], Path],
    database: Database,
    database_url: str,
    names: Names,
    materialize: bool | None,
    schema: str,
) -> None:
    files, lookup = generated
    quoted = f'"{schema}"'
    execute(database_url, f"CREATE SCHEMA IF NOT EXISTS {quoted}", "CREATE SCHEMA staging")
    for dataset, paths in files.items():
        for path in paths:
            assert (
                loaded(
                    path, database, f"staging.{dataset}", names=names, chunk_size=1000
                ).record.rows_rejected
                == 0
            )
    loaded(lookup, database, "staging.places", names=names)
    made = make_views(database, schema=schema, materialize=materialize)
    assert made.missing == ()
    # Of 2009 to 2016.
    assert [note.partition(". ")[0] for note in made.notes] == [
        "Loads of staging.yellow that have coordinates only: 4",
        "Loads of staging.green that have coordinates only: 1",
    ]
    assert made.materialized == (SUMMING if materialize else ())
    check_all(database_url, files, lookup, quoted)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no real TLC files: {SHARED_DATA} is absent")
def test_every_view_says_what_pandas_reckons_from_real_files(
    embedded_database: Database, embedded_database_url: str
) -> None:
    files = {
        dataset: sorted(SHARED_DATA.glob(f"csv_heads/{dataset}_tripdata_20*[0-9]-*.csv"))[::6]
        for dataset in GENERATED
    }
    files["green"].append(SHARED_DATA / "parquet" / "green_tripdata_2023-10.parquet")
    files["yellow"].append(SHARED_DATA / "parquet" / "yellow_tripdata_2025-02.parquet")
    lookup = SHARED_DATA / "zones" / "taxi+_zone_lookup.csv"
    for dataset, paths in files.items():
        for path in paths:
            assert (
                loaded(path, embedded_database, f"{dataset}_tripdata", chunk_size=9999).record.rows_rejected
                == 0
            )
    loaded(lookup, embedded_database, "taxi_zones")
    make_views(embedded_database)
    check_all(embedded_database_url, files, lookup)


# What they read

DAY = "{0} >= '2021-05-12' AND {0} < '2021-05-13'"


def test_a_day_is_read_alone_out_of_many_months_through_the_view_as_through_the_table(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    for month in (f"{year}-{number:02}" for year in (2021, 2022) for number in range(1, 13)):
        loaded(ordered_month(tmp_path, month), database, "yellow_tripdata", chunk_size=100_000)
    green = write_sample("green", "2021-05", tmp_path / "green_tripdata_2021-05.parquet", 500)
    loaded(green, database, "green", chunk_size=1000)
    loaded(write_sample("zones", "", tmp_path / "taxi_zone_lookup.csv"), database, "taxi_zones")
    make_views(database)
    names = "pickup_zone, dropoff_borough, payment, rate, file_month"
    asked = (
        f"SELECT count(*) FROM yellow_tripdata WHERE {DAY.format('tpep_pickup_datetime')}",
        f"SELECT count(*) FROM trips WHERE dataset = 'yellow' AND {DAY.format('pickup_datetime')}",
        f"SELECT {names}, count(*) FROM trips WHERE {DAY.format('pickup_datetime')} GROUP BY {names}",
    )
    sizes = "SELECT sum(pg_relation_size(relid)) / 8192 FROM pg_partition_tree('yellow_tripdata')"
    pages = float(value(database_url, sizes))
    assert [question for question in asked if pages_read(database_url, question) / pages >= 0.03] == []
    assert value(database_url, asked[1]) == value(database_url, asked[0]) > 500


def ordered_month(folder: Path, month: str) -> Path:
    """A month in the order of its pickups, as TLC's are, roughly, but for a stray."""
    path = write_sample("yellow", month, folder / f"yellow_tripdata_{month}.parquet", 30_000)
    rows = pd.read_parquet(path).sort_values("tpep_pickup_datetime")
    rows.iloc[7_000, rows.columns.get_loc("tpep_pickup_datetime")] = pd.Timestamp("2008-12-31 23:59:01")
    rows.to_parquet(path)
    return path


def pages_read(url: str, question: str) -> int:
    """How many pages a question reads, those of indexes too."""
    [(explained,)] = query(url, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {question}")
    plan = explained[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


LOADED = "SELECT table_name, month, trips FROM loaded_months ORDER BY 1, 2"


def test_how_many_trips_each_month_has_is_read_from_the_ledger_alone(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    for path in months(tmp_path, range(1, 6)):
        loaded(path, database, "yellow")
    execute(database_url, plain_table("own"), plain_table("gone"))
    for name in ("own", "gone"):
        loaded(trips(tmp_path, [row(1), row(2)], "yellow_tripdata_2023-01.csv"), database, name)
    loaded(zones(tmp_path, "A"), database, "places")
    make_views(database, tables=["yellow"])
    undo(database, 1)
    loaded(months(tmp_path, range(2, 3))[0], database, "yellow", if_loaded="replace")
    execute(
        database_url,
        "DROP TABLE taxi_ingest.load_3, gone",
        "ALTER TABLE yellow DETACH PARTITION taxi_ingest.load_4",
        "ALTER TABLE yellow RENAME TO journeys",
    )
    assert query(database_url, LOADED) == [
        ("journeys", "2024-02", 1),
        ("journeys", "2024-05", 1),
        ("own", "2023-01", 2),
    ]
    plan = "\n".join(line for (line,) in query(database_url, f"EXPLAIN {LOADED}"))
    assert ("journeys" in plan, " on load_" in plan) == (False, False)


TOTALS = "SELECT array_agg(total_amount ORDER BY total_amount) FROM {}"


def test_the_views_outlast_replacement_undo_renaming_and_new_columns(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    first, second, third = months(tmp_path, range(1, 4))
    for path in (first, second):
        loaded(path, database, "yellow")
    make_views(database)
    undo(database, 1)
    assert value(database_url, TOTALS.format("trips")) == [2]
    trips(tmp_path, [row(20), row(21)], second.name)
    loaded(second, database, "yellow")
    more = "total_amount,VendorID,tpep_pickup_datetime,passenger_count,airport_fee,new_fee"
    loaded(csv_of(tmp_path, more, "3,1,2024-03-01 00:00:00,1,2.5,9", name=third.name), database, "yellow")
    execute(
        database_url,
        "CREATE SCHEMA attic",
        "ALTER TABLE yellow RENAME TO journeys",
        "ALTER TABLE journeys SET SCHEMA attic",
        "ALTER TABLE attic.journeys RENAME total_amount TO price",
    )
    for _ in range(2):
        assert value(database_url, TOTALS.format("trips")) == [3, 20, 21]
        assert value(database_url, "SELECT sum(airport_fee) FROM trips") == 2.5
        made = make_views(database)
        assert (str(made.tables["yellow"]), made.notes) == ("attic.journeys", ())


def test_a_load_that_would_widen_a_column_says_that_the_views_are_to_be_dropped_for_it(
    tmp_path: Path, embedded_database: Database
) -> None:
    url = embedded_database.address
    january, february = (
        write_sample("fhvhv", month, tmp_path / f"fhvhv_tripdata_{month}.parquet", 5)
        for month in ("2021-01", "2021-02")
    )
    loaded(january, embedded_database, "apps_trips")
    execute(url, "ALTER TABLE apps_trips ALTER trip_time TYPE smallint")
    make_views(embedded_database)
    with pytest.raises(DataError, match=r"these views use it: public\.fhvhv_trips") as refused:
        loaded(february, embedded_database, "apps_trips")
    assert "taxi-ingest views --drop" in refused.value.hint
    drop_views(embedded_database)
    loaded(february, embedded_database, "apps_trips")
    make_views(embedded_database)
    assert value(url, "SELECT count(*) FROM fhvhv_trips") == 10


def test_any_subset_of_the_datasets_will_do_and_what_is_loaded_later_is_taken_in(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    for path in (zones(tmp_path, "Newark", name="places.csv"), any_rows(tmp_path, 2)):
        loaded(path, database, path.stem)
        with pytest.raises(DataError, match="No trips are loaded yet"):
            make_views(database)
    assert relations(database_url) == {"places", "any"}
    execute(database_url, "DROP TABLE places")
    fhv = "dispatching_base_num,pickup_datetime,PUlocationID\nB1,2024-01-01 00:00:00,1\n"
    (tmp_path / "fhv_tripdata_2024-01.csv").write_text(fhv)
    loaded(tmp_path / "fhv_tripdata_2024-01.csv", database, "fhv")
    assert make_views(database).missing == ("yellow", "green", "fhvhv", "zones")
    counts = {view: value(database_url, f"SELECT count(*) FROM {view}") for view in VIEWS}
    assert {view for view, count in counts.items() if not count} == {
        *("trips", "fhvhv_trips", "zones", *SUMMING),
    }
    assert value(database_url, "SELECT pickup_zone FROM fhv_trips") is None
    loaded(months(tmp_path, range(1, 2))[0], database, "yellow")
    loaded(zones(tmp_path, "Newark"), database, "places")
    assert make_views(database).missing == ("green", "fhvhv")
    assert value(database_url, "SELECT pickup_zone FROM fhv_trips") == "Newark"
    assert value(database_url, "SELECT count(*) FROM trips") == 1


def test_an_unknown_code_or_zone_and_a_zone_that_is_there_twice_neither_lose_nor_double_a_trip(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    header = "VendorID,tpep_pickup_datetime,passenger_count,total_amount,payment_type,RatecodeID,PULocationID"
    rows = [
        f"{code},2024-01-01 00:00:00,1,2,{code},{code},{zone}" for code, zone in ((1, 1), (77, 300), ("", ""))
    ]
    loaded(csv_of(tmp_path, header, *rows, name="yellow_tripdata_2024-01.csv"), database, "yellow")
    execute(
        database_url, 'CREATE TABLE places ("LocationID" int, "Borough" text, "Zone" text, service_zone text)'
    )
    loaded(zones(tmp_path, "Newark"), database, "places")
    execute(database_url, "INSERT INTO places SELECT * FROM places")
    make_views(database)
    seen = query(database_url, "SELECT vendor_id, vendor, payment, rate, pickup_zone FROM trips ORDER BY 1")
    first = (1, "Creative Mobile Technologies", "Credit card", "Standard rate", "Newark")
    assert seen == [first, (77, None, None, None, None), (None, None, None, None, None)]


@pytest.mark.parametrize("names", ["tlc", "snake", "lower"])
def test_a_zone_that_was_found_by_coordinates_stands_where_tlc_names_none(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, names: Names
) -> None:
    header = "VendorID,tpep_pickup_datetime,passenger_count,total_amount,PULocationID"
    rows = [f"1,2024-01-01 00:00:00,1,{amount},{zone}" for amount, zone in ((1, 2), (2, ""))]
    loaded(
        csv_of(tmp_path, header, *rows, name="yellow_tripdata_2024-01.csv"),
        embedded_database,
        "t",
        names=names,
    )
    execute(
        embedded_database_url,
        "ALTER TABLE t ADD assigned_pickup_zone integer, ADD assigned_dropoff_zone integer",
        "UPDATE t SET assigned_pickup_zone = 1, assigned_dropoff_zone = 3",
    )
    make_views(embedded_database)
    ends = "SELECT pickup_location_id, dropoff_location_id FROM trips ORDER BY total_amount"
    assert query(embedded_database_url, ends) == [(2, 3), (1, 3)]


def test_a_table_of_the_users_own_is_read_whatever_its_types_and_columns(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    execute(
        database_url,
        'CREATE TABLE own ("VendorID" bigint, tpep_pickup_datetime timestamp,'
        " passenger_count double precision, total_amount numeric)",
    )
    loaded(trips(tmp_path, [row(2.5, 3, pickup="2024-07-01 12:00:00")]), database, "own")
    execute(
        database_url,
        "ALTER TABLE own ALTER tpep_pickup_datetime TYPE timestamptz"
        " USING tpep_pickup_datetime AT TIME ZONE 'America/New_York'",
    )
    made = make_views(database)
    [note] = made.notes
    assert note.startswith("own has no column tpep_dropoff_datetime, ")
    told = "vendor, pickup_datetime::text, passenger_count, total_amount, load_id, duration_minutes"
    [trip] = query(database_url, f"SELECT {told} FROM trips")
    assert trip == ("Creative Mobile Technologies", "2024-07-01 12:00:00", 3, 2.5, None, None)


def test_trips_of_several_parts_are_one_loads(tmp_path: Path, database: Database, database_url: str) -> None:
    path = trips(tmp_path, [row(number) for number in range(60)])
    loaded(path, database, "yellow", connections=2, on_progress=together(database_url, 2))
    make_views(database)
    told = "SELECT load_id, file_month, count(*), sum(total_amount) FROM trips GROUP BY 1, 2"
    assert query(database_url, told) == [(1, "2024-01", 60, 1770)]
    assert query(database_url, "SELECT files, trips FROM loaded_months") == [(1, 60)]


def test_of_several_tables_with_a_dataset_the_usual_one_is_read_or_the_one_that_is_named_and_then_stays(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    january, february, march = months(tmp_path, range(1, 4))
    loaded(january, database, "one")
    loaded(february, database, "two")
    with pytest.raises(UsageError, match="Several tables hold yellow: one, two"):
        make_views(database)
    assert "trips" not in relations(database_url)
    with pytest.raises(UsageError, match="Nothing of TLC's was loaded into three"):
        make_views(database, tables=["three"])
    assert totals_after(database, database_url, tables=["two"]) == [2]
    loaded(march, database, "yellow_tripdata")
    assert totals_after(database, database_url) == [2]
    drop_views(database)
    assert totals_after(database, database_url) == [3]


def totals_after(database: Database, url: str, tables: tuple[str, ...] | list[str] = ()) -> object:
    make_views(database, tables=tables)
    return value(url, TOTALS.format("trips"))


def relations(url: str) -> set[str]:
    """All tables and views in the schema public."""
    found = query(
        url,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm')"
        " AND relnamespace = 'public'::regnamespace",
    )
    return {name for (name,) in found}


# What else is there


@pytest.fixture
def yellow(tmp_path: Path, database: Database) -> Path:
    """One month with one trip, loaded into the table yellow."""
    [path] = months(tmp_path, range(1, 2))
    loaded(path, database, "yellow")
    return path


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE trips_daily (day date)",
        "CREATE VIEW trips AS SELECT 1 AS x",
        "CREATE SEQUENCE vendors",
        "CREATE MATERIALIZED VIEW zone_revenue_monthly AS SELECT 1 AS x",
    ],
)
def test_what_has_a_views_name_and_is_somebody_elses_is_left_as_it_is(
    yellow: Path, database: Database, database_url: str, statement: str
) -> None:
    del yellow
    execute(database_url, statement)
    before = value(database_url, "SELECT array_agg(oid::text ORDER BY oid) FROM pg_class")
    with pytest.raises(DataError, match=f"did not make {statement.replace('MATERIALIZED ', '').split()[2]},"):
        make_views(database)
    assert drop_views(database) == []
    assert value(database_url, "SELECT array_agg(oid::text ORDER BY oid) FROM pg_class") == before


def test_what_is_built_upon_the_views_outlasts_them_or_they_stay(
    yellow: Path, database: Database, database_url: str, tmp_path: Path
) -> None:
    make_views(database)
    execute(
        database_url,
        "CREATE VIEW mine AS SELECT day, trips FROM trips_daily",
        "CREATE VIEW dear AS SELECT * FROM trips WHERE total_amount > 100",
    )
    loaded(
        write_sample("green", "2021-05", tmp_path / "green_tripdata_2021-05.parquet", 5), database, "green"
    )
    make_views(database)
    assert value(database_url, "SELECT sum(trips) FROM mine") == 6
    for act in (lambda: drop_views(database), lambda: make_views(database, materialize=True)):
        with pytest.raises(DataError, match=r"view public\.mine depends on view public\.trips_daily"):
            act()
    assert relations(database_url) >= {*VIEWS, "mine", "dear"}
    execute(database_url, "DROP VIEW mine")
    # What is built upon the trips does not stand in the way of the sums.
    make_views(database, materialize=True)
    with pytest.raises(DataError, match=r"view public\.dear depends on view public\.trips"):
        drop_views(database)
    execute(database_url, "DROP VIEW dear")
    assert drop_views(database) == list(VIEWS)
    assert relations(database_url) == {"yellow", "green"}
    assert yellow.exists()


def test_views_of_a_version_with_other_columns_are_made_anew_unless_something_is_built_upon_them(
    yellow: Path, database: Database, database_url: str
) -> None:
    del yellow
    mark = "COMMENT ON VIEW trips IS 'taxi-ingest: view. Of old.'"
    execute(
        database_url,
        "CREATE VIEW trips AS SELECT 1 AS old",
        mark,
        "CREATE VIEW mine AS SELECT old FROM trips",
    )
    with pytest.raises(DataError, match=r"view public\.mine depends on view public\.trips"):
        make_views(database)
    assert query(database_url, "SELECT * FROM mine") == [(1,)]
    execute(database_url, "DROP VIEW mine")
    make_views(database)
    assert value(database_url, TOTALS.format("trips")) == [1]


def test_who_may_read_the_views_needs_no_right_on_the_tables_and_keeps_it_when_they_are_made_anew(
    yellow: Path, database: Database, database_url: str
) -> None:
    del yellow
    make_views(database)
    execute(
        database_url,
        'CREATE ROLE "an alyst"',
        'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "an alyst"; REVOKE ALL ON yellow FROM "an alyst"',
    )
    analyst = url_with(database_url, options="-c role=an\\ alyst")
    try:
        for materialize in (None, True, True, False):
            make_views(database, materialize=materialize)
            counts = [value(analyst, f"SELECT count(*) FROM {view}") for view in VIEWS]
            assert counts[-6:] == [1, 0, 0, 1, 1, 1]
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(analyst, "SELECT * FROM yellow")
    finally:
        execute(database_url, 'DROP OWNED BY "an alyst"', 'DROP ROLE "an alyst"')


# Who makes them


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """The database's address for a role without rights."""
    execute(database_url, "CREATE ROLE eve")
    yield url_with(database_url, options="-c role=eve")
    execute(database_url, "DROP OWNED BY eve CASCADE", "DROP ROLE eve")


LEDGER = "GRANT USAGE ON SCHEMA taxi_ingest TO eve; GRANT SELECT ON ALL TABLES IN SCHEMA taxi_ingest TO eve"


@pytest.mark.parametrize(
    ("rights", "refused"),
    [
        (("GRANT CREATE ON SCHEMA public TO eve",), "permission denied for"),
        (("GRANT CREATE ON SCHEMA public TO eve", LEDGER), "You may not read yellow"),
        (
            (LEDGER, "GRANT SELECT ON yellow TO eve", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
            "permission denied",
        ),
    ],
)
def test_who_lacks_a_right_is_told_and_nothing_is_made(
    yellow: Path, database_url: str, role: str, rights: tuple[str, ...], refused: str
) -> None:
    del yellow
    execute(database_url, *rights)
    with pytest.raises(DatabaseError, match=refused):
        make_views(database_at(role))
    assert relations(database_url) == {"yellow"}


def test_views_that_a_stranger_has_put_there_as_ours_are_refused(
    yellow: Path, database: Database, database_url: str, role: str
) -> None:
    del yellow
    execute(database_url, "GRANT CREATE ON SCHEMA public TO eve")
    execute(role, "CREATE VIEW trips AS SELECT 1 AS x", "COMMENT ON VIEW trips IS 'taxi-ingest: view. Mine.'")
    for act in (make_views, drop_views, refresh_views):
        with pytest.raises(DatabaseError, match="belong to eve"):
            act(database)
    assert query(database_url, "SELECT * FROM trips") == [(1,)]


def test_what_lies_in_the_schema_is_never_taken_for_postgres_own(
    yellow: Path, database: Database, database_url: str
) -> None:
    del yellow
    execute(
        database_url,
        "CREATE FUNCTION count() RETURNS int LANGUAGE sql AS 'SELECT 1 / 0'",
        "CREATE FUNCTION date_trunc(text, timestamp) RETURNS timestamp LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'taken'; END$$",
        "CREATE TABLE pg_class (oid int)",
    )
    execute(
        database_url, f"ALTER DATABASE {database_name(database_url)} SET search_path = public, pg_catalog"
    )
    make_views(database, materialize=True)
    assert query(database_url, "SELECT hour::text FROM trips_hourly_by_zone") == [("2024-01-15 12:00:00",)]


def database_name(url: str) -> str:
    return str(value(url, "SELECT current_database()"))


# Those that keep their rows


def test_the_materialised_ones_are_refreshed_while_they_are_read(
    yellow: Path, database: Database, database_url: str, tmp_path: Path
) -> None:
    del yellow
    with pytest.raises(UsageError, match="no materialised views"):
        refresh_views(database)
    make_views(database, materialize=True)
    loaded(months(tmp_path, range(2, 3))[0], database, "yellow")
    with held(database_url, "SELECT * FROM trips_daily") as reader:
        assert refresh_views(database) == list(SUMMING)
        with reader.cursor() as cursor:
            cursor.execute("SELECT sum(trips) FROM trips_daily")
            assert cursor.fetchone() == (2,)
    loaded(months(tmp_path, range(3, 4))[0], database, "yellow")
    # Those who read also go on where only the rows are others.
    with held(database_url, "SELECT * FROM trips_daily, trips"):
        assert make_views(database).materialized == SUMMING
    for view in SUMMING:
        assert value(database_url, f"SELECT sum(trips) FROM {view}") == 3
    assert make_views(database, materialize=False).materialized == ()
    assert value(database_url, "SELECT count(*) FROM pg_class WHERE relname LIKE '%being_made%'") == 0


def test_who_reads_a_view_that_is_another_now_is_waited_for(
    yellow: Path, database: Database, database_url: str, tmp_path: Path
) -> None:
    del yellow
    make_views(database)
    loaded(
        write_sample("green", "2021-05", tmp_path / "green_tripdata_2021-05.parquet", 5), database, "green"
    )
    reader = held(database_url, "SELECT * FROM trips")
    makers = [Background(lambda: make_views(database)) for _ in range(2)]
    # Nobody queues behind those who wait.
    assert value(database_url, "SELECT count(*) FROM trips") == 1
    reader.close()
    assert [maker.result().missing for maker in makers] == [("fhv", "fhvhv", "zones")] * 2
    assert value(database_url, "SELECT count(*) FROM trips") == 6


# The command line


def test_loads_offer_the_views_and_make_them_when_told(
    cli: Cli, publish: Publish, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    publish("2024-01", 30)
    one = ("ingest", "--dataset", "yellow", "--month", "2024-01")
    many = ("backfill", "yellow", "2024-01")
    for load in (one, many):
        assert "\nviews    taxi-ingest views  #" in cli(*load).stdout
    elsewhere = (*many, "--table", "other", "--database-url", embedded_database_url)
    assert (
        "\nviews    taxi-ingest views --table other --database-url 'postgresql://" in cli(*elsewhere).stdout
    )
    assert cli(*elsewhere, "--views", "--dry-run").returncode == 0
    assert "trips" not in relations(embedded_database_url)
    assert "\nreading  yellow_tripdata (yellow)\n" in cli(*one, "--views").stdout
    done = cli(*elsewhere, "--views", "--json")
    assert json.loads(done.stdout)["views"]["tables"] == {"yellow": "other"}
    execute(embedded_database_url, "DROP VIEW trips_daily", "CREATE TABLE trips_daily ()")
    done = cli(*many, "--views", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"], told["skipped"]) == (4, "failed", 1)
    assert "did not make trips_daily" in told["error"]


def test_the_command_makes_refreshes_and_drops_the_views_of_a_schema(
    yellow: Path, cli: Cli, database_url: str
) -> None:
    del yellow
    execute(database_url, "CREATE SCHEMA answers")
    ours = ("views", "--database-url", database_url, "--schema", "answers")
    done = cli(*ours, "--materialize", "--table", "yellow")
    assert done.returncode == 0, done.stderr
    for said in (
        "Views are up to date",
        "reading  yellow (yellow)",
        "missing  green, fhv",
        "zones have no names",
    ):
        assert said in done.stdout
    assert json.loads(cli(*ours, "--json").stdout)["materialized"] == list(SUMMING)
    assert json.loads(cli(*ours, "--refresh", "--json").stdout)["views"] == list(SUMMING)
    assert cli(*ours, "--quiet").stdout == ""
    assert json.loads(cli(*ours, "--drop", "--json").stdout)["views"] == list(VIEWS)
    assert "There are no views in answers" in cli(*ours, "--drop").stdout


@pytest.mark.parametrize(
    ("flags", "code", "error"),
    [
        (("--schema", "nowhere"), 5, 'schema "nowhere" does not exist'),
        (("--schema", "taxi_ingest"), 2, "has for itself"),
        (("--schema", ""), 2, "--schema is empty"),
        (("--schema", "x" * 64), 2, "is no schema's name"),
        (("--table", ""), 2, "is no table name"),
        (("--table", "other"), 2, "Nothing of TLC's was loaded into other"),
        (("--refresh",), 2, "no materialised views"),
        (("--refresh", "--drop"), 2, "one at a time"),
        (("--drop", "--materialize"), 2, "one at a time"),
        (("--drop", "--table", "yellow"), 2, "one at a time"),
        ((), 4, "No trips are loaded yet"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_and_changes_nothing(
    embedded_database: Database,
    embedded_database_url: str,
    tmp_path: Path,
    cli: Cli,
    flags: tuple[str, ...],
    code: int,
    error: str,
) -> None:
    if flags:
        loaded(months(tmp_path, range(1, 2))[0], embedded_database, "yellow")
    done = cli("views", *flags, "--json", "--database-url", embedded_database_url)
    assert (done.returncode, error in json.loads(done.stdout)["error"]) == (code, True), done.stdout
    assert relations(embedded_database_url) <= {"yellow"}


# Names


def test_names_in_lower_case_are_found_by_sql_without_quotes_and_remembered(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    path = write_sample("yellow", "2021-05", tmp_path / "yellow_tripdata_2021-05.parquet", 5)
    loaded(path, database, "yellow", names="lower")
    asked = "SELECT VendorID, PULocationID, tpep_pickup_datetime, Airport_fee FROM yellow"
    assert len(query(database_url, asked)) == 5
    other = csv_of(tmp_path, "Trip ID,trip id,Ärger", "1,2,3")
    loaded(other, database, "any", names="lower")
    columns = (
        "SELECT attname FROM pg_attribute WHERE attrelid = '\"any\"'::regclass AND attnum > 1 ORDER BY attnum"
    )
    assert query(database_url, columns) == [("trip id",), ("trip id_2",), ("ärger",)]
    assert query(database_url, "SELECT DISTINCT names FROM taxi_ingest.loads") == [("lower",)]


def test_every_code_has_one_meaning(yellow: Path, database: Database, database_url: str) -> None:
    del yellow
    make_views(database)
    assert query(database_url, "TABLE payment_types") == [
        *(
            (0, "Flex fare"),
            (1, "Credit card"),
            (2, "Cash"),
            (3, "No charge"),
            (4, "Dispute"),
            (5, "Unknown"),
        ),
        (6, "Voided trip"),
    ]
    assert query(database_url, "SELECT * FROM vendor_names ORDER BY 1") == [
        ("CMT", 1, "Creative Mobile Technologies"),
        ("DDS", None, "Digital Dispatch Systems"),
        ("VTS", 2, "Curb Mobility"),
    ]
    assert query(database_url, "TABLE apps") == [
        *(("HV0002", "Juno"), ("HV0003", "Uber"), ("HV0004", "Via"), ("HV0005", "Lyft")),
    ]
    assert value(database_url, "SELECT count(*) FROM payment_names WHERE payment IS NULL") == 0
