"""Who waits for whom: as few as can be, as short as can be, and it is said."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from builders import elsewhere, months, row, trips, zones
from helpers import (
    WAITING,
    WAITING_FOR_A_LOAD,
    Background,
    execute,
    held,
    loaded,
    query,
    said,
    totals,
    until_session,
    url_with,
)
from taxi_ingest.errors import BusyError, DatabaseError, DataError
from taxi_ingest.load import (
    Database,
    LoadProgress,
    LoadResult,
    Target,
    database_at,
    loading_many,
    parse_target,
    undo,
)
from taxi_ingest.load.transaction import _undo
from taxi_ingest.load.waiting import patiently
from taxi_ingest.sources import Cache, local_file

SAID = "waiting"


def test_a_replacement_that_waits_for_a_reader_holds_up_no_other_load(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = months(tmp_path, range(1, 5))
    loaded(first, embedded_database)
    reader = held(embedded_database_url, "SELECT count(*) FROM trips")
    replacing = Background(lambda: loaded(first, embedded_database, if_loaded="replace"))
    until_session(embedded_database_url, WAITING)
    loading = [Background(lambda path=path: loaded(path, embedded_database)) for path in others]
    assert [load.result().status for load in loading] == ["loaded"] * 3
    assert replacing.results == []
    assert "Others are using the table: waiting until they let go of it." in said(caplog)
    reader.close()
    assert replacing.result().status == "replaced"
    assert totals(embedded_database_url) == [1, 2, 3, 4]


def test_an_undo_that_waits_for_a_reader_holds_up_no_load(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    first, second = months(tmp_path, range(1, 3))
    loaded(first, embedded_database)
    reader = held(embedded_database_url, "SELECT count(*) FROM trips")
    undoing = Background(lambda: undo(embedded_database, 1))
    until_session(embedded_database_url, WAITING)
    assert Background(lambda: loaded(second, embedded_database)).result().status == "loaded"
    assert undoing.results == []
    reader.close()
    undoing.result()
    assert totals(embedded_database_url) == [2]


def test_a_load_is_undone_once(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    """Who comes second waits for the first, and then sees what it has done."""
    loaded(months(tmp_path, range(1, 2))[0], embedded_database)
    with embedded_database.transaction() as cursor:
        _undo(cursor, 1)
        second = Background(lambda: undo(embedded_database, 1))
        until_session(embedded_database_url, WAITING)
    with pytest.raises(DataError, match="undone already"):
        second.result()


def test_patience_ends_and_nothing_has_changed(
    embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, "CREATE TABLE busy (a int)")
    reader = held(embedded_database_url, "SELECT count(*) FROM busy")
    with (
        pytest.raises(DatabaseError, match="Others have used the table without a pause") as failure,
        embedded_database.transaction() as cursor,
    ):
        patiently(cursor, lambda: cursor.execute("ALTER TABLE public.busy ADD b int"), patience_seconds=0.1)
    assert "pg_stat_activity" in failure.value.hint
    reader.close()
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'busy'"
    assert query(embedded_database_url, columns) == [(1,)]


def test_what_comes_after_patience_waits_as_long_as_it_must(embedded_database: Database) -> None:
    with embedded_database.transaction() as cursor:
        patiently(cursor, lambda: None)
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


def test_who_waits_for_the_same_file_says_so_and_skips(
    tmp_path: Path, database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = trips(tmp_path, [row(n) for n in range(6)])
    others: list[Background[LoadResult]] = []

    def start_another(_: LoadProgress) -> None:
        if not others:
            others.append(Background(lambda: loaded(path, database)))
            until_session(database_url, WAITING_FOR_A_LOAD)

    assert loaded(path, database, on_progress=start_another).status == "loaded"
    assert others[0].result().status == "skipped"
    assert "Another run is loading this file into trips: waiting for it." in said(caplog)
    assert totals(database_url) == list(range(6))


def test_who_is_not_to_wait_leaves_the_file_to_the_other(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(n) for n in range(6)])
    other = elsewhere(tmp_path, [row(7)])
    refused: list[str] = []

    def load_too(_: LoadProgress) -> None:
        if not refused:
            for file in (path, other):
                with pytest.raises(BusyError) as caught:
                    loaded(file, embedded_database, wait=False)
                refused.append(str(caught.value))

    assert loaded(path, embedded_database, on_progress=load_too).status == "loaded"
    assert refused[0] == "Another run is loading this file into trips."
    assert refused[1] == "Another run is loading yellow 2024-01 into trips."
    assert totals(embedded_database_url) == list(range(6))
    assert loaded(path, embedded_database, wait=False).status == "skipped"


def test_of_many_who_do_not_wait_for_each_other_one_goes_on(embedded_database: Database) -> None:
    decided = threading.Barrier(4)
    targets = [parse_target(name) for name in ("a", "b")]

    def is_alone(_: int) -> bool:
        try:
            with loading_many(embedded_database, targets, wait=False):
                decided.wait(60)
                return True
        except BusyError:
            decided.wait(60)
            return False

    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            assert sum(threads.map(is_alone, range(4))) == 1


def test_who_waits_is_seen_by_who_does_not_and_held_up_by_nobody(embedded_database: Database) -> None:
    target, other = parse_target("trips"), parse_target("other")

    def loading(target: Target, wait: bool) -> AbstractContextManager[None]:
        return loading_many(embedded_database, [target], wait)

    with (
        loading(target, wait=True),
        loading(target, wait=True),
        loading(other, wait=False),
        pytest.raises(BusyError, match="several files into trips"),
    ):
        loading(target, wait=False).__enter__()
    with loading(target, wait=False), loading(target, wait=True):
        pass


def test_who_is_not_to_wait_leaves_a_download_to_the_other(tmp_path: Path) -> None:
    waiting, leaving = (Cache(tmp_path / "cache", 1, waits) for waits in (True, False))
    with (
        waiting.entry("http://127.0.0.1/x"),
        leaving.entry("http://127.0.0.1/y"),
        pytest.raises(BusyError, match="downloading this file"),
    ):
        leaving.entry("http://127.0.0.1/x").__enter__()


def at_once(
    first: Callable[[Callable[[LoadProgress], None]], LoadResult], second: Callable[[], LoadResult], url: str
) -> Background[LoadResult]:
    """Begin the second load while the first is copying, and let it wait; then end the first."""
    begun: list[Background[LoadResult]] = []

    def begin(_: LoadProgress) -> None:
        if not begun:
            begun.append(Background(second))
            until_session(url, WAITING_FOR_A_LOAD)

    first(begin)
    return begun[0]


def test_two_places_of_a_month_at_once_do_not_both_get_in(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    here, there = trips(tmp_path, [row(1), row(2), row(3)]), elsewhere(tmp_path, [row(4)])
    other = at_once(
        lambda begin: loaded(here, database, on_progress=begin),
        lambda: loaded(there, database),
        database_url,
    )
    with pytest.raises(DataError, match="yellow 2024-01 already"):
        other.result()
    assert totals(database_url) == [1, 2, 3]


def test_two_copies_of_a_file_of_no_month_at_once_are_loaded_once(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    one, two = (trips(tmp_path, [row(1), row(2), row(3)], name) for name in ("a.csv", "b.csv"))
    other = at_once(
        lambda begin: loaded(one, database, on_progress=begin),
        lambda: loaded(two, database),
        database_url,
    )
    assert other.result().status == "skipped"
    assert totals(database_url) == [1, 2, 3]


def test_two_versions_of_an_address_at_once_replace_each_other(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    old, new = (trips(tmp_path, [row(n), row(n), row(n)], name) for n, name in ((1, "a.csv"), (2, "b.csv")))
    source = replace(local_file(str(new)), url=local_file(str(old)).url)
    other = at_once(
        lambda begin: loaded(old, database, on_progress=begin),
        lambda: loaded(source, database),
        database_url,
    )
    assert other.result().status == "replaced"
    assert totals(database_url) == [2, 2, 2]


def test_nobody_puts_rows_into_a_lookup_while_it_is_replaced(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = zones(tmp_path, "A")
    loaded(path, embedded_database, "taxi_zones")
    tried: list[type] = []

    def insert(_: LoadProgress) -> None:
        with pytest.raises(psycopg2.errors.LockNotAvailable) as failure:
            execute(
                embedded_database_url,
                "SET lock_timeout = 50",
                "INSERT INTO taxi_zones VALUES (9, 'B', 'mine', 'S')",
            )
        tried.append(failure.type)
        assert query(embedded_database_url, 'SELECT "Zone" FROM taxi_zones') == [("A",)]

    zones(tmp_path, "B")
    loaded(path, embedded_database, "taxi_zones", on_progress=insert)
    assert len(tried) == 1
    assert query(embedded_database_url, 'SELECT "Zone" FROM taxi_zones') == [("B",)]


def test_rows_put_into_a_lookup_just_before_it_is_replaced_are_kept(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    """They are not committed yet when the load looks for them first, so that it waits for their lock."""
    path = zones(tmp_path, "A")
    loaded(path, embedded_database, "taxi_zones")
    user = held(embedded_database_url, "INSERT INTO taxi_zones VALUES (9, 'B', 'mine', 'S')")
    zones(tmp_path, "B")
    replacing = Background(lambda: loaded(path, embedded_database, "taxi_zones"))
    until_session(embedded_database_url, WAITING)
    user.commit()
    user.close()
    with pytest.raises(DataError, match="rows that taxi-ingest did not put there"):
        replacing.result()
    assert query(embedded_database_url, 'SELECT "Zone" FROM taxi_zones ORDER BY 1') == [("A",), ("mine",)]


@dataclass(frozen=True)
class _Listening(Database):
    """A database that keeps what its server says."""

    heard: Database
    told: list[str]

    @contextmanager
    def open(self) -> Iterator[Connection]:
        with self.heard.open() as connection:
            yield connection
            self.told.extend(connection.notices)


def test_rows_are_looked_at_before_the_table_is_locked(
    tmp_path: Path, embedded_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attaching would else look at all of them while no one else can attach, and at a replacement read."""
    monkeypatch.setenv("PGOPTIONS", "-c client_min_messages=debug1")
    told: list[str] = []

    class Listened(Database):
        @contextmanager
        def open(self) -> Iterator[psycopg2.extensions.connection]:
            with embedded_database.open() as connection:
                yield connection
                told.extend(connection.notices)

    loaded(trips(tmp_path, [row(1)]), Listened(embedded_database.address))
    assert any('"load_1" is implied by existing constraints' in notice for notice in told), told


def test_first_loads_into_an_empty_database_go_side_by_side_and_copy_once(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    """The second begins and ends while the first is copying; the first then finds the table made."""
    first, second = months(tmp_path, range(1, 3))
    progress: list[int] = []
    inner: list[LoadResult] = []

    def load_another(seen: LoadProgress) -> None:
        progress.append(seen.rows)
        if not inner:
            inner.append(loaded(second, database))

    assert loaded(first, database, on_progress=load_another).status == "loaded"
    assert [load.status for load in inner] == ["loaded"]
    assert progress == [1]
    assert totals(database_url) == [1, 2]


@pytest.mark.parametrize(
    ("first", "second", "copies"),
    [
        ("n,t\n1,x\n", "n,t\n2,y\n", 1),  # alike
        ("n,t,u\n1,x,u\n", "n,t\n2,y\n", 1),  # the first adds a column to what the second has made
        ("n,t\n1,x\n", "n,t,u\n2,y,u\n", 2),  # the second has a column that the first's partition lacks
        ("n,t\n1.5,x\n", "n,t\n2,y\n", 2),  # the first must widen what the second has made
        ("n,t\n1,x\n", "n,t\n2.5,y\n", 2),  # the second is wider
    ],
)
def test_a_copy_begins_anew_only_if_the_columns_differ(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    first: str,
    second: str,
    copies: int,
) -> None:
    for name, content in (("a.csv", first), ("b.csv", second)):
        (tmp_path / name).write_text(content)
    progress: list[int] = []

    def load_another(seen: LoadProgress) -> None:
        progress.append(seen.rows)
        if len(progress) == 1:
            loaded(tmp_path / "b.csv", embedded_database, "things")

    loaded(tmp_path / "a.csv", embedded_database, "things", on_progress=load_another)
    assert len(progress) == copies
    assert query(embedded_database_url, "SELECT t FROM things ORDER BY n") == [("x",), ("y",)]


def test_a_failed_first_load_holds_up_nobody_and_leaves_an_empty_ledger(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    with pytest.raises(DataError):
        loaded(trips(tmp_path, [row(1, "x")]), embedded_database)
    state = "SELECT to_regclass('trips') IS NULL, (SELECT count(*) FROM taxi_ingest.loads)"
    assert query(embedded_database_url, state) == [(True, 0)]


def test_a_table_dropped_while_it_is_loaded_into_is_made_anew(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    first, second = months(tmp_path, range(1, 3))
    loaded(first, embedded_database)
    dropped: list[bool] = []

    def drop(_: LoadProgress) -> None:
        if not dropped:
            dropped.append(True)
            execute(embedded_database_url, "DROP TABLE trips")

    assert loaded(second, embedded_database, on_progress=drop).status == "loaded"
    assert totals(embedded_database_url) == [2]


def test_several_roles_load_into_one_table(tmp_path: Path, system_url: str) -> None:
    """As docs/security.md has it: members of the role that made the tables; strangers are told."""
    execute(
        system_url,
        "DROP DATABASE IF EXISTS several",
        "CREATE DATABASE several",
        "DROP ROLE IF EXISTS team, ann, bob, eve",
        "CREATE ROLE team; CREATE ROLE ann LOGIN PASSWORD 'x' IN ROLE team; "
        "CREATE ROLE bob LOGIN PASSWORD 'x' IN ROLE team; CREATE ROLE eve LOGIN PASSWORD 'x'",
        "ALTER ROLE ann SET role = team; ALTER ROLE bob SET role = team",
    )
    url = url_with(system_url, dbname="several")
    execute(
        url, "GRANT CREATE ON DATABASE several TO team; GRANT USAGE, CREATE ON SCHEMA public TO team, eve"
    )
    ann, bob, eve = (database_at(url_with(url, user=who, password="x")) for who in ("ann", "bob", "eve"))
    first, second, third = months(tmp_path, range(1, 4))
    assert loaded(first, ann).status == "loaded"
    assert loaded(second, bob).status == "loaded"
    assert loaded(first, bob, if_loaded="replace").status == "replaced"
    with pytest.raises(DatabaseError, match="taxi_ingest belongs to team") as failure:
        loaded(third, eve)
    assert "GRANT" in failure.value.hint
    undo(ann, 2)
    assert totals(url) == [1]
    execute(system_url, "DROP DATABASE several WITH (FORCE)")


def test_waiting_is_a_warning_of_our_logger(caplog: pytest.LogCaptureFixture) -> None:
    """It reaches stderr by the command line's handler, which takes INFO and WARNING of these loggers."""
    from taxi_ingest.load.waiting import say_waiting

    say_waiting("x")
    record = caplog.records[-1]
    assert (record.levelno, record.name.startswith("taxi_ingest")) == (logging.WARNING, True)


@pytest.mark.parametrize("gone", ["undo", "ALTER TABLE trips DETACH PARTITION taxi_ingest.load_1"])
def test_a_load_whose_rows_go_while_it_is_replaced_is_loaded_anew(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, gone: str
) -> None:
    path = trips(tmp_path, [row(n) for n in range(6)])
    loaded(path, embedded_database)

    def take_out(_: LoadProgress) -> None:
        if query(embedded_database_url, "SELECT FROM pg_inherits WHERE inhrelid::regclass::text ~ 'load_1$'"):
            undo(embedded_database, 1) if gone == "undo" else execute(embedded_database_url, gone)

    done = loaded(path, embedded_database, if_loaded="replace", on_progress=take_out)
    assert (done.status, done.record.replaces) == ("loaded", None)
    assert totals(embedded_database_url) == [0, 1, 2, 3, 4, 5]
