"""Real TLC files, served by a real HTTP server, load whole: counts and sums equal the sources'."""

import csv
import posixpath
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from helpers import SHARED_DATA, loaded, query
from http_server import Server, serve
from taxi_ingest.errors import DataError, TaxiIngestError
from taxi_ingest.load import Database, LoadResult
from taxi_ingest.sources import Cache, parse_source

pytestmark = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"no real TLC files: {SHARED_DATA} is absent"
)


def manifest() -> dict[str, dict[str, str]]:
    if not SHARED_DATA.is_dir():
        return {}
    with (SHARED_DATA / "MANIFEST.tsv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}


def files(folder: str) -> list[str]:
    return [name for name in manifest() if name.startswith(f"{folder}/")]


@pytest.fixture(scope="module")
def site() -> Iterator[Server]:
    with serve(SHARED_DATA) as server:
        yield server


def load_from(
    site: Server, name: str, table: str, database: Database, folder: Path, allow_short: bool = False
) -> LoadResult:
    source = parse_source(site.url(name)).fetch(folder, Cache(folder, 0))
    assert source
    return loaded(source, database, table, chunk_size=10_000, allow_short=allow_short)


def sum_in_file(path: Path) -> float:
    """The sum of total_amount as Arrow alone reads it."""
    rows = pq.read_table(path) if path.suffix == ".parquet" else pacsv.read_csv(path)
    name = next(name for name in rows.schema.names if name.lower() == "total_amount")
    return float(pc.sum(rows.column(name).cast(pa.float64())).as_py())


@pytest.mark.parametrize("name", files("parquet") + files("csv"))
def test_a_published_file_loads_whole(
    site: Server, name: str, embedded_database: Database, embedded_database_url: str, tmp_path: Path
) -> None:
    known = manifest()[name]
    result = load_from(site, name, "trips", embedded_database, tmp_path)
    assert (result.record.rows_read, result.record.rows_rejected) == (int(known["rows"]), 0)
    assert (result.record.dataset, result.record.month) == (known["dataset"], known["year_month"])
    ((rows, total),) = query(embedded_database_url, "SELECT count(*), sum(total_amount) FROM trips")
    assert rows == int(known["rows"])
    assert total == pytest.approx(sum_in_file(SHARED_DATA / name), abs=0.001)


def sum_of_head(path: Path) -> float | None:
    """The sum of total_amount in one of the small CSVs, by Python's own csv; None where it has none."""
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    names = [name.strip().lower() for name in rows[0]]
    index = next((names.index(name) for name in ("total_amount", "total_amt") if name in names), None)
    return None if index is None else sum(float(row[index]) for row in rows[1:])


def test_all_eras_of_a_dataset_go_into_one_table(
    site: Server, embedded_database: Database, embedded_database_url: str, tmp_path: Path
) -> None:
    expected: dict[str, int] = {}
    for name in files("csv_heads"):
        known = manifest()[name]
        result = load_from(site, name, known["dataset"], embedded_database, tmp_path)
        assert (result.record.rows_loaded, result.record.rows_rejected) == (int(known["rows"]), 0), name
        expected[known["dataset"]] = expected.get(known["dataset"], 0) + int(known["rows"])
    assert set(expected) == {"yellow", "green", "fhv", "fhvhv"}
    for table, rows in expected.items():
        assert query(embedded_database_url, f"SELECT count(*) FROM {table}") == [(rows,)]
    for table in ("yellow", "green"):
        sums = query(
            embedded_database_url,
            f"SELECT source, sum(total_amount) FROM {table} JOIN taxi_ingest.loads ON load_id = _load_id "
            "GROUP BY 1",
        )
        assert len(sums) > 60
        for source, total in sums:
            path = SHARED_DATA / "csv_heads" / str(source).rpartition("/")[2]
            assert total == pytest.approx(sum_of_head(path), abs=0.001), source


@pytest.mark.parametrize("name", files("variants"))
def test_what_others_made_of_the_files_loads_too(
    site: Server, name: str, embedded_database: Database, tmp_path: Path
) -> None:
    known = manifest()[name]
    result = load_from(site, name, "trips", embedded_database, tmp_path)
    assert (result.record.rows_loaded, result.record.dataset) == (int(known["rows"]), known["dataset"])


@pytest.mark.parametrize("name", [name for name in files("zones") if name.endswith((".csv", ".parquet"))])
def test_every_copy_of_the_zone_lookup_loads(
    site: Server, name: str, embedded_database: Database, embedded_database_url: str, tmp_path: Path
) -> None:
    result = load_from(site, name, "taxi_zones", embedded_database, tmp_path)
    assert (result.record.dataset, result.record.rows_loaded, result.record.rows_rejected) == (
        "zones",
        265,
        0,
    )
    if name.endswith(".csv"):
        last = query(embedded_database_url, 'SELECT service_zone FROM taxi_zones WHERE "LocationID" = 265')
        assert last == [("N/A",)]


DIRTY = {
    "fhv_tripdata_2020-01_conflict.csv": (3, "conflict markers"),
    "green_tripdata_2019-09_lfs_pointer.csv": (3, "Git LFS pointer"),
    "green_tripdata_2020-01_html.csv.gz": (3, "HTML"),
    "green_tripdata_2025-02_truncated.parquet": (3, "without its footer"),
    "yellow_tripdata_2021-01_excel.csv": (4, "780 of 780 rows"),
    "../zones/taxi_zones/taxi_zones.shp": (3, "neither CSV nor Parquet"),
    "../zones/taxi_zones/taxi_zones.shx": (3, "neither CSV nor Parquet"),
    "../zones/taxi_zones/taxi_zones.dbf": (3, "neither CSV nor Parquet"),
    "../zones/taxi_zones/taxi_zones.prj": (4, "no rows, and no header that TLC uses"),
}
"""What is refused: its exit code, and why. Everything else under ../shared/data loads."""


@pytest.mark.parametrize("name", DIRTY)
def test_a_broken_file_is_refused_and_nothing_is_left(
    site: Server, name: str, embedded_database: Database, embedded_database_url: str, tmp_path: Path
) -> None:
    exit_code, message = DIRTY[name]
    with pytest.raises(TaxiIngestError, match=message) as failure:
        load_from(site, posixpath.normpath(f"dirty/{name}"), "trips", embedded_database, tmp_path)
    assert failure.value.exit_code == exit_code
    assert query(embedded_database_url, "SELECT to_regclass('trips') IS NULL") == [(True,)]


def test_a_file_cut_off_in_a_row_is_refused_and_loads_but_for_that_row_if_allowed(
    site: Server, embedded_database: Database, embedded_database_url: str, tmp_path: Path
) -> None:
    name = "dirty/yellow_tripdata_2021-01_truncated.csv"
    with pytest.raises(DataError, match=r"It breaks off in its last row\. Nothing was loaded\."):
        load_from(site, name, "trips", embedded_database, tmp_path)
    result = load_from(site, name, "trips", embedded_database, tmp_path, allow_short=True)
    assert (result.record.rows_loaded, result.record.rows_rejected) == (2178, 1)
    assert query(embedded_database_url, "SELECT number, raw FROM taxi_ingest.rejects") == [(2180, "1,2021-0")]


def test_a_misnamed_file_is_loaded_as_what_it_is(
    site: Server, embedded_database: Database, tmp_path: Path
) -> None:
    name = "dirty/fhvhv_tripdata_2021-06_fhv_layout.csv"
    result = load_from(site, name, "trips", embedded_database, tmp_path)
    assert (result.record.dataset, result.record.rows_loaded) == ("fhv", 10)
    assert result.record.notes == ["The file is named fhvhv, but its columns are those of fhv."]
