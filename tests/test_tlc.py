"""The catalogue knows every era's names."""

import csv
import subprocess
import sys
from collections.abc import Callable
from datetime import date

import pytest

from helpers import ROOT, SHARED_DATA
from taxi_ingest import tlc
from taxi_ingest.errors import UsageError
from taxi_ingest.transform import open_stream


def header_of(dataset: str, era: str) -> list[str]:
    return {
        (
            "yellow",
            "2009",
        ): "vendor_name,Trip_Pickup_DateTime,Trip_Dropoff_DateTime,Passenger_Count,Trip_Distance,"
        "Start_Lon,Start_Lat,Rate_Code,store_and_forward,End_Lon,End_Lat,Payment_Type,Fare_Amt,surcharge,mta_tax,"
        "Tip_Amt,Tolls_Amt,Total_Amt",
        ("yellow", "2014"): "vendor_id, pickup_datetime, dropoff_datetime, passenger_count, trip_distance, "
        "pickup_longitude, pickup_latitude, rate_code, store_and_fwd_flag, dropoff_longitude, "
        "dropoff_latitude, payment_type, fare_amount, surcharge, mta_tax, tip_amount, tolls_amount, "
        "total_amount",
        ("fhv", "2018"): "Pickup_DateTime,DropOff_datetime,PUlocationID,DOlocationID,SR_Flag,"
        "Dispatching_base_number,Dispatching_base_num",
    }[dataset, era].split(",")


def mapped(header: list[str]) -> dict[str, str | None]:
    dataset = tlc.recognise(header)
    assert dataset
    names = frozenset(map(tlc.normalise, header))
    columns = {name.strip(): dataset.column_of(tlc.normalise(name), names) for name in header}
    return {name: column.name if column else None for name, column in columns.items()}


def test_a_text_code_of_2009_gets_a_column_of_its_own() -> None:
    columns = mapped(header_of("yellow", "2009"))
    assert columns["Payment_Type"] == "payment_type_name"
    assert columns["vendor_name"] == "vendor_name"
    assert columns["Start_Lon"] == "pickup_longitude"


def test_names_of_2014_are_known_despite_their_leading_blanks() -> None:
    columns = mapped(header_of("yellow", "2014"))
    assert columns["pickup_datetime"] == "tpep_pickup_datetime"
    assert columns["vendor_id"] == "vendor_name"
    assert None not in columns.values()


def test_both_base_numbers_of_2018_are_kept() -> None:
    columns = mapped(header_of("fhv", "2018"))
    assert columns["Dispatching_base_number"] == "dispatching_base_num"
    assert columns["Dispatching_base_num"] == "dispatching_base_num_2018"


def test_a_file_of_someone_else_is_no_dataset() -> None:
    assert tlc.recognise(["id", "pickup_datetime", "price"]) is None


@pytest.mark.parametrize(
    ("name", "dataset", "month"),
    [
        ("green_tripdata_2024-01.parquet", "green", "2024-01"),
        ("https://host/trip-data/fhvhv_tripdata_2019-02.parquet?x=1", "fhvhv", "2019-02"),
        ("fhvhv_tripdata_2021-06_fhv_layout.csv", "fhvhv", "2021-06"),
        ("fhv_tripdata_2015-13.csv", None, None),
        ("trips.csv", None, None),
    ],
)
def test_a_file_name_hints_at_dataset_and_month(name: str, dataset: str | None, month: str | None) -> None:
    assert tlc.parse_file_name(name) == tlc.FileName(dataset, month)


def test_names_of_a_dataset_are_unique_in_both_spellings() -> None:
    for dataset in tlc.datasets():
        for names in ([c.name.lower() for c in dataset.columns], [c.snake for c in dataset.columns]):
            assert len(set(names)) == len(names)


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no real TLC files on this machine")
def test_every_published_csv_header_is_known_whole() -> None:
    paths = sorted((SHARED_DATA / "csv_heads").glob("*.csv"))
    assert len(paths) >= 230
    for path in paths:
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        dataset = tlc.recognise(header)
        assert dataset is not None
        assert dataset.name == tlc.parse_file_name(path.name).dataset
        assert None not in mapped(header).values(), path.name


def test_the_documented_columns_are_those_of_the_catalogue() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / "columns"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / "docs" / "columns.md").read_text()


def test_a_month_has_its_address() -> None:
    green = tlc.dataset_named("green")
    assert tlc.addresses(green, "2024-01", tlc.TLC_URL, date(2024, 5, 1))[0] == (
        "https://d37ci6vzurychx.cloudfront.net/trip-data/green_tripdata_2024-01.parquet"
    )
    for month in ("2013-07", "2024-06", "2024-13", "January"):
        with pytest.raises(UsageError):
            tlc.addresses(green, month, tlc.TLC_URL, date(2024, 5, 1))
    with pytest.raises(UsageError, match="no dataset 'pink'"):
        tlc.dataset_named("pink")


def test_known_counts_keep_csv_and_parquet_apart() -> None:
    assert tlc.known_rows("yellow", "2021-01", "parquet") == 1_369_769
    assert (
        tlc.known_rows("yellow", "2021-01", "csv.gz")
        == tlc.known_rows("yellow", "2021-01", "csv")
        == 1_369_765
    )
    assert tlc.known_rows("yellow", "2009-01", "csv") is None
    assert tlc.known_rows(None, None, "csv") is None


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no real TLC files on this machine")
def test_every_text_code_in_the_real_files_is_documented() -> None:
    documented = {(column, value) for column, value, _ in tlc.coded_values("yellow")}
    for path in (SHARED_DATA / "csv_heads").glob("yellow_tripdata_20*.csv"):
        stream = open_stream(path, path.name, 1000)
        convert = stream.converter()
        for piece in stream.pieces():
            rows = convert(piece).rows
            for name in {"vendor_name", "payment_type_name", "store_and_fwd_flag"} & set(rows.schema.names):
                found = {(name, value) for value in rows.column(name).unique().to_pylist() if value}
                assert found <= documented, path.name


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (tlc.dataset_named, "yelow", "Did you mean yellow?"),
        (tlc.dataset_named, "Green", "Did you mean green?"),
        (tlc.dataset_named, "fhvh", "Did you mean fhv"),
        (tlc.dataset_named, "zone", "Did you mean zones?"),
        (tlc.dataset_named, "", "Choose one of yellow"),
        (tlc.trips_named, "yelow", "Did you mean yellow? There are yellow, green, fhv, fhvhv."),
        (tlc.trips_named, "zone", "Choose one of yellow, green, fhv, fhvhv."),
        (tlc.parse_month, "2024-1", "Did you mean 2024-01?"),
        (tlc.parse_month, "2024/01", "Did you mean 2024-01?"),
        (tlc.parse_month, "202401", "Did you mean 2024-01?"),
        (tlc.parse_month, "2024-01-15", "Did you mean 2024-01?"),
        (tlc.parse_month, "Jan 2024", "Did you mean 2024-01?"),
        (tlc.parse_month, "2024 September", "Did you mean 2024-09?"),
        (tlc.parse_month, "01/2024", "Did you mean 2024-01?"),
        (tlc.dataset_named, "hvfhv", "Did you mean fhvhv?"),
        (tlc.dataset_named, "green_tripdata", "Did you mean green?"),
        (tlc.parse_month, "2024-13", "Write it like 2024-01."),
        (tlc.parse_month, "", "Write it like 2024-01."),
    ],
)
def test_a_near_miss_is_named(parse: Callable[[str], object], text: str, hint: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse(text)
    assert hint in failure.value.hint
