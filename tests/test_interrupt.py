"""A signal, or a parent that stops, ends what all threads do with Postgres; nothing is half-loaded."""

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from builders import row, trips
from helpers import COPYING, WAITING, loaded, query, totals
from prefect_runs import block
from taxi_ingest import Settings, prefect_api
from taxi_ingest.load import Database, cancel_all, database_at, listening_for_signals, load_file, parse_target
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import local_file
from taxi_ingest.transform import open_stream

PARENT = """
import pickle, signal, sys
from concurrent.futures import ThreadPoolExecutor, wait
from taxi_ingest.load import listening_for_signals, load_file

signal.signal(signal.SIGTERM, signal.default_int_handler)
works, own = pickle.load(sys.stdin.buffer)
pool = ThreadPoolExecutor()
loads = [pool.submit(load_file, *work) for work in works]
try:
    if own:
        load_file(*own)
    with listening_for_signals():
        wait(loads)
except KeyboardInterrupt:
    print("interrupted")
print(*(type(load.exception()).__name__ for load in loads))
"""
"""A parent with two loads in threads, which waits for them, or itself for a lock as well."""

ENDED = (b"interrupted\nKeyboardInterrupt KeyboardInterrupt\n", b"")


def work(path: Path, database: Database, table: str = "trips") -> tuple[object, ...]:
    file, stream = local_file(str(path)), open_stream(path, path.name, 1000)
    return stream, file, parse_target(table), database, Job(file.url, table)


def start(*pickled: object) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    process.stdin.write(pickle.dumps(pickled))
    process.stdin.close()
    process.stdin = None
    return process


def until(url: str, condition: str, sessions: int) -> None:
    statement = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    deadline = time.monotonic() + 60
    while query(url, statement) != [(sessions,)]:
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Someone else has a lock that each load needs at its end, and never lets go of it."""
    with closing(psycopg2.connect(url)) as holder:
        holder.cursor().execute("LOCK TABLE taxi_ingest.loads IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.fixture
def two(tmp_path: Path, database: Database) -> list[tuple[object, ...]]:
    """A database with one load, and two more to come."""
    loaded(trips(tmp_path, [row(1)]), database)
    months = (trips(tmp_path, [row(n)], f"yellow_tripdata_2024-{n:02}.csv") for n in (2, 3))
    return [work(month, database) for month in months]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting_loads_of_all_threads(
    two: list[tuple[object, ...]], database_url: str, number: signal.Signals
) -> None:
    with locked(database_url):
        parent = start(two, None)
        until(database_url, WAITING, sessions=2)
        parent.send_signal(number)
        stdout, stderr = parent.communicate(timeout=60)
        assert (stdout.splitlines(), stderr) == (
            [b"interrupted", b"KeyboardInterrupt KeyboardInterrupt"],
            b"",
        )
        until(database_url, WAITING, sessions=0)
    assert totals(database_url) == [1]


def test_a_signal_ends_them_too_while_the_main_thread_itself_waits(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    *others, own = [
        work(trips(tmp_path, [row(n)], f"yellow_tripdata_2024-{n:02}.csv"), embedded_database)
        for n in (2, 3, 4)
    ]
    with locked(embedded_database_url):
        parent = start(others, own)
        until(embedded_database_url, WAITING, sessions=3)
        parent.send_signal(signal.SIGINT)
        stdout, stderr = parent.communicate(timeout=60)
        assert (stdout.splitlines(), stderr) == (
            [b"interrupted", b"KeyboardInterrupt KeyboardInterrupt"],
            b"",
        )
    assert totals(embedded_database_url) == [1]


def test_a_signal_ends_the_loads_that_are_copying(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    paths = [tmp_path / f"{name}.csv" for name in ("a", "b")]
    for path in paths:
        path.write_text("n,t\n" + "1,some text\n" * 3_000_000)
    parent = start([work(path, embedded_database, path.stem) for path in paths], None)
    until(embedded_database_url, COPYING, sessions=2)
    parent.send_signal(signal.SIGINT)
    assert parent.communicate(timeout=60) == ENDED
    assert query(
        embedded_database_url,
        "SELECT to_regclass('a') IS NULL AND to_regclass('b') IS NULL, count(*) FROM taxi_ingest.loads",
    ) == [(True, 1)]


@pytest.mark.usefixtures("prefect_server")
def test_a_signal_ends_those_quietly_whose_connections_a_block_makes(
    tmp_path: Path, embedded_database_url: str, settings: Settings
) -> None:
    loaded(trips(tmp_path, [row(1)]), database_at(embedded_database_url))
    with prefect_api(settings):
        database = block(embedded_database_url, "interrupted")
    months = (trips(tmp_path, [row(n)], f"yellow_tripdata_2024-{n:02}.csv") for n in (2, 3))
    with locked(embedded_database_url):
        parent = start([work(month, database) for month in months], None)
        until(embedded_database_url, WAITING, sessions=2)
        parent.send_signal(signal.SIGINT)
        assert parent.communicate(timeout=60) == ENDED
        until(embedded_database_url, WAITING, sessions=0)
    assert totals(embedded_database_url) == [1]


def test_a_parent_can_end_them_without_a_signal(two: list[tuple[object, ...]], database_url: str) -> None:
    with locked(database_url), ThreadPoolExecutor() as pool:
        loads = [pool.submit(load_file, *each) for each in two]  # type: ignore[arg-type]
        until(database_url, WAITING, sessions=2)
        cancel_all()
        wait(loads, timeout=60)
        assert [type(load.exception(timeout=0)) for load in loads] == [KeyboardInterrupt] * 2
    assert totals(database_url) == [1]


def in_thread(work: tuple[object, ...]) -> object:
    """What becomes of a load in a thread."""
    with ThreadPoolExecutor() as pool:
        load = pool.submit(load_file, *work)  # type: ignore[arg-type]
        wait([load], timeout=60)
    error = load.exception(timeout=0)
    return type(error) if error else load.result().status


def test_what_only_begins_while_a_parent_stops_is_ended_too(
    two: list[tuple[object, ...]], database_url: str
) -> None:
    with listening_for_signals():
        cancel_all()
        assert in_thread(two[0]) is KeyboardInterrupt
    assert in_thread(two[1]) == "loaded"
    assert totals(database_url) == [1, 3]


def test_what_begins_after_that_is_not_ended(two: list[tuple[object, ...]], database_url: str) -> None:
    cancel_all()
    assert in_thread(two[0]) == "loaded"
    assert totals(database_url) == [1, 2]
