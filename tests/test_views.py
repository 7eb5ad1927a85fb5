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
    url_with,
    value,
)
from reckoning import all_trips, check_equal, column
from taxi_ingest.errors import DatabaseError, DataError, TaxiIngestError, UsageError
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
            assert loaded(path, database, f"staging.{dataset}", names=names).record.rows_rejected == 0
    loaded(lookup, database, "staging.places", names=names)
    made = make_views(database, schema=schema, materialize=materialize)
    assert (made.missing, made.notes) == ((), ())
    assert made.materialized == (SUMMING if materialize else ())
    check_all(database_url, files, lookup, quoted)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no real TLC files: {SHARED_DATA} is absent")
def test_every_view_says_what_pandas_reckons_from_real_files(
    embedded_database: Database, embedded_database_url: str
) -> None:
    files = {
        dataset: sorted(SHARED_DATA.glob(f"csv_heads/{dataset}_tripdata_20*[0-9]-*.csv"))[::4]
        for dataset in GENERATED
    }
    files["green"].append(SHARED_DATA / "parquet" / "green_tripdata_2023-10.parquet")
    files["yellow"].append(SHARED_DATA / "parquet" / "yellow_tripdata_2025-02.parquet")
    lookup = SHARED_DATA / "zones" / "taxi+_zone_lookup.csv"
    for dataset, paths in files.items():
        for path in paths:
            assert loaded(path, embedded_database, f"{dataset}_tripdata").record.rows_rejected == 0
    loaded(lookup, embedded_database, "taxi_zones")
    make_views(embedded_database)
    check_all(embedded_database_url, files, lookup)
