"""A lake: a month is one object, whole or absent, and all of them are one table."""

import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucket_servers import SECRET, Bucket
from builders import JANUARY, elsewhere, row, trips, written
from helpers import Cli, Publish
from taxi_ingest.errors import BusyError, DatabaseError, DataError, SourceError, TaxiIngestError, UsageError
from taxi_ingest.load import Filter, LoadProgress, LoadRecord, LoadResult, parse_target
from taxi_ingest.places import Place, place_at
from taxi_ingest.places.lake.sorting import Sorter
from taxi_ingest.settings.job import Job, LoadOptions
from taxi_ingest.sources import Cache, local_file, parse_source
from taxi_ingest.tlc import dataset_named
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.transform import open_stream

YELLOW = parse_target("yellow_tripdata")


@pytest.fixture
def lake(tmp_path: Path) -> Place:
    return place_at(str(tmp_path / "lake"))


def load(place: Place, path: Path, table: str = "yellow_tripdata", **how: Any) -> LoadResult:
    """Load a file as the task of the flow does; `on_progress` and `flow_run_url` are the task's own."""
    task = {name: how.pop(name) for name in ("on_progress", "flow_run_url") if name in how}
    job = Job(url=str(path), table=table, **how)
    stream = open_stream(path, path.name, job.chunk_size, job.transform)
    return place.load(stream, local_file(str(path)), parse_target(table), job, **task)


def files(place: Place) -> list[str]:
    """All files of a lake in a folder."""
    root = Path(place.address)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def rows_of(place: Place, columns: str = "*", table: str = "yellow_tripdata") -> list[tuple[Any, ...]]:
    """What DuckDB reads as one table."""
    return duckdb.sql(
        f"SELECT {columns} FROM read_parquet('{place.address}/{table}/**/*.parquet') ORDER BY ALL"
    ).fetchall()


def amounts(place: Place) -> list[float]:
    return [amount for (amount,) in rows_of(place, "total_amount")]


# What there is


ERAS = ("2009-01", "2012-05", "2015-03", "2019-02", "2024-01")


def test_months_of_all_eras_are_one_table_to_duckdb_pyarrow_and_pandas(tmp_path: Path, lake: Place) -> None:
    for month in ERAS:
        load(lake, write_sample("yellow", month, tmp_path / f"yellow_tripdata_{month}.parquet", 50))
    names = [column.name for column in dataset_named("yellow").columns]
    by_month = duckdb.sql(
        f"SELECT month, count(*), count(tpep_pickup_datetime) "
        f"FROM read_parquet('{lake.address}/yellow_tripdata/*/*.parquet') GROUP BY month ORDER BY month"
    ).fetchall()
    assert by_month == [(month, 50, 50) for month in ERAS]
    whole = ds.dataset(f"{lake.address}/yellow_tripdata", partitioning="hive")
    assert whole.schema.names == [*names, "month"]
    assert whole.count_rows(filter=ds.field("month") == "2015-03") == 50
    assert len(whole.to_table().to_pandas()) == 250
    schemas = {str(pq.read_schema(Path(lake.address) / file)) for file in files(lake)}
    assert len(schemas) == 1


def test_tables_with_the_same_month_have_loads_of_the_same_number_which_the_table_tells_apart(
    tmp_path: Path, lake: Place
) -> None:
    for dataset in ("yellow", "green"):
        path = write_sample(dataset, "2024-01", tmp_path / f"{dataset}_tripdata_2024-01.parquet", 50)
        load(lake, path, f"{dataset}_tripdata")
    with pytest.raises(UsageError, match="green_tripdata, yellow_tripdata"):
        lake.find_load(202401)
    assert lake.find_load(202401, parse_target("yellow_tripdata")).dataset == "yellow"
    with pytest.raises(UsageError, match="no load 202402"):
        lake.find_load(202402)


def test_a_month_is_one_object_in_the_order_of_its_pickups(tmp_path: Path, lake: Place) -> None:
    path = write_sample("yellow", "2024-01", tmp_path / "yellow_tripdata_2024-01.parquet", 3000)
    load(lake, path, chunk_size=500)
    assert files(lake) == ["yellow_tripdata/month=2024-01/yellow_tripdata_2024-01.parquet"]
    file = Path(lake.address) / files(lake)[0]
    pickups = pq.read_table(file).column("tpep_pickup_datetime").to_pylist()
    assert pickups == sorted(pickups)
    column = pq.read_metadata(file).row_group(0).column(1)
    assert (column.path_in_schema, column.compression) == ("tpep_pickup_datetime", "ZSTD")
    assert column.statistics.min == pickups[0]


def test_nothing_of_a_row_changes_on_its_way(tmp_path: Path, lake: Place) -> None:
    path = write_sample("yellow", "2024-01", tmp_path / "yellow_tripdata_2024-01.parquet", 2000)
    load(lake, path)
    shared = (
        "tpep_pickup_datetime, tpep_dropoff_datetime, VendorID, trip_distance, PULocationID, total_amount"
    )
    before = duckdb.sql(f"SELECT {shared} FROM '{path}' ORDER BY ALL").fetchall()
    assert rows_of(lake, shared) == before


def test_the_footer_tells_where_a_month_came_from_and_what_became_of_its_rows(
    tmp_path: Path, lake: Place
) -> None:
    path = trips(tmp_path, [row(1), row(-2), row("x")])
    record = load(lake, path, max_rejects="1").record
    found = duckdb.sql(
        "SELECT decode(key), decode(value) "
        f"FROM parquet_kv_metadata('{lake.address}/yellow_tripdata/*/*.parquet')"
    ).fetchall()
    told = {key.removeprefix("taxi_ingest."): value for key, value in found}
    file = local_file(str(path))
    assert (told["sha256"], told["source"], told["bytes"]) == (file.sha256, file.url, str(file.bytes))
    assert (told["rows_read"], told["rows_loaded"], told["rows_rejected"]) == ("3", "2", "1")
    assert json.loads(told["quality"])["negative_amount"] == 1
    assert told["tool_version"]
    assert lake.list_loads(Filter()) == [record]
    assert record.finished_at > record.started_at


def test_rejects_lie_beside_where_no_reader_of_the_table_meets_them(tmp_path: Path, lake: Place) -> None:
    record = load(lake, trips(tmp_path, [row(1), row("x"), row("y")]), max_rejects="2").record
    assert amounts(lake) == [1]
    [beside] = [file for file in files(lake) if file.startswith("_rejects/yellow_tripdata/month=2024-01/")]
    assert pq.read_table(Path(lake.address) / beside).column("number").to_pylist() == [3, 4]
    first, second = lake.rejects(YELLOW, record.load_id, 10)
    assert (first.column, first.raw, second.number) == ("total_amount", row("x"), 4)
    assert lake.rejects(YELLOW, record.load_id, 1) == [first]


def test_a_new_column_is_kept_and_said(tmp_path: Path, lake: Place) -> None:
    path = written(tmp_path, f"{_header('Tolls_2030')}\n{row(1)},12345678901234567890.5\n", JANUARY)
    record = load(lake, path).record
    assert any("Tolls_2030" in note for note in record.notes)
    assert rows_of(lake, '"Tolls_2030"::text') == [("12345678901234567890.5",)]


def _header(*more: str) -> str:
    return ",".join(["VendorID,tpep_pickup_datetime,passenger_count,total_amount", *more])


def test_a_column_named_as_the_folders_gets_another_name(tmp_path: Path, lake: Place) -> None:
    load(lake, written(tmp_path, f"{_header('month')}\n{row(1)},7\n", JANUARY))
    assert rows_of(lake, "month, month_2") == [("2024-01", 7)]


# Exactly once


def test_the_same_file_again_is_skipped(tmp_path: Path, lake: Place) -> None:
    path = trips(tmp_path, [row(1)])
    first = load(lake, path)
    again = load(lake, path)
    assert (first.status, again.status, again.record) == ("loaded", "skipped", first.record)
    assert lake.look_back(YELLOW, parse_source(str(path))).file == first.record
    assert amounts(lake) == [1]


def test_a_revised_file_replaces_its_month_and_no_other(tmp_path: Path, lake: Place) -> None:
    load(lake, trips(tmp_path, [row(5, pickup="2024-02-03 00:00:00")], "yellow_tripdata_2024-02.csv"))
    load(lake, trips(tmp_path, [row(1), row("x")]), max_rejects="1")
    result = load(lake, trips(tmp_path, [row(2), row(3)]))
    assert result.status == "replaced"
    assert amounts(lake) == [2, 3, 5]
    assert not [file for file in files(lake) if file.startswith("_rejects")]


def test_a_month_from_elsewhere_takes_no_place_unasked(tmp_path: Path, lake: Place) -> None:
    load(lake, trips(tmp_path, [row(1)]))
    other = elsewhere(tmp_path, [row(2)])
    with pytest.raises(DataError, match="has yellow 2024-01 already, from file:"):
        load(lake, other)
    assert lake.look_back(YELLOW, parse_source(str(other))).file is None
    assert load(lake, elsewhere(tmp_path, [row(1)])).status == "skipped"
    assert load(lake, elsewhere(tmp_path, [row(2)]), if_loaded="replace").status == "replaced"
    assert amounts(lake) == [2]


def test_a_month_that_is_not_to_be_there_yet_is_refused(tmp_path: Path, lake: Place) -> None:
    path = trips(tmp_path, [row(1)])
    load(lake, path, if_loaded="fail")
    with pytest.raises(DataError, match="already in yellow_tripdata"):
        load(lake, path, if_loaded="fail")


def test_a_run_that_did_not_get_the_answer_finds_its_own_load(tmp_path: Path, lake: Place) -> None:
    path = trips(tmp_path, [row(1)])
    load(lake, path, flow_run_url="http://prefect/1")
    assert load(lake, path, flow_run_url="http://prefect/1").status == "loaded"
    assert load(lake, path, flow_run_url="http://prefect/2").status == "skipped"
    assert lake.committed_runs(["http://prefect/1", "http://prefect/3"]) == {"http://prefect/1"}


def fail_at(rows: int) -> Callable[[LoadProgress], None]:
    def told(progress: LoadProgress) -> None:
        if progress.rows >= rows:
            raise KeyboardInterrupt

    return told


def test_what_fails_leaves_the_lake_as_it_was(tmp_path: Path, lake: Place) -> None:
    load(lake, trips(tmp_path, [row(1)]))
    before = files(lake)
    bad = trips(tmp_path, [row(2), *[row("x")] * 5])
    with pytest.raises(DataError, match="5 of 6 rows can't be represented"):
        load(lake, bad)
    with pytest.raises(KeyboardInterrupt):
        load(lake, trips(tmp_path, [row(3)] * 3), chunk_size=1, on_progress=fail_at(2))
    short = trips(tmp_path, [row(3, pickup="2021-01-15 12:00:00")], "yellow_tripdata_2021-01.csv")
    with pytest.raises(DataError, match="known to have"):
        load(lake, short, verify=True)
    assert files(lake) == before
    assert amounts(lake) == [1]


def test_a_month_is_not_seen_before_it_is_whole(tmp_path: Path, lake: Place) -> None:
    path = write_sample("yellow", "2024-01", tmp_path / "yellow_tripdata_2024-01.parquet", 1000)
    seen: list[int] = []

    def look(_: LoadProgress) -> None:
        seen.append(len(list(Path(lake.address).glob("yellow_tripdata/**/*"))))

    load(lake, path, chunk_size=100, on_progress=look)
    assert seen == [0] * 10


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path: Path, lake: Place) -> None:
    path = trips(tmp_path, [row(1)])
    load(lake, path)
    [file] = files(lake)
    draft = Path(lake.address) / ".taxi-ingest" / file.replace("/", "~")
    draft.write_bytes(b"PAR1 half")
    assert amounts(lake) == [1]
    assert load(lake, trips(tmp_path, [row(2)])).status == "replaced"
    assert amounts(lake) == [2]
    assert files(lake) == [file]


def test_of_two_that_load_the_same_month_one_waits_and_skips(tmp_path: Path, lake: Place) -> None:
    path = trips(tmp_path, [row(1)])
    begun, go_on = Event(), Event()

    def hold(_: LoadProgress) -> None:
        begun.set()
        assert go_on.wait(30)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(load, lake, path, on_progress=hold)
        assert begun.wait(30)
        with pytest.raises(BusyError):
            load(lake, path, wait=False)
        second = pool.submit(load, lake, path)
        go_on.set()
        assert (first.result().status, second.result().status) == ("loaded", "skipped")


def test_one_table_holds_one_dataset_and_nobody_elses_files(tmp_path: Path, lake: Place) -> None:
    load(lake, trips(tmp_path, [row(1)]))
    green = write_sample("green", "2024-02", tmp_path / "green_tripdata_2024-02.parquet", 5)
    with pytest.raises(DataError, match="holds files of TLC's dataset yellow"):
        load(lake, green)
    folder = Path(lake.address) / "yellow_tripdata"
    (folder / "_SUCCESS").touch()
    written(folder, "x", "part-0.parquet")
    with pytest.raises(DataError, match=r"yellow_tripdata/part-0\.parquet, which taxi-ingest did not put"):
        load(lake, trips(tmp_path, [row(2)]))


def test_a_strangers_file_in_the_place_of_a_month_is_told(tmp_path: Path, lake: Place) -> None:
    path = trips(tmp_path, [row(1)])
    load(lake, path)
    file = Path(lake.address) / files(lake)[0]
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(DataError, match="is no Parquet file of taxi-ingest's"):
        load(lake, path)
    file.write_bytes(b"")
    with pytest.raises(DataError, match="is no Parquet file of taxi-ingest's"):
        lake.list_loads(Filter())


# What a lake can't do


@pytest.mark.parametrize(
    ("options", "table", "name", "message"),
    [
        ({"names": "snake"}, "t", JANUARY, "spelled as TLC does"),
        ({"keep_both": True}, "t", JANUARY, "has each month once"),
        ({}, "staging.t", JANUARY, "no name for a table in a lake"),
        ({}, "_rejects", JANUARY, "no name for a table in a lake"),
        ({}, "a/b", JANUARY, "no name for a table in a lake"),
        ({}, "t", "trips.csv", "the name trips.csv tells none"),
    ],
)
def test_what_a_lake_cant_do_is_said_before_anything_starts(
    lake: Place, tmp_path: Path, options: dict[str, Any], table: str, name: str, message: str
) -> None:
    source = parse_source(str(tmp_path / name))
    with pytest.raises(UsageError, match=message):
        lake.check(LoadOptions(**options), [parse_target(table)], [source])
    assert not Path(lake.address).exists()


def test_nothing_in_a_lake_is_undone(lake: Place) -> None:
    with pytest.raises(UsageError, match="can be undone"):
        lake.undo(202401)


def test_files_that_are_no_months_are_refused(tmp_path: Path, lake: Place) -> None:
    with pytest.raises(DataError, match="is none of them"):
        load(lake, written(tmp_path, "a,b\n1,2\n", JANUARY))
    green = write_sample("green", "2024-01", tmp_path / "yellow_tripdata_2024-01.parquet", 5)
    with pytest.raises(DataError, match="one of green of no month"):
        load(lake, green)


def test_a_folder_that_cant_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        place_at(str(tmp_path / "file"))
    with pytest.raises(DatabaseError, match="Not a directory"):
        load(place_at(str(tmp_path / "file" / "lake")), trips(tmp_path, [row(1)]))


# Sorting


@pytest.mark.parametrize("memory_bytes", [1, 100_000, 1 << 30])
@pytest.mark.parametrize("spread", [0, 10, 1_000_000])
def test_rows_are_sorted_alike_in_memory_and_on_disk(memory_bytes: int, spread: int) -> None:
    numbers = random.Random(spread)
    begin = datetime(2024, 1, 1)
    moments = [begin + timedelta(seconds=numbers.randint(0, spread)) for _ in range(150_000)]
    moments[1000:1010] = [None] * 10  # type: ignore[list-item]
    table = pa.table({"t": pa.array(moments, pa.timestamp("us")), "n": pa.array(range(150_000))})
    with Sorter("t", memory_bytes) as sorter:
        for start in range(0, 150_000, 7_000):
            sorter.add(table.slice(start, 7_000))
        parts = list(sorter.sorted(40_000))
    assert [part.num_rows for part in parts] == [40_000] * 3 + [30_000]
    found = pa.concat_tables(parts)
    assert found.column("t").to_pylist() == [*sorted(filter(None, moments)), *[None] * 10]
    assert found.sort_by("n").equals(table)


_SECONDS = st.integers(1_600_000_000, 1_600_000_050).map(lambda second: second * 1_000_000)
_FAR = st.sampled_from([-(2**63), -1, 0, 1, 2**62, 2**63 - 1])


@given(
    moments=st.one_of(
        *(st.lists(st.one_of(*kinds), max_size=40) for kinds in ([_SECONDS], [_SECONDS, _FAR, st.none()])),
        st.lists(st.integers(-(2**63), 2**63 - 1)),
    ),
    unit=st.sampled_from(["s", "us"]),
)
def test_rows_of_one_moment_keep_their_order_however_far_apart_moments_are(
    moments: list[int | None], unit: str
) -> None:
    times = pa.array(moments, pa.int64()).cast(pa.timestamp(unit))
    with Sorter("t") as sorter:
        sorter.add(pa.table({"t": times, "n": range(len(moments))}))
        found = [n for part in sorter.sorted(7) for n in part.column("n").to_pylist()]
    assert found == sorted(range(len(moments)), key=lambda n: (moments[n] is None, moments[n] or 0))


def test_nothing_is_sorted_to_nothing() -> None:
    with Sorter("t") as sorter:
        assert list(sorter.sorted(10)) == []


# In buckets


def test_a_bucket_holds_a_lake_as_a_folder_does(tmp_path: Path, bucket: Bucket) -> None:
    place = place_at(bucket.url("course/lake"))
    path = trips(tmp_path, [row(1), row("x")])
    assert load(place, path, max_rejects="1").status == "loaded"
    assert load(place, path).status == "skipped"
    assert load(place, trips(tmp_path, [row(2), row("y")]), max_rejects="1").status == "replaced"
    [record] = place.list_loads(Filter(YELLOW, month="2024-01"))
    assert (record.rows_loaded, record.rows_rejected, record.replaces) == (1, 1, 202401)
    [reject] = place.rejects(YELLOW, 202401, 5)
    assert reject.raw == row("y")
    assert place.coverage(YELLOW, "yellow", ["2024-01", "2024-02"]).loads == {"2024-01": record}
    assert place.list_loads(Filter(parse_target("yellow"))) == []


def test_a_footer_that_is_longer_than_usual_is_read_whole(tmp_path: Path, s3_bucket: Bucket) -> None:
    more = [f"column_{number}" for number in range(1500)]
    path = written(tmp_path, f"{_header(*more)}\n{row(1)},{','.join('1' * 1500)}\n", JANUARY)
    place = place_at(s3_bucket.url(""))
    record: LoadRecord = load(place, path).record
    assert place.list_loads(Filter()) == [record]


def test_a_bucket_that_is_not_there_is_told_before_a_file_is_read_as_the_places_fault(
    tmp_path: Path, bucket: Bucket
) -> None:
    elsewhere = place_at(f"{bucket.scheme}://elsewhere-1/lake")
    with pytest.raises(DatabaseError, match=r"There is no (bucket|container) elsewhere-1"):
        elsewhere.look_back(YELLOW, parse_source(str(tmp_path / JANUARY)))
    with pytest.raises(DatabaseError, match=r"There is no (bucket|container) elsewhere-1"):
        load(elsewhere, trips(tmp_path, [row(1)]))


@pytest.mark.parametrize(
    ("scheme", "name", "value"),
    [
        ("gs", "GOOGLE_APPLICATION_CREDENTIALS", "/none.json"),
        ("gs", "GOOGLE_SERVICE_ACCOUNT_KEY", "{}"),
        ("s3", "AWS_PROFILE", "nobody"),
    ],
)
def test_credentials_that_cant_be_used_are_the_places_fault_or_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, name: str, value: str
) -> None:
    pytest.importorskip("obstore", reason="the extra taxi-ingest[gcp] is not installed")
    monkeypatch.setenv(name, value)
    with pytest.raises(DatabaseError, match="can't be used"):
        place_at(f"{scheme}://taxi/lake").list_loads(Filter())
    with pytest.raises(SourceError, match="can't be used"):
        parse_source(f"{scheme}://taxi/x.csv").fetch(tmp_path, Cache(tmp_path / "cache", 0))


def test_a_block_names_the_bucket_and_who_opens_it(
    tmp_path: Path, cli: Cli, s3_bucket: Bucket, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"Access key ID,Secret access key\nAKIABLOCK,{SECRET}\n"
    where = ("--type", "s3-bucket", "--name", "lake", "--bucket", s3_bucket.name, "--folder", "course")
    cli("blocks", "create", *where, "--key-file", "-", "--overwrite", input=key)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    path = trips(tmp_path, [row(1)])
    for command in (("ingest", path, "--table", "u"), ("backfill", "yellow", "2023-01")):
        refused = cli(*command, "--block", "lake", "--views")
        assert (refused.returncode, "the block lake is of a bucket" in refused.stderr) == (2, True)
    loaded = cli("ingest", path, "--table", "t", "--block", "lake", "--json")
    assert json.loads(loaded.stdout)["database"] == s3_bucket.url("course"), loaded.stderr
    listed = cli("loads", "--block", "lake", "--json")
    assert [(load["table"], load["month"]) for load in json.loads(listed.stdout)["loads"]] == [
        ("t", "2024-01")
    ]
    # As for a load, a database that is named goes before a block.
    elsewhere = cli("loads", "--block", "lake", "--database-url", embedded_database_url, "--json")
    assert json.loads(elsewhere.stdout)["loads"] == [], elsewhere.stderr
    refused = cli("ingest", path, "--table", "staging.t", "--block", "lake")
    assert (refused.returncode, "no name for a table in a lake" in refused.stderr) == (2, True)


# On the command line


def test_ingest_and_backfill_load_into_a_lake(tmp_path: Path, cli: Cli, publish: Publish) -> None:
    lake = tmp_path / "lake"
    for month in ("2023-01", "2023-02", "2023-03"):
        publish(month)
    one = cli("ingest", "--dataset", "yellow", "--month", "2023-02", "--to", f"{lake}/", "--json")
    assert json.loads(one.stdout)["database"] == str(lake)
    done = cli("backfill", "yellow", "2023-01..2023-03", "--to", lake, "--jobs", 2, "--json")
    told = json.loads(done.stdout)
    assert (told["loaded"], told["skipped"], told["database"]) == (2, 1, str(lake))
    assert amounts_by_month(lake) == {"2023-01": 20, "2023-02": 20, "2023-03": 20}
    again = cli("ingest", "--dataset", "yellow", "--month", "2023-02", "--to", lake)
    assert again.stdout.startswith("Skipped")
    assert f'FROM "{lake}/yellow_tripdata/*/*.parquet"' in again.stdout
    listed = json.loads(cli("loads", "--to", lake, "--json").stdout)["loads"]
    assert sorted(load["load_id"] for load in listed) == [202301, 202302, 202303]
    status = json.loads(cli("status", "--to", lake, "--json").stdout)
    assert status["ledger"] == str(lake)
    assert status["datasets"][0]["counts"]["loaded"] + status["datasets"][0]["counts"]["short"] == 3


def amounts_by_month(lake: Path) -> dict[str, int]:
    query = f"SELECT month, count(*) FROM read_parquet('{lake}/yellow_tripdata/*/*.parquet') GROUP BY month"
    return dict(duckdb.sql(query).fetchall())


def test_a_failed_month_is_tried_again_by_the_command_that_is_told(
    tmp_path: Path, cli: Cli, publish: Publish
) -> None:
    publish("2023-01").write_bytes(b"PAR1" + bytes(500) + b"PAR1")
    done = cli("backfill", "yellow", "2023-01", "--to", tmp_path / "lake", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 3
    assert told["retry"] == f"taxi-ingest backfill yellow 2023-01 --to {tmp_path}/lake --reprocess missing"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--to", "gcs://b/p"], "into gcs://", "Did you mean gs://b/p?"),
        (["--to", "postgre://h/d"], "into postgre://", "Did you mean postgres"),
        (["--to", "lake"], "'lake' is no address", "./lake"),
        (["--to", "./l", "--database-url", "postgresql:///d"], "Both --to and --database-url", "Leave one"),
        (["--to", "./l", "--block", "b"], "Both --to and --block", "Leave one"),
        (["--to", "./l", "--names", "snake"], "spelled as TLC does", "Leave --names out"),
        (["--to", "./l", "--views"], "--views makes views in a Postgres", "out"),
        (["--to", "gs://user:geheim@b/p"], "has a login in it", "--block"),
        (["--to", ""], "--to is empty", "value"),
    ],
)
def test_what_is_wrong_with_a_place_is_said_before_anything_starts(
    tmp_path: Path, cli: Cli, arguments: list[str], message: str, hint: str
) -> None:
    path = trips(tmp_path, [row(1)])
    done = cli("ingest", path, "--table", "t", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert hint in done.stderr
    assert "geheim" not in done.stderr


@pytest.mark.parametrize(
    ("to", "message", "hint"),
    [
        ("s3://", "has no proper bucket behind s3://", "Write s3://bucket/prefix"),
        ("AZ:///lake", "has no proper bucket behind az://", "Write az://container/prefix"),
        ("gs://my bucket/lake", "has no proper bucket behind gs://", "Write gs://bucket/prefix"),
        ("gs://taxi/a//c", "The prefix 'a//c' has a part", "no //"),
        ("s3:/b/p", "'s3:/b/p' is no address", "Did you mean s3://b/p?"),
        ("gcs:b/p", "'gcs:b/p' is no address", "Did you mean gs://b/p?"),
        ("s3://b/2024/x.csv.gz", "is called like a file", "Did you mean s3://b/2024/?"),
        ("./lake/x.parquet", "is called like a file", "Did you mean ./lake/?"),
        ("s3a://b/p", "Nothing can be loaded into s3a://", "Did you mean s3://b/p?"),
        ("https://b.s3.amazonaws.com/", "Nothing can be loaded into https://", "s3://…"),
    ],
)
def test_an_address_that_is_no_places_says_what_to_write(to: str, message: str, hint: str) -> None:
    pytest.importorskip("obstore", reason="the extra taxi-ingest[gcp] is not installed")
    with pytest.raises(UsageError) as failure:
        place_at(to)
    assert (message in str(failure.value), hint in failure.value.hint) == (True, True), failure.value


def test_a_lake_does_not_know_what_has_failed(tmp_path: Path, cli: Cli) -> None:
    done = cli("backfill", "yellow", "2023-01", "--to", tmp_path, "--reprocess", "failed")
    assert (done.returncode, "is not known in" in done.stderr) == (2, True)


def test_to_names_a_database_whose_password_no_flow_gets(
    tmp_path: Path, cli: Cli, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(1)])
    done = cli("ingest", path, "--table", "t", "--to", embedded_database_url, "--json")
    assert json.loads(done.stdout)["status"] == "loaded"
    listed = cli("loads", "--to", embedded_database_url, "--json")
    assert [load["table"] for load in json.loads(listed.stdout)["loads"]] == ["t"]
    with pytest.raises(TaxiIngestError, match="has a password in it"):
        place_at("postgresql://user:geheim@db.example/taxi")


def test_a_dry_run_says_what_becomes_of_a_month(tmp_path: Path, cli: Cli) -> None:
    path = trips(tmp_path, [row(1)])
    lake = tmp_path / "lake"
    planned = cli("ingest", path, "--table", "t", "--to", lake, "--dry-run", "--json")
    assert json.loads(planned.stdout)["plan"]["action"] == "load"
    assert not lake.exists()
    cli("ingest", path, "--table", "t", "--to", lake)
    shutil.copy(path, tmp_path / "copy.csv")
    planned = cli("ingest", path, "--table", "t", "--to", lake, "--dry-run", "--json")
    assert json.loads(planned.stdout)["plan"]["action"] == "skip"
