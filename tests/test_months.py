"""The catalogue against the ledger: what has become of each month, and what loading it takes."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import elsewhere, plain_table, row, trips
from helpers import execute, loaded
from http_server import Server
from taxi_ingest import Settings, tlc
from taxi_ingest.errors import DatabaseError, SourceError, UsageError
from taxi_ingest.load import Database, Target, note_attempt, undo
from taxi_ingest.months import (
    Month,
    Plan,
    calendars,
    check,
    check_room,
    compare,
    estimates,
    named,
    plan,
    published,
    with_revisions,
)
from taxi_ingest.places import Postgres
from taxi_ingest.settings.job import BackfillJob
from taxi_ingest.sources import Cache, parse_source
from taxi_ingest.tlc.sample import write_sample

TODAY = date(2024, 5, 20)
YELLOW = tlc.dataset_named("yellow")
MONTHS = tlc.parse_range("all", YELLOW, TODAY).months


def month_file(folder: Path, month: str, amount: int = 1) -> Path:
    return trips(folder, [row(amount, pickup=f"{month}-15 12:00:00")], f"yellow_tripdata_{month}.csv")


def fail(database: Database, month: str, table: str = "trips", message: str = "It is gone.") -> None:
    note_attempt(
        database,
        SourceError(message, "Look for it."),
        target=Target("public", table),
        source=f"http://127.0.0.1/yellow_tripdata_{month}.parquet",
        started_at=datetime(2024, 3, 1, tzinfo=UTC),
        dataset="yellow",
        month=month,
    )


def told(database: Database, table: str = "trips") -> dict[str, Month]:
    """All months of yellow in a table."""
    found = compare(Postgres(database), Target("public", table), "yellow", MONTHS, TODAY)
    assert tuple(month.month for month in found) == MONTHS
    return {month.month: month for month in found}


def states(months: dict[str, Month]) -> dict[str, str]:
    """Those that are not just missing or unpublished."""
    return {
        name: month.state for name, month in months.items() if month.state not in ("missing", "unpublished")
    }


def mirror(folder: Path, *months: str) -> Settings:
    """Settings whose catalogue is a folder with these months of yellow."""
    for month in months:
        month_file(folder, month)
    return Settings(tlc_url=str(folder))


# Which months a range stands for


@pytest.mark.parametrize(
    ("text", "dataset", "first", "last", "open_end"),
    [
        ("2019-01..2021-07", "yellow", "2019-01", "2021-07", False),
        ("2019-05", "yellow", "2019-05", "2019-05", False),
        ("2019", "yellow", "2019-01", "2019-12", False),
        ("2019..2021", "yellow", "2019-01", "2021-12", False),
        ("2019-03..2020", "yellow", "2019-03", "2020-12", False),
        ("2013", "green", "2013-08", "2013-12", False),
        ("2024-01..2024-05", "yellow", "2024-01", "2024-05", False),
        ("2023", "yellow", "2023-01", "2023-12", True),
        ("2024", "yellow", "2024-01", "2024-05", True),
        ("2023-11..", "yellow", "2023-11", "2024-05", True),
        ("2023..", "yellow", "2023-01", "2024-05", True),
        ("all", "fhvhv", "2019-02", "2024-05", True),
        (" all ", "yellow", "2009-01", "2024-05", True),
    ],
)
def test_a_range_stands_for_its_months_and_its_end_may_be_open(
    text: str, dataset: str, first: str, last: str, open_end: bool
) -> None:
    found = tlc.parse_range(text, tlc.trips_named(dataset), TODAY)
    assert (found.months[0], found.months[-1], found.open_end) == (first, last, open_end)


@pytest.mark.parametrize(
    ("text", "dataset", "said", "hint"),
    [
        ("", "yellow", "is no month and no range", "2019-01..2021-07"),
        ("..2020", "yellow", "is no month and no range", "2019-01..2021-07"),
        ("January", "yellow", "is no month and no range", "2019-01..2021-07"),
        ("2019-1..2020", "yellow", "is no month and no range", "Did you mean 2019-01..2020?"),
        ("2019-01:2021-07", "yellow", "is no month and no range", "Did you mean 2019-01..2021-07?"),
        ("2019-01-2021-07", "yellow", "is no month and no range", "Did you mean 2019-01..2021-07?"),
        ("Jan 2019 to Feb 2020", "yellow", "is no month and no range", "Did you mean 2019-01..2020-02?"),
        ("2019-13", "yellow", "is no month and no range", "2019-01..2021-07"),
        ("2019..2020..2021", "yellow", "is no month and no range", "2019-01..2021-07"),
        ("2021..2019", "yellow", "ends before it begins", "2019-01..2021-07"),
        ("2021-07..2021-06", "yellow", "ends before it begins", "2019-01..2021-07"),
        ("2008", "yellow", "no yellow trips of 2008-01", "begin in 2009-01"),
        ("2013-07..2014-01", "green", "no green trips of 2013-07", "begin in 2013-08"),
        ("2024-06", "yellow", "no yellow trips of 2024-06", "end now"),
        ("2025", "yellow", "no yellow trips of 2025-12", "end now"),
        ("2019", "zones", "has no months", "taxi-ingest zones"),
    ],
)
def test_what_is_no_range_is_refused_with_what_is_one(text: str, dataset: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as failure:
        tlc.parse_range(text, tlc.trips_named(dataset), TODAY)
    assert hint in failure.value.hint


@given(st.integers(0, len(MONTHS) - 1), st.integers(0, len(MONTHS) - 1))
def test_a_range_from_one_month_to_another_is_all_between_them(one: int, other: int) -> None:
    first, last = sorted((one, other))
    found = tlc.parse_range(f"{MONTHS[first]}..{MONTHS[last]}", YELLOW, TODAY)
    assert (found.months, found.open_end) == (MONTHS[first : last + 1], False)


@given(
    st.one_of(
        st.text(),
        st.text("0123456789-. al", max_size=20),
        st.from_regex(r"[0-9]{4}(-[0-9]{2})?(\.\.([0-9]{4}(-[0-9]{2})?)?)?", fullmatch=True),
    ),
    st.sampled_from(["yellow", "green", "fhv", "fhvhv"]),
)
def test_whatever_is_written_is_a_range_of_months_that_there_are_or_refused(text: str, name: str) -> None:
    dataset = tlc.dataset_named(name)
    every = tlc.parse_range("all", dataset, TODAY).months
    try:
        months = tlc.parse_range(text, dataset, TODAY).months
    except UsageError:
        return
    begin = every.index(months[0])
    assert months == every[begin : begin + len(months)]


# What has become of each


def test_without_a_ledger_all_months_are_missing_but_for_those_that_can_hardly_be_published(
    embedded_database: Database,
) -> None:
    found = told(embedded_database)
    assert [name for name, month in found.items() if month.state == "unpublished"] == ["2024-04", "2024-05"]
    assert {month.state for month in found.values()} == {"missing", "unpublished"}


def test_a_month_is_loaded_short_failed_or_missing(tmp_path: Path, embedded_database: Database) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    loaded(month_file(tmp_path, "2021-01"), embedded_database)  # of which many more rows are known
    fail(embedded_database, "2020-05")
    found = told(embedded_database)
    assert states(found) == {"2020-05": "failed", "2021-01": "short", "2024-01": "loaded"}
    assert found["2024-01"].load
    assert (found["2024-01"].load.load_id, found["2024-01"].load.rows_loaded) == (1, 1)
    assert found["2020-05"].attempt
    assert (found["2020-05"].attempt.exit_code, found["2020-05"].attempt.message) == (3, "It is gone.")
    assert (found["2021-01"].name, found["2021-01"].known_rows) == ("yellow 2021-01", 1_369_769)


def test_a_month_that_was_loaded_before_it_was_to_be_expected_is_loaded(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2024-05"), embedded_database)
    assert states(told(embedded_database)) == {"2024-05": "loaded"}


def test_months_are_those_of_one_dataset_in_one_table(tmp_path: Path, embedded_database: Database) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    loaded(month_file(tmp_path, "2024-02"), embedded_database, "other")
    fail(embedded_database, "2024-03", "other")
    assert states(told(embedded_database)) == {"2024-01": "loaded"}
    assert states(told(embedded_database, "other")) == {"2024-02": "loaded", "2024-03": "failed"}
    green = compare(Postgres(embedded_database), Target("public", "trips"), "green", MONTHS[-5:], TODAY)
    assert {month.state for month in green} == {"missing", "unpublished"}


RENAMED = "ALTER TABLE trips RENAME TO moved"
DETACHED = "ALTER TABLE trips DETACH PARTITION taxi_ingest.load_1"


@pytest.mark.parametrize(
    ("statements", "table", "now"),
    [
        ([RENAMED], "moved", {"2024-01": "loaded"}),
        ([RENAMED], "trips", {}),
        (["DROP TABLE trips"], "trips", {}),
        (["DROP TABLE trips", "CREATE TABLE trips (a int)"], "trips", {}),
        (["DROP TABLE taxi_ingest.load_1"], "trips", {}),
        ([DETACHED], "trips", {}),
        (
            [DETACHED, "ALTER TABLE trips ATTACH PARTITION taxi_ingest.load_1 FOR VALUES IN (1)"],
            "trips",
            {"2024-01": "loaded"},
        ),
    ],
)
def test_the_ledger_follows_what_someone_does_to_a_table(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    statements: list[str],
    table: str,
    now: dict[str, str],
) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    execute(embedded_database_url, *statements)
    assert states(told(embedded_database, table)) == now


def test_months_in_a_table_of_the_users_own_are_loaded_while_there_is_one(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, plain_table("own"))
    loaded(month_file(tmp_path, "2024-01"), embedded_database, "own")
    assert states(told(embedded_database, "own")) == {"2024-01": "loaded"}
    execute(embedded_database_url, "DROP TABLE own")
    assert states(told(embedded_database, "own")) == {}


def test_a_month_that_was_undone_is_missing(tmp_path: Path, embedded_database: Database) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    undo(embedded_database, 1)
    assert states(told(embedded_database)) == {}


def test_of_a_month_that_is_there_twice_it_is_the_later_load(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    loaded(elsewhere(tmp_path, [row(5)]), embedded_database, keep_both=True)
    load = told(embedded_database)["2024-01"].load
    assert load
    assert load.load_id == 2
    undo(embedded_database, 2)
    load = told(embedded_database)["2024-01"].load
    assert load
    assert load.load_id == 1


def test_a_loaded_month_whose_later_try_failed_is_loaded_and_has_that_try(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    fail(embedded_database, "2024-01")
    month = told(embedded_database)["2024-01"]
    assert (month.state, month.attempt is not None) == ("loaded", True)


def test_a_try_that_a_load_has_followed_is_past_also_when_that_is_undone(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2024-02"), embedded_database)
    fail(embedded_database, "2024-01")
    assert states(told(embedded_database)) == {"2024-01": "failed", "2024-02": "loaded"}
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    month = told(embedded_database)["2024-01"]
    assert (month.state, month.attempt) == ("loaded", None)
    undo(embedded_database, 2)
    assert states(told(embedded_database)) == {"2024-02": "loaded"}
    fail(embedded_database, "2024-01")
    assert states(told(embedded_database)) == {"2024-01": "failed", "2024-02": "loaded"}


def test_of_many_tries_it_is_the_last_one(tmp_path: Path, embedded_database: Database) -> None:
    loaded(month_file(tmp_path, "2024-02"), embedded_database)
    for message in ("It is cut.", "It is gone."):
        fail(embedded_database, "2024-01", message=message)
    attempt = told(embedded_database)["2024-01"].attempt
    assert attempt
    assert attempt.message == "It is gone."


# Which files have changed since


def test_a_month_whose_file_is_another_now_is_revised(tmp_path: Path, embedded_database: Database) -> None:
    for month in ("2024-01", "2024-02", "2024-03"):
        loaded(month_file(tmp_path, month), embedded_database)
    month_file(tmp_path, "2024-02", amount=7)
    (tmp_path / "yellow_tripdata_2024-03.csv").unlink()
    found = with_revisions(list(told(embedded_database).values()), Settings())
    assert states({month.month: month for month in found}) == {
        "2024-01": "loaded",
        "2024-02": "revised",
        "2024-03": "loaded",
    }


def test_of_a_server_only_the_headers_of_loaded_months_are_asked(
    tmp_path: Path, embedded_database: Database, server: Server
) -> None:
    for month in ("2024-01", "2024-02"):
        path = month_file(tmp_path, month)
        source = parse_source(server.url(path.name)).fetch(tmp_path, Cache(tmp_path / "cache", 1_000_000))
        assert source
        loaded(source, embedded_database)
    month_file(tmp_path, "2024-02", amount=7)
    before = len(server.requests)
    found = with_revisions(list(told(embedded_database).values()), Settings())
    assert states({month.month: month for month in found}) == {"2024-01": "loaded", "2024-02": "revised"}
    assert sorted(request.status for request in server.requests[before:]) == [200, 304]


def test_an_address_of_a_kind_that_is_not_known_here_is_not_revised(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    execute(embedded_database_url, "UPDATE taxi_ingest.loads SET source = 's3://bucket/file'")
    found = with_revisions(list(told(embedded_database).values()), Settings())
    assert states({month.month: month for month in found}) == {"2024-01": "loaded"}


def test_where_the_catalogue_has_the_file_now_is_asked_if_it_has_one_of_that_name(
    tmp_path: Path, embedded_database: Database, server: Server
) -> None:
    for month in ("2024-01", "2024-02", "2024-03"):
        source = parse_source(server.url(month_file(tmp_path, month).name))
        file = source.fetch(tmp_path, Cache(tmp_path / "cache", 1_000_000))
        assert file
        loaded(file, embedded_database)
        month_file(tmp_path, month, amount=7)
    moved = tmp_path / "moved"
    moved.mkdir()
    month_file(moved, "2024-01")
    month_file(moved, "2024-02", amount=77_777)
    settings = Settings(tlc_url=server.url("moved"))
    found = with_revisions(list(told(embedded_database).values()), settings)
    assert states({month.month: month for month in found}) == {
        "2024-01": "loaded",
        "2024-02": "revised",
        "2024-03": "revised",
    }


# Which are published


def test_the_months_after_the_last_that_has_a_file_are_unpublished(
    tmp_path: Path, embedded_database: Database
) -> None:
    settings = mirror(tmp_path, "2023-11", "2024-02")
    found = published(list(told(embedded_database).values()), settings)
    after = [month.month for month in found if month.state == "unpublished"]
    assert after == ["2024-03", "2024-04", "2024-05"]


def test_a_month_that_was_loaded_is_published_wherever_its_file_is_now(
    tmp_path: Path, embedded_database: Database
) -> None:
    settings = mirror(tmp_path, "2024-01", "2024-03")
    loaded(tmp_path / "yellow_tripdata_2024-03.csv", embedded_database)
    (tmp_path / "yellow_tripdata_2024-03.csv").unlink()
    found = published(list(told(embedded_database).values()), settings)
    assert [month.month for month in found if month.state == "unpublished"] == ["2024-04", "2024-05"]
    assert states({month.month: month for month in found}) == {"2024-03": "loaded"}


def test_a_month_that_is_named_is_missing_also_where_it_can_hardly_be_published(
    embedded_database: Database,
) -> None:
    assert {month.state for month in named(list(told(embedded_database).values()))} == {"missing"}


@pytest.mark.parametrize(
    ("months", "loading"),
    [
        ("2023-12..", ["2024-02"]),
        ("2024", ["2024-02"]),
        ("2023-12..2024-03", ["2024-02", "2024-03"]),
        ("2024-01", []),
    ],
)
def test_a_plan_ends_with_what_is_published_only_where_its_end_is_open(
    tmp_path: Path, embedded_database: Database, months: str, loading: list[str]
) -> None:
    settings = mirror(tmp_path, "2023-12", "2024-01", "2024-02")
    for month in ("2023-12", "2024-01"):
        loaded(tmp_path / f"yellow_tripdata_{month}.csv", embedded_database, "yellow_tripdata")
    planned = plan_of(embedded_database, months, settings)
    assert [month.month for month in planned.loading] == loading


def plan_of(database: Database, months: str, settings: Settings, **how: Any) -> Plan:
    return plan(
        Postgres(database),
        BackfillJob(datasets=["yellow"], months=months, until=f"{TODAY:%Y-%m}", **how),
        settings,
    )


def test_a_plan_takes_the_months_that_are_to_be_done_again(
    tmp_path: Path, embedded_database: Database
) -> None:
    settings = mirror(tmp_path, "2024-01", "2024-02", "2024-03")
    for month in ("2024-01", "2024-02"):
        loaded(tmp_path / f"yellow_tripdata_{month}.csv", embedded_database)
    month_file(tmp_path, "2024-02", amount=7)
    fail(embedded_database, "2024-03")

    def loading(reprocess: str, **how: object) -> list[str]:
        planned = plan_of(
            embedded_database, "2023-12..2024-03", settings, table="trips", reprocess=reprocess, **how
        )
        return [month.month for month in planned.loading]

    assert loading("missing") == ["2023-12", "2024-03"]
    assert loading("failed") == ["2024-03"]
    assert loading("revised") == ["2024-02"]
    assert loading("all") == ["2023-12", "2024-01", "2024-02", "2024-03"]
    assert loading("all", newest_first=True) == ["2024-03", "2024-02", "2024-01", "2023-12"]


def test_a_mirror_without_any_file_is_an_error_and_not_all_unpublished(
    tmp_path: Path, embedded_database: Database
) -> None:
    with pytest.raises(SourceError, match=r"has no file of yellow from 2023-01 on"):
        plan_of(embedded_database, "2023..", mirror(tmp_path))


def test_a_table_holds_one_dataset() -> None:
    with pytest.raises(UsageError, match="one dataset"):
        check(BackfillJob(datasets=["yellow", "green"], months="2023", table="trips"))


# What loading them takes


def test_an_estimate_knows_rows_and_file_at_once_and_the_time_after_a_load(
    tmp_path: Path, embedded_database: Database
) -> None:
    settings = mirror(tmp_path, "2021-01", "2024-01")
    months = [told(embedded_database)[name] for name in ("2021-01", "2024-01", "2024-02")]
    first, second, absent = estimates(Postgres(embedded_database), months, settings)
    length = (tmp_path / "yellow_tripdata_2021-01.csv").stat().st_size
    assert (first.rows, first.file_bytes, first.seconds) == (1_369_769, length, None)
    assert first.table_bytes
    # That many rows are not in so short a file; of one that is not there nothing else is known.
    assert first.table_bytes < 100_000
    assert absent.table_bytes
    assert 100_000_000 < absent.table_bytes < 1_000_000_000
    assert (second.rows, absent.file_bytes) == (2_964_624, None)
    loaded(tmp_path / "yellow_tripdata_2024-01.csv", embedded_database)
    # One row is no measure of a million.
    after, *_ = estimates(Postgres(embedded_database), months, settings)
    assert (after.seconds, after.table_bytes) == (None, first.table_bytes)
    path = write_sample("yellow", "2021-02", tmp_path / "yellow_tripdata_2021-02.parquet", 10_000)
    loaded(path, embedded_database, chunk_size=10_000)
    after, *_ = estimates(Postgres(embedded_database), months, settings)
    assert after.seconds
    assert after.seconds > 0


def test_rows_that_are_not_known_are_reckoned_from_the_files_length(
    tmp_path: Path, embedded_database: Database
) -> None:
    settings = mirror(tmp_path, "2009-01", "2009-02")
    assert tlc.known_rows("yellow", "2009-02", "csv") is None
    months = [told(embedded_database)[name] for name in ("2009-02", "2009-03")]
    before, _ = estimates(Postgres(embedded_database), months, settings)
    assert (before.rows, before.table_bytes) == (None, None)
    loaded(tmp_path / "yellow_tripdata_2009-01.csv", embedded_database)
    after, absent = estimates(Postgres(embedded_database), months, settings)
    assert (after.rows, absent.rows) == (1, None)


class Disk(NamedTuple):
    """As `shutil.disk_usage` has it."""

    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "fits"), [(200_000_000_000, True), (1_000_000_000, False)])
def test_months_that_do_not_fit_on_the_disk_are_refused_before_they_are_begun(
    tmp_path: Path, embedded_database: Database, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(free, 0, free))
    months = [month for name, month in told(embedded_database).items() if "2019-01" <= name <= "2021-07"]
    if fits:
        check_room(Postgres(embedded_database), months, Settings(tlc_url=str(tmp_path)))
        return
    with pytest.raises(DatabaseError, match=r"31 months need about .* GB; the database's disk has 1.0 GB"):
        check_room(Postgres(embedded_database), months, Settings(tlc_url=str(tmp_path)))


# Which tables have months


def calendars_of(
    database: Database, *datasets: str, table: str | None = None
) -> list[tuple[str, str, dict[str, int]]]:
    found = calendars(Postgres(database), datasets, table, TODAY)
    return [
        (each.dataset, str(each.target), {state: n for state, n in each.counts.items() if n})
        for each in found
    ]


def test_each_table_that_has_months_has_a_calendar(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    assert calendars_of(embedded_database) == []
    execute(embedded_database_url, plain_table("own"), "CREATE SCHEMA staging", "CREATE TABLE gone (a int)")
    loaded(month_file(tmp_path, "2024-01"), embedded_database, "staging.trips")
    loaded(month_file(tmp_path, "2024-02"), embedded_database, "own")
    loaded(month_file(tmp_path, "2024-03"), embedded_database, "yellow_tripdata")
    loaded(month_file(tmp_path, "2024-01"), embedded_database, "dropped")
    fail(embedded_database, "2024-01", "typo")
    execute(embedded_database_url, "DROP TABLE dropped")
    counts = {"loaded": 1, "missing": 182, "unpublished": 2}
    assert calendars_of(embedded_database) == [
        ("yellow", name, counts) for name in ("yellow_tripdata", "own", "staging.trips")
    ]
    execute(embedded_database_url, "ALTER TABLE yellow_tripdata RENAME TO renamed")
    assert [table for _, table, _ in calendars_of(embedded_database)] == ["own", "renamed", "staging.trips"]


def test_a_usual_table_of_which_every_try_failed_has_a_calendar(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    undo(embedded_database, 1)
    fail(embedded_database, "2024-01", "yellow_tripdata")
    assert calendars_of(embedded_database) == [
        ("yellow", "yellow_tripdata", {"failed": 1, "missing": 182, "unpublished": 2})
    ]


def test_calendars_are_of_the_datasets_and_the_table_that_are_named(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2024-01"), embedded_database)
    named = calendars_of(embedded_database, "green", "yellow", "green")
    assert [(dataset, table) for dataset, table, _ in named] == [
        ("green", "green_tripdata"),
        ("yellow", "trips"),
    ]
    assert [name for name, *_ in calendars_of(embedded_database, table="trips")] == ["yellow"]
    assert calendars_of(embedded_database, table="other") == []
    assert [table for _, table, _ in calendars_of(embedded_database, "yellow", table="other")] == ["other"]
    for wrong in ("zones", "pink"):
        with pytest.raises(UsageError):
            calendars_of(embedded_database, wrong)
