"""Made-up files look as TLC's do, byte for byte where that is known, and are read without rejects."""

import gzip
import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import SHARED_DATA
from taxi_ingest import tlc
from taxi_ingest.errors import UsageError
from taxi_ingest.tlc.sample import FORMATS, Era, eras, file_name, write_sample
from taxi_ingest.tlc.sample.__main__ import main
from taxi_ingest.transform import CanonicalBatch, Misjudged, open_stream

ROWS = 300
ERAS = [pytest.param(era, id=f"{era.dataset}-{era.format}-{era.first}") for era in eras()]

YELLOW_2009 = (
    b"vendor_name,Trip_Pickup_DateTime,Trip_Dropoff_DateTime,Passenger_Count,Trip_Distance,Start_Lon,"
    b"Start_Lat,Rate_Code,store_and_forward,End_Lon,End_Lat,Payment_Type,Fare_Amt,surcharge,mta_tax,"
    b"Tip_Amt,Tolls_Amt,Total_Amt\n\r\n"
)
YELLOW_2014 = (
    b"vendor_id, pickup_datetime, dropoff_datetime, passenger_count, trip_distance, pickup_longitude, "
    b"pickup_latitude, rate_code, store_and_fwd_flag, dropoff_longitude, dropoff_latitude, payment_type, "
    b"fare_amount, surcharge, mta_tax, tip_amount, tolls_amount, total_amount\n\r\n"
)
YELLOW_2016_07 = (
    b"VendorID,tpep_pickup_datetime,tpep_dropoff_datetime,passenger_count,trip_distance,RatecodeID,"
    b"store_and_fwd_flag,PULocationID,DOLocationID,payment_type,fare_amount,extra,mta_tax,tip_amount,"
    b"tolls_amount,improvement_surcharge,total_amount\r\n"
)
GREEN_2014 = (
    b"VendorID,lpep_pickup_datetime,Lpep_dropoff_datetime,Store_and_fwd_flag,RateCodeID,Pickup_longitude,"
    b"Pickup_latitude,Dropoff_longitude,Dropoff_latitude,Passenger_count,Trip_distance,Fare_amount,Extra,"
    b"MTA_tax,Tip_amount,Tolls_amount,Ehail_fee,Total_amount,Payment_type,Trip_type \n\n\r\n"
)
FHV_2018 = (
    b'"Pickup_DateTime","DropOff_datetime","PUlocationID","DOlocationID","SR_Flag",'
    b'"Dispatching_base_number","Dispatching_base_num"\r\n'
)
ZONES = b'"LocationID","Borough","Zone","service_zone"\r\n'


def months(era: Era) -> set[str]:
    """The first and the last month of an era."""
    return {era.first, era.last or max(era.first, "2025-11")} if era.first else {""}


def sample(folder: Path, dataset: str, month: str, format: str = "csv", rows: int = ROWS) -> Path:
    return write_sample(dataset, month, folder / file_name(dataset, month, format), rows)


def convert(path: Path, month: str) -> list[CanonicalBatch]:
    """All rows of a file, as they go to Postgres."""
    stream = open_stream(path, path.name, 200)
    assert stream.plan.dataset is not None
    assert stream.plan.month == (month or None)
    assert not stream.plan.warnings
    try:
        return [stream.converter()(piece) for piece in stream.pieces()]
    except Misjudged as reason:
        pytest.fail(f"a column that no catalogue knows: {reason}")


@pytest.mark.parametrize("era", ERAS)
def test_every_era_is_read_without_rejects(era: Era, tmp_path: Path) -> None:
    for month in months(era):
        for format in FORMATS:
            path = sample(tmp_path, era.dataset, month, format)
            batches = convert(path, month)
            expected = ROWS if month else 265
            assert [reject for batch in batches for reject in batch.rejects] == []
            assert sum(batch.rows.num_rows for batch in batches) == expected
            assert open_stream(path, path.name, 200).plan.dataset == era.dataset
            assert not open_stream(path, path.name, 200).plan.unknown


@pytest.mark.parametrize("era", [era for era in ERAS if era.values[0].format == "csv"])
def test_a_csv_has_the_eras_line_ends_and_fields(era: Era, tmp_path: Path) -> None:
    text = sample(tmp_path, era.dataset, era.first).read_bytes()
    head, end = real_header(text)
    assert re.sub(b'"', b"", head).decode().split(",") == [field.name for field in era.fields]
    assert end.decode() == era.header_end
    assert text.endswith(era.row_end.encode())
    rows = text[len(head + end) :].decode().removesuffix(era.row_end).split(era.row_end)
    assert not any("\r" in row or "\n" in row for row in rows)
    assert {row.count(",") + 1 for row in rows} == {era.width}


@pytest.mark.parametrize(
    ("dataset", "month", "header", "fields"),
    [
        ("yellow", "2009-06", YELLOW_2009, 18),
        ("yellow", "2014-12", YELLOW_2014, 18),
        ("yellow", "2016-12", YELLOW_2016_07, 19),
        ("green", "2014-01", GREEN_2014, 22),
        ("fhv", "2018-03", FHV_2018, 7),
        ("zones", "", ZONES, 4),
    ],
)
def test_headers_are_tlcs(dataset: str, month: str, header: bytes, fields: int, tmp_path: Path) -> None:
    text = sample(tmp_path, dataset, month).read_bytes()
    assert text.startswith(header)
    row, _, _ = text[len(header) :].partition(b"\r\n")
    assert row.count(b",") + 1 == fields


def real_header(text: bytes) -> tuple[bytes, bytes]:
    """The first line, and the line ends up to the first row."""
    match = re.match(rb"([^\r\n]*)([\r\n]+)", text)
    assert match
    return match[1], match[2]


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real files are not here")
def test_headers_equal_those_of_all_real_files(tmp_path: Path) -> None:
    files = [
        file for folder in ("csv_heads", "csv") for file in (SHARED_DATA / folder).glob("*_tripdata_*.csv")
    ]
    assert len(files) > 200
    for file in files:
        hint = tlc.parse_file_name(file.name)
        assert hint.dataset
        assert hint.month
        made = sample(tmp_path, hint.dataset, hint.month, rows=3).read_bytes()
        assert real_header(made) == real_header(file.read_bytes()), file.name


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real files are not here")
def test_zones_are_those_of_the_real_file(tmp_path: Path) -> None:
    real = (SHARED_DATA / "zones" / "taxi_zone_lookup.csv").read_bytes().splitlines(keepends=True)
    made = sample(tmp_path, "zones", "").read_bytes().splitlines(keepends=True)
    assert len(made) == len(real)
    for line in (0, 1, 264, 265):
        assert made[line] == real[line]


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the real files are not here")
@pytest.mark.parametrize(
    "name",
    [
        "green_tripdata_2022-01",
        "green_tripdata_2023-01",
        "green_tripdata_2023-03",
        "green_tripdata_2024-01",
        "green_tripdata_2025-01",
        "yellow_tripdata_2024-01",
    ],
)
def test_parquet_types_are_those_of_real_files(name: str, tmp_path: Path) -> None:
    hint = tlc.parse_file_name(name)
    made = sample(tmp_path, str(hint.dataset), str(hint.month), "parquet")
    real = pq.read_schema(SHARED_DATA / "parquet" / f"{name}.parquet")
    assert pq.read_schema(made).equals(real, check_metadata=False)


def test_parquet_is_one_row_group_of_zstd_with_the_types_of_its_years(tmp_path: Path) -> None:
    old, new = (pq.ParquetFile(sample(tmp_path, "yellow", m, "parquet")) for m in ("2022-12", "2025-01"))
    assert (new.num_row_groups, new.metadata.row_group(0).column(0).compression) == (1, "ZSTD")
    assert old.schema_arrow.field("airport_fee").type == pa.float64()
    assert old.schema_arrow.field("passenger_count").type == pa.float64()
    assert new.schema_arrow.field("VendorID").type == pa.int32()
    assert new.schema_arrow.field("store_and_fwd_flag").type == pa.large_string()
    assert new.schema_arrow.names[-2:] == ["Airport_fee", "cbd_congestion_fee"]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_seed_is_the_same_bytes(format: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{format}" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_sample("green", "2015-01", path, 100, seed)
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same
    assert first != other


def test_packed_is_the_plain_file(tmp_path: Path) -> None:
    plain, packed = (sample(tmp_path, "yellow", "2011-05", format) for format in ("csv", "csv.gz"))
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()


@pytest.mark.parametrize(
    ("dataset", "month", "pattern"),
    [
        ("yellow", "2009-01", r"(VTS|CMT|DDS),2009-01-\d\d [\d:]{8},.*,-73\.9\d{13,15},.*,,,.*"),
        ("yellow", "2009-01", r".*,\d+\.\d{14,16},.*"),
        ("yellow", "2015-01", r"[12],2015-01-.*,\.\d\d,.*"),
        ("yellow", "2019-01", r"[12],2019-01-.*,\d+\.\d0,.*,N,.*"),
        ("fhv", "2015-01", r"B\d{5},2015-01-\d\d [\d:]{8},"),
        ("fhv", "2018-01", r'"2018-01-\d\d [\d:]{8}","[^"]*","\d+","\d+","","B\d{5}",""'),
        ("fhv", "2018-01", r'"2018-01-\d\d [\d:]{8}","[^"]*","","","1","B\d{5}",""'),
        ("fhvhv", "2021-01", r"HV000\d,.*,0\.0,.*,N,N, ,N,N"),
    ],
)
def test_values_are_spelled_as_in_their_years(dataset: str, month: str, pattern: str, tmp_path: Path) -> None:
    lines = sample(tmp_path, dataset, month, rows=2000).read_text().splitlines()
    assert any(re.fullmatch(pattern, line) for line in lines)


def test_trips_are_plausible(tmp_path: Path) -> None:
    rows = pq.read_table(sample(tmp_path, "yellow", "2024-02", "parquet", rows=5000)).to_pylist()
    parts = [
        "fare_amount",
        "extra",
        "mta_tax",
        "tip_amount",
        "tolls_amount",
        "improvement_surcharge",
        "congestion_surcharge",
        "Airport_fee",
    ]
    for row in rows:
        assert row["total_amount"] == round(sum(row[part] or 0 for part in parts), 2)
        assert datetime(2024, 2, 1) <= row["tpep_pickup_datetime"] < datetime(2024, 3, 1)
        assert row["tpep_pickup_datetime"] < row["tpep_dropoff_datetime"]
    refunds = sum(row["total_amount"] < 0 for row in rows)
    assert 0.005 < refunds / len(rows) < 0.02
    assert 0 < sum(row["passenger_count"] is None for row in rows) < 500


def test_a_month_is_alike_in_both_formats(tmp_path: Path) -> None:
    csv, parquet = (
        convert(sample(tmp_path, "green", "2018-01", format), "2018-01")[0].rows
        for format in ("csv", "parquet")
    )
    assert csv.column("total_amount").equals(parquet.column("total_amount"))
    assert csv.column("lpep_pickup_datetime").equals(parquet.column("lpep_pickup_datetime"))


def test_a_file_may_be_empty(tmp_path: Path) -> None:
    assert sample(tmp_path, "yellow", "2019-01", rows=0).read_bytes().count(b"\n") == 1
    assert pq.read_metadata(sample(tmp_path, "yellow", "2019-01", "parquet", rows=0)).num_rows == 0


@pytest.mark.parametrize(
    ("dataset", "month", "name"),
    [
        ("yellow", "2008-12", "x.csv"),
        ("yellow", "2024-13", "x.csv"),
        ("yellow", "later", "x.csv"),
        ("purple", "2024-01", "x.csv"),
        ("yellow", "2024-01", "x.xlsx"),
    ],
)
def test_what_tlc_does_not_have_is_refused(dataset: str, month: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_sample(dataset, month, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_the_command_writes_a_file_and_prints_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert main(["green", "2024-01", str(folder), "--rows", "10"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == folder / "green_tripdata_2024-01.parquet"
    assert pq.read_metadata(path).num_rows == 10
    assert main(["green", "2008-01", str(folder)]) == 2
    assert "2013-08" in capsys.readouterr().err
