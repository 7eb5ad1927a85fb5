"""A load is there whole or not at all, once; the ledger says so. On two real servers."""

import gzip
from collections import Counter
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn

from builders import HEADER, months, row, trips
from helpers import (
    COPYING,
    Background,
    end_copies,
    execute,
    exists,
    loaded,
    looked_ahead,
    query,
    sessions,
    totals,
    url_with,
)
from taxi_ingest.errors import DatabaseError, DataError, SourceError, UsageError
from taxi_ingest.load import (
    Database,
    LoadProgress,
    LoadResult,
    LookBack,
    Target,
    database_at,
    look_back,
    parse_target,
)
from taxi_ingest.load.checks import compare
from taxi_ingest.load.database import address_of
from taxi_ingest.load.refusals import explained
from taxi_ingest.settings.job import Allowance, parse_allowance
from taxi_ingest.tlc import known_rows
from taxi_ingest.transform import open_stream


def test_a_file_becomes_one_partition_and_one_row_of_the_ledger(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    result = loaded(trips(tmp_path, [row(1), row(2), row(3)]), database)
    assert (
        result.status,
        result.record.rows_read,
        result.record.rows_loaded,
        result.record.rows_rejected,
    ) == ("loaded", 3, 3, 0)
    assert (result.record.dataset, result.record.month) == ("yellow", "2024-01")
    assert totals(database_url) == [1, 2, 3]
    assert query(database_url, "SELECT DISTINCT _load_id, tableoid::regclass::text FROM trips") == [
        (result.record.load_id, f"taxi_ingest.load_{result.record.load_id}")
    ]
    assert query(database_url, "SELECT status, rows_read, rows_loaded FROM taxi_ingest.loads") == [
        ("loaded", 3, 3)
    ]


def test_a_partitions_rows_are_frozen_from_the_start(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    """Nobody has to write them once more: a VACUUM finds all pages as it would leave them."""
    loaded(trips(tmp_path, [row(1), row(2)]), database)
    execute(database_url, "ANALYZE taxi_ingest.load_1")
    pages = "SELECT relpages, relallvisible FROM pg_class WHERE oid = 'taxi_ingest.load_1'::regclass"
    assert query(database_url, pages) == [(1, 1)]


def test_the_same_file_again_is_skipped(tmp_path: Path, database: Database, database_url: str) -> None:
    path = trips(tmp_path, [row(1)])
    first = loaded(path, database)
    again = loaded(path, database)
    assert (again.status, again.record.load_id, again.record.rows_loaded) == (
        "skipped",
        first.record.load_id,
        1,
    )
    assert totals(database_url) == [1]


def test_the_same_content_under_another_name_is_skipped(tmp_path: Path, database: Database) -> None:
    loaded(trips(tmp_path, [row(1)]), database)
    copy = trips(tmp_path, [row(1)], "copy of yellow_tripdata_2024-01.csv")
    assert loaded(copy, database).status == "skipped"


def test_a_changed_file_replaces_its_own_rows_and_no_others(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    loaded(trips(tmp_path, [row(10)], "yellow_tripdata_2024-02.csv"), database)
    loaded(trips(tmp_path, [row(1), row(2)]), database)
    result = loaded(trips(tmp_path, [row(3)]), database)
    assert result.status == "replaced"
    assert totals(database_url) == [3, 10]
    assert query(database_url, "SELECT status FROM taxi_ingest.loads ORDER BY load_id") == [
        ("loaded",),
        ("replaced",),
        ("loaded",),
    ]


def test_replace_loads_even_the_same_file_anew(tmp_path: Path, database: Database, database_url: str) -> None:
    path = trips(tmp_path, [row(1)])
    first = loaded(path, database)
    second = loaded(path, database, if_loaded="replace")
    assert (second.status, second.record.load_id > first.record.load_id) == ("replaced", True)
    assert totals(database_url) == [1]


def test_fail_refuses_a_file_that_is_loaded(tmp_path: Path, database: Database, database_url: str) -> None:
    path = trips(tmp_path, [row(1)])
    loaded(path, database)
    with pytest.raises(DataError, match="already in trips, as load 1"):
        loaded(path, database, if_loaded="fail")
    assert totals(database_url) == [1]


def test_views_grants_and_indexes_survive_a_replacement(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    loaded(trips(tmp_path, [row(1)]), database)
    execute(
        database_url, 'CREATE INDEX ON trips ("VendorID"); CREATE VIEW v AS SELECT total_amount FROM trips'
    )
    execute(database_url, "GRANT SELECT ON trips TO PUBLIC")
    loaded(trips(tmp_path, [row(2)]), database)
    assert totals(database_url, "v") == [2]
    assert query(database_url, "SELECT has_table_privilege('pg_monitor', 'trips', 'SELECT')") == [(True,)]
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename LIKE 'load\\_%' AND indexdef ~ 'VendorID'"
    assert query(database_url, indexes) == [(1,)]


def test_rejects_are_kept_with_their_reasons(tmp_path: Path, database: Database, database_url: str) -> None:
    path = trips(tmp_path, [row(1), row(2, "many"), "cut off"])
    result = loaded(path, database, max_rejects="2")
    assert (result.record.rows_read, result.record.rows_loaded, result.record.rows_rejected) == (3, 1, 2)
    kept = query(database_url, "SELECT number, column_name, reason, raw FROM taxi_ingest.rejects ORDER BY 1")
    assert kept == [
        (3, "passenger_count", "'many' is no smallint", row(2, "many")),
        (4, None, "1 fields instead of 4", "cut off"),
    ]


def test_more_rejects_than_allowed_change_nothing(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    loaded(trips(tmp_path, [row(1)]), database)
    worse = trips(tmp_path, [row(2), row(3, "many")])
    with pytest.raises(DataError, match=r"1 of 2 rows can't be represented.*3: passenger_count: 'many'"):
        loaded(worse, database)
    assert totals(database_url) == [1]
    assert query(database_url, "SELECT count(*) FROM taxi_ingest.loads") == [(1,)]


def test_a_failed_first_load_leaves_no_table(tmp_path: Path, database: Database, database_url: str) -> None:
    with pytest.raises(DataError):
        loaded(trips(tmp_path, [row(1, "x")]), database)
    assert query(
        database_url, "SELECT to_regclass('trips') IS NULL, (SELECT count(*) FROM taxi_ingest.loads)"
    ) == [(True, 0)]


@pytest.mark.parametrize("name", ['we"ird', "drop table x; --", "Grün 🚕", "a.b.c", "%s {} \\", "select"])
def test_any_name_makes_a_table_of_that_name(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, name: str
) -> None:
    execute(embedded_database_url, "CREATE SCHEMA a")
    target = parse_target(name)
    loaded(trips(tmp_path, [row(1)]), embedded_database, name)
    assert totals(embedded_database_url, target.quoted) == [1]


@pytest.mark.parametrize("name", ["", ".", "a.", ".b", "x" * 64, "a\0b"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        parse_target(name)


def test_one_table_holds_one_dataset(tmp_path: Path, embedded_database: Database) -> None:
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    other = tmp_path / "any.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds files of TLC's dataset yellow"):
        loaded(other, embedded_database)


def test_an_unknown_column_is_added_and_reported(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    path = tmp_path / "yellow_tripdata_2024-02.csv"
    path.write_text(f"{HEADER},mood\n{row(2)},fine\n")
    result = loaded(path, embedded_database)
    assert result.record.notes == ["New column 'mood' added to trips."]
    assert query(embedded_database_url, "SELECT total_amount, mood FROM trips ORDER BY 1") == [
        (1, None),
        (2, "fine"),
    ]


def test_a_column_of_the_table_widens_for_a_later_file(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    for name, content in (("a", "n,t\n1,x\n"), ("b", "n,t\n2.5,y\n"), ("c", "n,t\n3,z\n")):
        path = tmp_path / f"{name}.csv"
        path.write_text(content)
        loaded(path, embedded_database, "any")
    assert query(embedded_database_url, "SELECT n, t FROM any_ ORDER BY n".replace("any_", '"any"')) == [
        (1.0, "x"),
        (2.5, "y"),
        (3.0, "z"),
    ]


def test_a_plain_table_is_appended_to_by_column_name(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    execute(
        database_url,
        'CREATE TABLE mine (total_amount real, "VendorID" bigint, passenger_count text, '
        "tpep_pickup_datetime timestamp, note text DEFAULT 'mine'); INSERT INTO mine VALUES (0.5)",
    )
    result = loaded(trips(tmp_path, [row(1)]), database, "mine")
    assert result.status == "loaded"
    assert query(
        database_url, 'SELECT total_amount, "VendorID", passenger_count, note FROM mine ORDER BY 1'
    ) == [
        (0.5, None, None, "mine"),
        (1.0, 1, "1", "mine"),
    ]
    assert loaded(trips(tmp_path, [row(1)]), database, "mine").status == "skipped"
    with pytest.raises(DataError, match="old rows can't be told from others"):
        loaded(trips(tmp_path, [row(2)]), database, "mine")


def test_a_plain_table_may_keep_times_with_a_zone_and_amounts_as_text(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(
        embedded_database_url,
        'CREATE TABLE mine ("VendorID" int, tpep_pickup_datetime timestamptz, passenger_count int,'
        " total_amount text)",
    )
    evening, night = "2024-02-01T04:00:00+00:00", "2024-02-01T06:00:00+00:00"
    file = trips(tmp_path, [row(-3, pickup=evening), row(4, pickup=night)])
    result = loaded(file, embedded_database, "mine")
    assert result.record.rows_loaded == 2
    # New York's last evening of January is within its month.
    assert result.record.quality["pickup_outside_month"] == 1


@pytest.mark.parametrize("rows", ["x,a\n2,b\n", "1,a\n2,b\nx,c\n"])
def test_values_that_a_plain_tables_column_cannot_hold_are_rejected(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, rows: str
) -> None:
    execute(embedded_database_url, "CREATE TABLE mine (id bigint, name text)")
    path = tmp_path / "any.csv"
    path.write_text(f"id,name\n{rows}")
    with pytest.raises(DataError, match="id: 'x' is no bigint"):
        loaded(path, embedded_database, "mine")
    result = loaded(path, embedded_database, "mine", max_rejects="1")
    assert (result.record.rows_loaded, result.record.rows_rejected) == (rows.count("\n") - 1, 1)


def test_a_plain_table_that_does_not_fit_says_what_differs(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, 'CREATE TABLE mine ("VendorID" int)')
    with pytest.raises(DataError, match="has no column 'tpep_pickup_datetime', 'passenger_count'"):
        loaded(trips(tmp_path, [row(1)]), embedded_database, "mine")
    execute(embedded_database_url, "CREATE VIEW seen AS SELECT 1 AS a")
    with pytest.raises(DataError, match="no table that can be loaded into"):
        loaded(trips(tmp_path, [row(1)]), embedded_database, "seen")


def test_every_type_arrives_as_it_was(tmp_path: Path, database: Database, database_url: str) -> None:
    values = {
        "small": pa.array([1, None], pa.int16()),
        "unsigned": pa.array([2**32 - 1, None], pa.uint32()),
        "big": pa.array([-(2**63), 2**63 - 1]),
        "single": pa.array([0.5, None], pa.float32()),
        "flag": pa.array([True, None]),
        "day": pa.array([date(2024, 2, 29), None]),
        "clock": pa.array([time(23, 59, 59, 999_999), None]),
        "moment": pa.array([datetime(1700, 1, 1), datetime(2262, 4, 11)], pa.timestamp("us")),
        "zoned": pa.array([datetime(2024, 7, 1, 12), None], pa.timestamp("us", "America/New_York")),
        "bytes": pa.array([b"\0\xff", None]),
        "words": pa.array(["ü\n\t\"'\\", ""]).dictionary_encode(),
    }
    path = tmp_path / "any.parquet"
    pq.write_table(pa.table(values), path)
    loaded(path, database, "any_types")
    columns = "small, unsigned, big, single, flag, day, clock, moment, zoned AT TIME ZONE 'UTC', words"
    assert query(database_url, f"SELECT {columns} FROM any_types ORDER BY moment") == [
        (
            1,
            2**32 - 1,
            -(2**63),
            0.5,
            True,
            date(2024, 2, 29),
            time(23, 59, 59, 999_999),
            datetime(1700, 1, 1),
            datetime(2024, 7, 1, 12),
            "ü\n\t\"'\\",
        ),
        (None, None, 2**63 - 1, None, None, None, None, datetime(2262, 4, 11), None, ""),
    ]
    assert query(database_url, "SELECT encode(bytes, 'hex') FROM any_types WHERE small = 1") == [("00ff",)]


def test_a_footer_that_promises_more_rows_aborts_the_load(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(1)])
    stream = open_stream(path, path.name, 10)
    stream = replace(stream, layout=replace(stream.layout, rows=2))
    with pytest.raises(SourceError, match="says it has 2 rows, but 1 were read"):
        loaded(path, embedded_database, stream=stream)
    assert not exists(embedded_database_url, "trips")


def test_many_at_once_load_a_file_once_and_different_files_all(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    same = trips(tmp_path, [row(1)])
    others = months(tmp_path, range(2, 5))
    loads = [Background(lambda path=path: loaded(path, database)) for path in [same] * 3 + others]
    assert sorted(load.result().status for load in loads) == ["loaded"] * 4 + ["skipped"] * 2
    assert totals(database_url) == [1, 2, 3, 4]


def test_a_file_that_changes_while_it_is_loaded_changes_nothing(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(1), row(2), row(3)])

    def append(_: LoadProgress) -> None:
        with path.open("a") as file:
            file.write(row(4) + "\n")

    with pytest.raises(SourceError, match="was changed while it was loaded"):
        loaded(path, embedded_database, on_progress=append)
    assert not exists(embedded_database_url, "trips")


def test_progress_counts_rows_and_bytes_to_the_end(tmp_path: Path, embedded_database: Database) -> None:
    path = trips(tmp_path, [row(n) for n in range(5)])
    seen: list[LoadProgress] = []
    loaded(path, embedded_database, on_progress=seen.append)
    assert [progress.rows for progress in seen] == [2, 4, 5]
    assert seen[-1].bytes == path.stat().st_size


def test_an_interrupt_while_copying_leaves_nothing(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    def interrupt(_: LoadProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loaded(trips(tmp_path, [row(1), row(2), row(3)]), database, on_progress=interrupt)
    assert not exists(database_url, "trips")
    assert sessions(database_url, COPYING) == 0


def test_a_lost_connection_changes_nothing_and_says_how_it_was_lost(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    def cut(_: LoadProgress) -> None:
        end_copies(database_url)

    with pytest.raises(DatabaseError, match="connection to Postgres was lost") as failure:
        loaded(trips(tmp_path, [row(n) for n in range(10_000)]), database, on_progress=cut)
    assert "run the same command again" in failure.value.hint
    assert not exists(database_url, "trips")


def test_a_role_with_the_documented_rights_can_load_and_replace(
    tmp_path: Path, system_url: str, database_url: str
) -> None:
    if parse_dsn(database_url)["host"].startswith("/"):
        pytest.skip("the embedded Postgres asks for no password")
    name = parse_dsn(database_url)["dbname"]
    execute(system_url, "DROP ROLE IF EXISTS loader; CREATE ROLE loader LOGIN PASSWORD 'loader-pw'")
    execute(database_url, f"GRANT CREATE ON DATABASE {name} TO loader")
    execute(database_url, "GRANT USAGE, CREATE ON SCHEMA public TO loader")
    loader = database_at(url_with(database_url, user="loader", password="loader-pw"))
    for amount, status in ((1, "loaded"), (2, "replaced")):
        assert loaded(trips(tmp_path, [row(amount)]), loader).status == status
    assert totals(database_url) == [2]


def test_a_role_without_rights_is_told_so(tmp_path: Path, system_url: str) -> None:
    execute(system_url, "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 'stranger-pw'")
    stranger = database_at(url_with(system_url, user="stranger", password="stranger-pw"))
    with pytest.raises(DatabaseError, match="permission denied") as failure:
        loaded(trips(tmp_path, [row(1)]), stranger)
    assert "docs/security.md" in failure.value.hint


def test_what_the_ledger_does_not_know_is_not_found(embedded_database: Database) -> None:
    assert look_back(embedded_database, Target("public", "trips"), "file:///x") == LookBack(None, None)


def test_a_schema_that_lacks_or_takes_no_table_is_told_before_a_file_is_read(
    system_url: str, database_url: str
) -> None:
    with pytest.raises(DatabaseError, match=r"There is no schema No where\.") as failure:
        look_back(database_at(database_url), Target("No where", "trips"), "file:///x")
    assert 'CREATE SCHEMA "No where"' in failure.value.hint
    if parse_dsn(database_url)["host"].startswith("/"):
        pytest.skip("the embedded Postgres asks for no password")
    execute(system_url, "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'reader-pw'")
    execute(
        database_url, "CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO reader; CREATE TABLE own.t (a int)"
    )
    reader = database_at(url_with(database_url, user="reader", password="reader-pw"))
    with pytest.raises(DatabaseError, match="reader may make no table in the schema own") as failure:
        look_back(reader, Target("own", "trips"), "file:///x")
    assert failure.value.hint == 'GRANT USAGE, CREATE ON SCHEMA "own" TO "reader"'
    assert look_back(reader, Target("own", "t"), "file:///x") == LookBack(None, None)


def test_a_wrong_password_is_said_without_the_password(system_url: str) -> None:
    wrong = system_url.replace("geheim-7391", "wrong-5512")
    with (
        pytest.raises(DatabaseError, match="password authentication failed") as failure,
        database_at(wrong).connect(),
    ):
        pass
    assert "wrong-5512" not in f"{failure.value} {failure.value.hint}"
    assert "Check user and password" in failure.value.hint


def test_a_missing_database_and_a_stopped_server_are_told_apart(embedded_url: str) -> None:
    for url, message in (
        (embedded_url.replace("ny_taxi", "nowhere"), 'database "nowhere" does not exist'),
        ("postgresql://u@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://u@no-such-host.invalid/x", "could not translate host name"),
    ):
        with pytest.raises(DatabaseError, match=message), database_at(url).connect():
            pass


def test_a_database_without_room_says_so() -> None:
    with pytest.raises(DatabaseError, match="could not extend file") as failure, explained():
        raise psycopg2.errors.DiskFull('could not extend file "base/1/2": No space left on device\n')
    assert "Free disk space" in failure.value.hint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5433/d", "postgresql://u@h:5433/d"),
        ("postgresql+psycopg2://u:secret@h/d?sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("host=/run/pg dbname=d password=secret", "postgresql:///d?host=%2Frun%2Fpg"),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
    ],
)
def test_an_address_never_shows_its_password(url: str, shown: str) -> None:
    assert address_of(url) == shown
    assert "secret" not in repr(database_at(url))


def test_an_unreadable_url_is_not_repeated() -> None:
    with pytest.raises(DatabaseError) as failure:
        database_at("postgresql://u:secret@h:notaport:1/d%zz")
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "allowance"),
    [("0", Allowance(rows=0)), ("100", Allowance(rows=100)), ("2.5%", Allowance(percent=2.5))],
)
def test_an_allowance_is_a_number_or_a_share(text: str, allowance: Allowance) -> None:
    assert parse_allowance(text) == allowance


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", "-1%", "nan%", "inf%"])
def test_anything_else_is_no_allowance(text: str) -> None:
    with pytest.raises(UsageError):
        parse_allowance(text)


@pytest.mark.parametrize(
    ("name", "read", "outside", "changed", "verdict"),
    [
        ("yellow_tripdata_2024-01.csv", 100, 0, False, "unknown"),
        ("trips.csv", 1_369_765, 0, False, "unknown"),
        ("yellow_tripdata_2021-01.csv", 1_369_765, 0, False, "match"),
        ("yellow_tripdata_2021-01.csv", 1_369_765, 209, False, "match"),
        ("yellow_tripdata_2021-01.csv", 1_369_765, 0, True, "revised"),
        ("yellow_tripdata_2021-01.csv", 1_369_766, 0, False, "revised"),
        ("yellow_tripdata_2021-01.csv", 1_369_764, 0, True, "short"),
        ("yellow_tripdata_2021-01.csv", 1_369_765, 1_369_765, False, "unknown"),
        ("yellow_tripdata_2021-01.csv", 2_000_000, 200_000, False, "unknown"),
        ("yellow_tripdata_2021-01.csv", 0, 0, False, "short"),
    ],
)
def test_a_known_count_gives_a_verdict_on_rows_of_that_month(
    tmp_path: Path, name: str, read: int, outside: int, changed: bool, verdict: str
) -> None:
    path = trips(tmp_path, [row(1)], name)
    comparison = compare(open_stream(path, name, 10), read, 0, {"pickup_outside_month": outside}, changed)
    assert comparison.verdict == verdict
    assert (comparison.known is None) == (verdict == "unknown")
    assert bool(comparison.note) == (verdict == "short" or outside > 209)


def test_verify_loads_nothing_of_a_file_that_is_short(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    unknown = loaded(trips(tmp_path, [row(1)]), embedded_database, verify=True)
    assert (unknown.record.verdict, "Nothing was verified" in unknown.record.notes[-1]) == ("unknown", True)
    assert known_rows("yellow", "2024-01", "parquet") == 2_964_624
    assert known_rows("yellow", "2021-01", "csv.gz") == 1_369_765
    short = trips(tmp_path, ["1,2021-01-15 12:00:00,1,5"], "yellow_tripdata_2021-01.csv")
    with pytest.raises(DataError, match=r"has 1 rows; TLC's .* is known to have 1,369,765") as failure:
        loaded(short, embedded_database, verify=True, allow_short=True)
    assert "without --verify" in failure.value.hint
    assert query(embedded_database_url, "SELECT verdict FROM taxi_ingest.loads") == [("unknown",)]


def test_oddities_are_counted_and_loaded_all_the_same(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = tmp_path / "green_tripdata_2024-01.csv"
    path.write_text(
        "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,trip_distance,total_amount\n"
        "1,2024-01-01 00:00:00,2024-01-01 00:10:00,1.5,10\n"
        "1,2023-12-31 23:59:59,2024-01-01 00:10:00,0,10\n"
        ",2024-02-01 00:00:00,2024-01-31 23:59:00,1,-10\n"
    )
    result = loaded(path, embedded_database)
    assert result.record.rows_loaded == 3
    expected = {
        "pickup_outside_month": 2,
        "dropoff_before_pickup": 1,
        "negative_amount": 1,
        "zero_distance": 1,
        "null_id": 1,
    }
    assert result.record.quality == expected
    assert query(embedded_database_url, "SELECT quality FROM taxi_ingest.loads") == [(expected,)]


def test_snake_names_need_no_quotes_and_the_table_remembers_them(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(1)])
    loaded(path, embedded_database, names="snake")
    assert query(embedded_database_url, "SELECT vendor_id, pickup_datetime::text FROM trips") == [
        (1, "2024-01-15 12:00:00")
    ]
    record = look_back(embedded_database, Target("public", "trips"), "").table
    assert record
    assert record.names == "snake"


def test_the_zone_lookup_has_a_key_and_is_replaced_whole(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    for name, zone in (("old.csv", "NV"), ("new.csv", "N/A")):
        path = tmp_path / name
        path.write_text(f'"LocationID","Borough","Zone","service_zone"\r\n264,"Unknown","{zone}","N/A"\r\n')
        loaded(path, database, "taxi_zones")
    assert query(database_url, "SELECT * FROM taxi_zones") == [(264, "Unknown", "N/A", "N/A")]
    assert query(database_url, "SELECT count(*) FROM pg_constraint WHERE conname = 'taxi_zones_pkey'") == [
        (1,)
    ]
    assert query(database_url, "SELECT status FROM taxi_ingest.loads ORDER BY load_id") == [
        ("replaced",),
        ("loaded",),
    ]


def test_a_users_own_zone_table_is_not_emptied(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    columns = '"LocationID" int, "Borough" text, "Zone" text, service_zone text'
    execute(embedded_database_url, f"CREATE TABLE taxi_zones ({columns})")
    execute(embedded_database_url, "INSERT INTO taxi_zones VALUES (1)")
    path = tmp_path / "zones.csv"
    path.write_text("LocationID,Borough,Zone,service_zone\n264,Unknown,NV,N/A\n")
    loaded(path, embedded_database, "taxi_zones")
    assert query(embedded_database_url, "SELECT count(*) FROM taxi_zones") == [(2,)]


def test_a_preview_tells_what_would_happen_and_writes_nothing(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(1)])
    first = looked_ahead(path, embedded_database)
    assert (first.action, first.rows, first.mapped["VendorID"]) == ("load", None, "VendorID")
    assert first.ddl.startswith(
        'CREATE TABLE "public"."trips" (_load_id integer NOT NULL, "VendorID" smallint'
    )
    assert "pickup_longitude" in first.missing
    assert not exists(embedded_database_url, "trips")
    loaded(path, embedded_database)
    again = looked_ahead(path, embedded_database)
    assert (again.action, again.ddl) == ("skip", "")
    path.write_text(path.read_text() + row(2) + "\n")
    assert looked_ahead(path, embedded_database).action == "replace"


def test_different_files_do_not_wait_for_each_other(tmp_path: Path, embedded_database: Database) -> None:
    known, first, second = months(tmp_path, range(1, 4))
    loaded(known, embedded_database)
    inner: list[LoadResult] = []

    def load_another(_: LoadProgress) -> None:
        inner.append(loaded(second, embedded_database))

    assert loaded(first, embedded_database, on_progress=load_another).status == "loaded"
    assert [result.status for result in inner] == ["loaded"]


def test_replacements_of_different_files_do_not_wait_for_each_other(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    names = ("yellow_tripdata_2024-01.csv", "yellow_tripdata_2024-02.csv")
    for n, name in enumerate(names):
        loaded(trips(tmp_path, [row(n)], name), embedded_database)
    outer, inner = (trips(tmp_path, [row(n)], name) for n, name in enumerate(names, start=2))
    results: list[LoadResult] = []

    def replace_the_other(_: LoadProgress) -> None:
        results.append(loaded(inner, embedded_database))

    results.append(loaded(outer, embedded_database, on_progress=replace_the_other))
    assert [result.status for result in results] == ["replaced", "replaced"]
    assert totals(embedded_database_url) == [2, 3]


def test_a_partition_has_what_the_user_gave_the_table(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    loaded(trips(tmp_path, [row(1)]), database)
    execute(
        database_url,
        "ALTER TABLE trips ADD CONSTRAINT sane CHECK (total_amount < 1000), ALTER total_amount SET NOT NULL, "
        "ADD twice float GENERATED ALWAYS AS (total_amount * 2) STORED, "
        "ADD \"odd name\" text DEFAULT 'it''s'",
    )
    loaded(trips(tmp_path, [row(2)], "yellow_tripdata_2024-02.csv"), database)
    assert query(database_url, 'SELECT twice, "odd name" FROM trips ORDER BY 1') == [
        (2, "it's"),
        (4, "it's"),
    ]
    with pytest.raises(DatabaseError, match="violates check constraint"):
        loaded(trips(tmp_path, [row(5000)], "yellow_tripdata_2024-03.csv"), database)


_PARQUET_TYPES = {
    "narrow": (pa.int16(), pa.timestamp("us"), pa.int16(), pa.float64(), pa.string()),
    "wide": (pa.float64(), pa.timestamp("ns"), pa.int64(), pa.float64(), pa.large_string()),
}
_NUMBERS = st.one_of(st.none(), st.integers(-(2**15), 2**15 - 1))
_MONEY = st.one_of(st.none(), st.floats(allow_nan=False, width=64))
_TEXTS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1))
_MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(_NUMBERS, _MOMENTS, _NUMBERS, _MONEY, _TEXTS), min_size=1, max_size=20),
    form=st.sampled_from(["csv", "csv.gz", "narrow", "wide"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    final_line_end=st.booleans(),
)
def test_any_trips_come_back_equal(
    rows: list[tuple[int | None, datetime, int | None, float | None, str | None]],
    form: str,
    line_end: str,
    final_line_end: bool,
    embedded_database: Database,
    embedded_database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("any") / (
        "trips.parquet" if form in ("narrow", "wide") else f"trips.{form}"
    )
    names = f"{HEADER},store_and_fwd_flag".split(",")
    if path.suffix == ".parquet":
        whole = pa.int16() if form == "narrow" else pa.float64()
        types = (
            whole,
            pa.timestamp("ns" if form == "wide" else "us"),
            whole,
            pa.float64(),
            pa.large_string(),
        )
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(values, pa.timestamp("us") if i == 1 else None) for i, values in enumerate(columns)
        ]
        pq.write_table(pa.table([a.cast(t) for a, t in zip(arrays, types, strict=True)], names), path)
    else:
        text = line_end.join([",".join(names), *map(_csv_line, rows)]) + (line_end if final_line_end else "")
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    execute(
        embedded_database_url, "DROP SCHEMA IF EXISTS taxi_ingest CASCADE; DROP TABLE IF EXISTS trips CASCADE"
    )
    result = loaded(path, embedded_database)
    assert (result.record.rows_read, result.record.rows_rejected) == (len(rows), 0)
    columns_sql = '"VendorID", tpep_pickup_datetime, passenger_count, total_amount, store_and_fwd_flag'
    assert Counter(query(embedded_database_url, f"SELECT {columns_sql} FROM trips")) == Counter(rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_row_of_a_corrupted_file_is_loaded_or_rejected(
    data: st.DataObject,
    embedded_database: Database,
    embedded_database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    body = bytearray("\r\n".join(row(n) for n in range(30)).encode())
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("any") / "trips.csv"
    path.write_bytes(f"{HEADER}\r\n".encode() + body)
    execute(embedded_database_url, "DROP SCHEMA IF EXISTS taxi_ingest CASCADE; DROP TABLE IF EXISTS trips")
    result = loaded(path, embedded_database, max_rejects="100%")
    lines = [line for line in bytes(body).split(b"\n") if line.strip(b"\r")]
    assert result.record.rows_read == len(lines) == result.record.rows_loaded + result.record.rows_rejected
    kept = query(embedded_database_url, "SELECT count(*) FROM taxi_ingest.rejects")
    assert (len(totals(embedded_database_url)), kept) == (
        result.record.rows_loaded,
        [(result.record.rows_rejected,)],
    )


def _csv_line(row: tuple[object, ...]) -> str:
    fields = [
        "" if value is None else repr(value) if isinstance(value, float) else str(value) for value in row
    ]
    return ",".join('"' + field.replace('"', '""') + '"' for field in fields)
