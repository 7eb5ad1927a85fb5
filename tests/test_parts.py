"""One file over several connections: still one load, visible at one moment, and all that holds for a load."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import HEADER, JANUARY, plain_table, row, trips
from helpers import (
    COPYING,
    Cli,
    execute,
    held,
    loaded,
    query,
    sessions,
    start_cli,
    together,
    totals,
    until,
    url_with,
    value,
)
from taxi_ingest.errors import DatabaseError, DataError, TransientDatabaseError, UsageError
from taxi_ingest.load import (
    Database,
    Filter,
    LoadProgress,
    cancel_all,
    database_at,
    list_loads,
    listening_for_signals,
    rejects_of,
    undo,
)
from taxi_ingest.load.connections import connections_for
from taxi_ingest.settings.job import Job, LoadOptions, usual_connections
from taxi_ingest.sources import local_file
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.transform import open_stream

PARTS = "SELECT _load_id, load_id FROM taxi_ingest.parts ORDER BY 1"
TABLES = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'taxi_ingest' AND relkind = 'r' AND relname ~ '^load' AND relname <> 'loads' ORDER BY 1
"""


def many(folder: Path, name: str = JANUARY, rows: int = 60, first: int = 0) -> Path:
    return trips(folder, [row(number) for number in range(first, first + rows)], name)


def test_a_file_is_one_load_over_however_many_connections(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    result = loaded(many(tmp_path), database, connections=3, on_progress=together(database_url, 3))
    assert (result.record.load_id, result.record.rows_read, result.record.rows_loaded) == (1, 60, 60)
    assert totals(database_url) == list(range(60))
    assert query(database_url, PARTS) == [(1, 1), (2, 1), (3, 1)]
    assert query(database_url, TABLES) == [("load_1",), ("load_2",), ("load_3",)]
    assert query(
        database_url,
        "SELECT load_id, month, count(*) FROM trips JOIN taxi_ingest.parts USING (_load_id)"
        " JOIN taxi_ingest.loads USING (load_id) GROUP BY 1, 2",
    ) == [(1, "2024-01", 60)]
    frozen = "SELECT count(DISTINCT xmin::text) FROM trips"
    assert value(database_url, frozen) == 3, "each part is a table that its own transaction has filled"


def test_the_same_file_is_skipped_and_a_revised_one_replaces_all_parts(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    how = {"connections": 2, "on_progress": together(database_url, 2)}
    loaded(many(tmp_path), database, **how)
    assert loaded(many(tmp_path), database, connections=2).status == "skipped"
    assert loaded(many(tmp_path, rows=80, first=1000), database, **how).status == "replaced"
    assert totals(database_url) == list(range(1000, 1080))
    assert query(database_url, TABLES) == [("load_3",), ("load_4",)]


def test_undo_takes_out_all_parts_and_the_file_can_be_loaded_again(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    result = loaded(many(tmp_path), database, connections=2, on_progress=together(database_url, 2))
    undo(database, result.record.load_id)
    assert (totals(database_url), query(database_url, TABLES)) == ([], [])
    assert loaded(many(tmp_path), database, connections=1).status == "loaded"
    assert totals(database_url) == list(range(60))


def test_nothing_is_seen_of_a_load_until_all_of_it_is(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    url = embedded_database_url
    loaded(many(tmp_path), embedded_database)
    seen: set[object] = set()
    wait = together(url, 2)

    def look(progress: LoadProgress) -> None:
        wait(progress)
        seen.add(value(url, "SELECT count(*) FROM trips"))

    february = many(tmp_path, "yellow_tripdata_2024-02.csv", 40, 1000)
    loaded(february, embedded_database, connections=2, on_progress=look)
    assert seen == {60}
    assert value(url, "SELECT count(*) FROM trips") == 100


def test_rejects_keep_their_lines_and_their_order(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    rows = [row("much" if number % 7 == 0 else number) for number in range(70)]
    result = loaded(
        trips(tmp_path, rows),
        embedded_database,
        connections=2,
        on_progress=together(embedded_database_url, 2),
        max_rejects="100",
    )
    assert (result.record.rows_loaded, result.record.rows_rejected) == (60, 10)
    rejects = rejects_of(embedded_database, 1, 100)
    assert [reject.number for reject in rejects] == list(range(2, 72, 7))
    stored = query(embedded_database_url, "SELECT number FROM taxi_ingest.rejects ORDER BY ctid")
    assert stored == [(number,) for number in range(2, 72, 7)]


def test_a_file_with_too_many_rejects_leaves_nothing(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = trips(tmp_path, [row("much") if number == 50 else row(number) for number in range(60)])
    progress = together(embedded_database_url, 2)
    with pytest.raises(DataError):
        loaded(file, embedded_database, connections=2, on_progress=progress, max_rejects="0")
    assert query(embedded_database_url, TABLES) == []
    assert query(embedded_database_url, PARTS) == []


def test_a_month_that_lacks_rows_leaves_nothing(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = write_sample("yellow", "2021-01", tmp_path / "yellow_tripdata_2021-01.parquet", 60)
    progress = together(embedded_database_url, 2)
    with pytest.raises(DataError, match="is known to have"):
        loaded(file, embedded_database, connections=2, on_progress=progress, verify=True)
    assert query(embedded_database_url, TABLES) == []


def test_a_type_that_was_misjudged_is_put_right_for_all_parts(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = tmp_path / "any.csv"
    path.write_text("n\n" + "1\n" * 5000 + "1.5\n" + "1\n" * 5000)
    loaded(path, embedded_database, chunk_size=100, connections=2)
    assert query(embedded_database_url, "SELECT n::text, count(*) FROM trips GROUP BY 1 ORDER BY 1") == [
        ("1", 10_000),
        ("1.5", 1),
    ]


def test_a_column_that_is_new_to_the_table_is_in_all_parts(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(many(tmp_path), embedded_database)
    february = tmp_path / "yellow_tripdata_2024-02.csv"
    february.write_text(f"{HEADER},colour\n" + "".join(f"{row(number)},red\n" for number in range(60)))
    loaded(february, embedded_database, connections=2, on_progress=together(embedded_database_url, 2))
    assert query(
        embedded_database_url,
        "SELECT colour, count(*) FROM trips GROUP BY 1 ORDER BY 1",
    ) == [("red", 60), (None, 60)]


def test_a_users_own_table_is_filled_over_one_connection(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, plain_table("trips"))
    loaded(many(tmp_path), embedded_database, connections=3)
    assert totals(embedded_database_url) == list(range(60))
    assert query(embedded_database_url, PARTS) == []


# Parts that someone moves


def test_a_load_of_which_a_part_is_detached_is_not_there_and_not_loaded_beside_the_rest(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    file = many(tmp_path)
    loaded(file, database, connections=2, on_progress=together(database_url, 2))
    execute(database_url, "ALTER TABLE trips DETACH PARTITION taxi_ingest.load_2")
    assert [load.status for load in list_loads(database, Filter())] == ["dropped"]
    with pytest.raises(DataError, match="a part of load 1") as refused:
        loaded(file, database)
    assert "taxi-ingest undo 1" in refused.value.hint
    execute(database_url, "ALTER TABLE trips ATTACH PARTITION taxi_ingest.load_2 FOR VALUES IN (2)")
    assert loaded(file, database).status == "skipped"
    assert totals(database_url) == list(range(60))


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_left_of_a_load_can_be_undone(
    number: int, tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = many(tmp_path)
    loaded(file, embedded_database, connections=2, on_progress=together(embedded_database_url, 2))
    execute(
        embedded_database_url,
        f"ALTER TABLE trips DETACH PARTITION taxi_ingest.load_{number}; DROP TABLE taxi_ingest.load_{number}",
    )
    undo(embedded_database, 1)
    assert totals(embedded_database_url) == []
    loaded(file, embedded_database)
    assert totals(embedded_database_url) == list(range(60))


def test_all_parts_detached_and_attached_again_count_as_loaded(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = many(tmp_path)
    loaded(file, embedded_database, connections=2, on_progress=together(embedded_database_url, 2))
    for number in (1, 2):
        execute(embedded_database_url, f"ALTER TABLE trips DETACH PARTITION taxi_ingest.load_{number}")
    assert [load.status for load in list_loads(embedded_database, Filter())] == ["dropped"]
    for number in (1, 2):
        attach = f"ALTER TABLE trips ATTACH PARTITION taxi_ingest.load_{number} FOR VALUES IN ({number})"
        execute(embedded_database_url, attach)
    assert [load.status for load in list_loads(embedded_database, Filter())] == ["loaded"]


def test_a_renamed_table_keeps_its_load_of_several_parts(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = many(tmp_path)
    loaded(file, embedded_database, connections=2, on_progress=together(embedded_database_url, 2))
    execute(embedded_database_url, "ALTER TABLE trips RENAME TO journeys")
    assert loaded(file, embedded_database, "journeys", connections=2).status == "skipped"
    undo(embedded_database, 1)
    assert totals(embedded_database_url, "journeys") == []


# Loads that die


@pytest.fixture
def left(tmp_path: Path, cli: Cli, embedded_database_url: str) -> Iterator[Path]:
    """A file whose load was killed after its second part was committed, and before the load was."""
    del cli
    loaded(many(tmp_path, "yellow_tripdata_2023-12.csv", 5), database_at(embedded_database_url), "others")
    path = tmp_path / "yellow_tripdata_2024-01.parquet"
    write_sample("yellow", "2024-01", path, 40_000)
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    how = ("--connections", 2, "--chunk-size", 1000, "--quiet")
    with closing(held(embedded_database_url, "LOCK TABLE taxi_ingest.parts IN SHARE MODE")):
        process = start_cli("ingest", "--url", path, "--table", "trips", *how, env=env)
        until(lambda: ("loading_3",) in query(embedded_database_url, TABLES))
        process.kill()
        process.communicate()
    until(lambda: not sessions(embedded_database_url, "application_name = 'taxi-ingest'"))
    return path


def test_what_a_killed_load_leaves_is_in_no_table_and_the_next_load_removes_it(
    left: Path, cli: Cli, embedded_database: Database, embedded_database_url: str
) -> None:
    assert value(embedded_database_url, "SELECT to_regclass('trips') IS NULL")
    assert query(embedded_database_url, TABLES) == [("load_1",), ("loading_3",)]
    told = cli("doctor", "--database-url", embedded_database_url)
    assert "taxi_ingest.loading_3" in told.stdout + told.stderr
    loaded(left, embedded_database, chunk_size=1000)
    assert [name for (name,) in query(embedded_database_url, TABLES) if str(name).startswith("loading")] == []
    assert value(embedded_database_url, "SELECT count(*) FROM trips") == 40_000


def test_a_living_loads_parts_are_left_alone(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    url = embedded_database_url
    other = many(tmp_path, "green_tripdata_2024-01.csv", 3)
    loaded(other, embedded_database, "others")
    reading = held(url, "LOCK TABLE others IN ACCESS SHARE MODE")
    with ThreadPoolExecutor() as pool:
        # To replace what it has, a load waits for who reads it: its other part is committed by then.
        other.write_text(many(tmp_path, "more.csv", 60).read_text())
        how = {"connections": 2, "on_progress": together(url, 2)}
        waiting = pool.submit(loaded, other, embedded_database, "others", **how)
        until(lambda: any(str(name).startswith("loading") for (name,) in query(url, TABLES)))
        loaded(many(tmp_path), embedded_database)
        assert any(str(name).startswith("loading") for (name,) in query(url, TABLES))
        reading.close()
        assert waiting.result().status == "replaced"
    assert value(url, "SELECT count(*) FROM others") == 60


def test_a_load_that_can_not_be_attached_removes_what_it_has_committed(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxi_ingest.load.waiting._PATIENCE_SECONDS", 0)
    monkeypatch.setattr("taxi_ingest.load.waiting.patiently.__defaults__", (0.0,))
    file = many(tmp_path)
    loaded(file, embedded_database)
    file.write_text(many(tmp_path, "more.csv", 80).read_text())
    with (
        closing(held(embedded_database_url, "LOCK TABLE trips IN ACCESS SHARE MODE")),
        pytest.raises(DatabaseError, match="without a pause"),
    ):
        loaded(file, embedded_database, connections=2, on_progress=together(embedded_database_url, 2))
    assert query(embedded_database_url, TABLES) == [("load_1",)]
    assert totals(embedded_database_url) == list(range(60))


def test_one_backend_of_several_that_is_ended_fails_the_load_whole(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    wait = together(database_url, 2)

    def strike(progress: LoadProgress) -> None:
        wait(progress)
        if progress.rows > 20:
            execute(
                database_url,
                "SELECT pg_terminate_backend(max(pid)) FROM pg_stat_activity"
                f" WHERE datname = current_database() AND {COPYING}",
            )

    with pytest.raises(TransientDatabaseError):
        loaded(many(tmp_path), database, connections=2, on_progress=strike)
    assert query(database_url, TABLES) == []
    loaded(many(tmp_path), database, connections=2)
    assert totals(database_url) == list(range(60))


def test_an_interrupt_ends_all_connections(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    wait = together(embedded_database_url, 3)

    def stop(progress: LoadProgress) -> None:
        wait(progress)
        cancel_all()

    with listening_for_signals(), ThreadPoolExecutor() as pool:
        load = pool.submit(loaded, many(tmp_path), embedded_database, connections=3, on_progress=stop)
        with pytest.raises(KeyboardInterrupt):
            load.result(timeout=20)
    until(lambda: not sessions(embedded_database_url, COPYING))
    assert query(embedded_database_url, TABLES) == []


def test_ctrl_c_while_several_connections_copy_is_exit_130_and_leaves_nothing(
    tmp_path: Path, cli: Cli, embedded_database_url: str
) -> None:
    del cli
    path = tmp_path / "yellow_tripdata_2024-01.parquet"
    write_sample("yellow", "2024-01", path, 400_000)
    how = ("--connections", 2, "--chunk-size", 1000, "--quiet", "--database-url", embedded_database_url)
    process = start_cli("ingest", "--url", path, "--table", "trips", *how)
    until(lambda: sessions(embedded_database_url, COPYING) == 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert query(embedded_database_url, TABLES) == []


# How many


def test_a_server_that_allows_one_connection_more_gets_one(
    tmp_path: Path, embedded_database_url: str
) -> None:
    execute(embedded_database_url, "CREATE ROLE lonely LOGIN CONNECTION LIMIT 1")
    try:
        execute(
            embedded_database_url,
            "GRANT CREATE ON DATABASE "
            + str(value(embedded_database_url, "SELECT current_database()"))
            + " TO lonely",
            "GRANT CREATE ON SCHEMA public TO lonely",
        )
        loaded(many(tmp_path), database_at(url_with(embedded_database_url, user="lonely")), connections=3)
        assert totals(embedded_database_url) == list(range(60))
        assert query(embedded_database_url, PARTS) == [(1, 1)]
    finally:
        execute(embedded_database_url, "DROP OWNED BY lonely CASCADE", "DROP ROLE lonely")


@pytest.mark.parametrize(
    ("asked", "beside", "megabytes", "connections"),
    [
        (None, 1, 1, 1),
        (None, 1, 1000, usual_connections()),
        (None, usual_connections(), 1000, 1),
        (3, 1, 1, 3),
        (3, usual_connections(), 1000, 1),
        (1, 1, 1000, 1),
    ],
)
def test_as_many_connections_as_pay_and_no_more_than_cores_for_files_side_by_side(
    asked: int | None, beside: int, megabytes: int, connections: int, tmp_path: Path
) -> None:
    path = many(tmp_path)
    size = replace(local_file(str(path)), bytes=megabytes << 20)
    job = Job(url=str(path), table="trips", connections=asked)
    assert connections_for(job, open_stream(path, path.name, 100), size, beside) == connections


def test_a_parts_number_leads_to_its_load(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(many(tmp_path), embedded_database, connections=2, on_progress=together(embedded_database_url, 2))
    with pytest.raises(UsageError, match="a part of load 1"):
        undo(embedded_database, 2)
    assert len(totals(embedded_database_url)) == 60


@pytest.mark.parametrize("number", [0, 17])
def test_a_number_of_connections_that_makes_no_sense_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"1 to 16 connections, not {number}"):
        LoadOptions(connections=number)


def test_no_connection_at_all_is_refused(cli: Cli, tmp_path: Path) -> None:
    result = cli("ingest", many(tmp_path), "--table", "trips", "--connections", 0)
    assert result.returncode == 2
    assert "--connections" in result.stderr


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amounts=st.lists(st.one_of(st.integers(-9, 9), st.just("much")), min_size=1, max_size=40),
    chunk_size=st.integers(1, 9),
    connections=st.integers(1, 3),
)
def test_what_is_read_is_loaded_or_rejected_over_any_number_of_connections(
    amounts: list[int | str],
    chunk_size: int,
    connections: int,
    tmp_path_factory: pytest.TempPathFactory,
    embedded_database: Database,
    embedded_database_url: str,
) -> None:
    execute(embedded_database_url, "DROP TABLE IF EXISTS trips; DROP SCHEMA IF EXISTS taxi_ingest CASCADE")
    numbers = [amount for amount in amounts if isinstance(amount, int)]
    path = trips(tmp_path_factory.mktemp("file"), [row(amount) for amount in [*amounts, 1]])
    record = loaded(
        path, embedded_database, chunk_size=chunk_size, connections=connections, max_rejects="1000"
    ).record
    assert (record.rows_read, record.rows_loaded) == (len(amounts) + 1, len(numbers) + 1)
    assert record.rows_rejected == len(amounts) - len(numbers)
    assert totals(embedded_database_url) == sorted([*numbers, 1])
