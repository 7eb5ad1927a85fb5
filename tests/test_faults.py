"""Whatever is pulled out at whatever moment: a load is there whole or not at all, once."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import CancelledRun

from builders import any_rows
from helpers import (
    COPYING,
    WAITING,
    Background,
    end_copies,
    execute,
    exists,
    free_port,
    held,
    query,
    sessions,
    start_cli,
    until,
    until_session,
    url_with,
)
from prefect_runs import block, flow_run, id_of, running, task_runs
from taxi_ingest import Settings, ingest, prefect_api, stack
from taxi_ingest.errors import DatabaseError, TransientDatabaseError
from taxi_ingest.flows.caller import calling
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.load import LoadResult, load_file
from taxi_ingest.load.refusals import explained
from tcp_proxy import Proxy, proxy_before

ROWS = 20_000


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "any.csv"
    path.write_text("n,t\n" + "".join(f"{n},some text\n" for n in range(ROWS)))
    return path


@pytest.fixture
def proxy(embedded_database_url: str) -> Iterator[Proxy]:
    with proxy_before(embedded_database_url) as proxy:
        yield proxy


def run(path: Path, url: str, monkeypatch: pytest.MonkeyPatch, **parameters: object) -> Outcome:
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", url)
    with calling(settings=Settings()):
        return ingest(url=str(path), table="big", chunk_size=1000, **parameters)  # type: ignore[arg-type]


def state(url: str) -> list[tuple[object, ...]]:
    """Rows in the table, rows by the ledger, partitions."""
    return query(
        url,
        "SELECT (SELECT count(*) FROM big), (SELECT sum(rows_loaded) FROM taxi_ingest.loads "
        "WHERE status = 'loaded')::int, (SELECT count(*) FROM pg_inherits WHERE inhparent = 'big'::regclass)",
    )


WHOLE = [(ROWS, ROWS, 1)]


def when_copying(act: Callable[[], object], chunks: int = 5) -> Callable[[object, object], None]:
    """What calls `act` once, when some chunks have been copied."""
    seen: list[object] = []

    def on_load(_: str, __: object, progress: object) -> None:
        seen.append(progress)
        if len(seen) == chunks:
            act()

    return on_load


FAULTS: dict[str, dict[str, object]] = {
    "cut while copying": {"after_bytes": 300_000},
    "cut at once": {"after_bytes": 50},
    "stalled while copying": {"after_bytes": 300_000, "stall_seconds": 1.5},
    "cut before the commit is sent": {"at_commit": "unsent"},
    "cut right after the commit is sent": {"at_commit": "sent"},
    "the commit's answer is lost": {"at_commit": "answered"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_connection_changes_nothing_about_the_outcome(
    api: str,
    proxy: Proxy,
    big: Path,
    embedded_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    del api
    arm = when_copying(lambda: proxy.fault(**FAULTS[fault]), chunks=1)
    with calling(on_load=arm):
        outcome = run(big, proxy.url, monkeypatch)
    assert len(proxy.done) == 1
    assert (outcome.status, outcome.rows_read, outcome.rows_loaded) == ("loaded", ROWS, ROWS)
    assert state(embedded_database_url) == WHOLE
    assert run(big, embedded_database_url, monkeypatch).status == "skipped"


@pytest.mark.parametrize("fault", ["cut while copying", "the commit's answer is lost"])
def test_a_lost_connection_through_a_block_changes_nothing_either(
    api: str,
    proxy: Proxy,
    big: Path,
    embedded_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    del api
    block(proxy.url, "faulty")
    arm = when_copying(lambda: proxy.fault(**FAULTS[fault]), chunks=1)
    with calling(on_load=arm):
        outcome = run(big, "postgresql://nobody@127.0.0.1:1/none", monkeypatch, block="faulty")
    assert len(proxy.done) == 1
    assert (outcome.status, outcome.rows_loaded) == ("loaded", ROWS)
    assert state(embedded_database_url) == WHOLE


def test_a_backend_terminated_through_a_block_changes_nothing_either(
    api: str, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    block(embedded_database_url, "terminated")
    with calling(on_load=when_copying(lambda: end_copies(embedded_database_url))):
        outcome = run(big, "postgresql://nobody@127.0.0.1:1/none", monkeypatch, block="terminated")
    assert outcome.status == "loaded"
    assert state(embedded_database_url) == WHOLE


def test_a_replacement_whose_commit_got_no_answer_is_a_replacement(
    api: str, proxy: Proxy, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    run(big, embedded_database_url, monkeypatch)
    proxy.fault(at_commit="answered")
    outcome = run(big, proxy.url, monkeypatch, if_loaded="replace")
    assert (len(proxy.done), outcome.status, outcome.load_id) == (1, "replaced", 2)
    assert state(embedded_database_url) == WHOLE


def test_a_terminated_backend_changes_nothing_about_the_outcome(
    api: str, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    with calling(on_load=when_copying(lambda: end_copies(embedded_database_url))):
        assert run(big, embedded_database_url, monkeypatch).status == "loaded"
    assert state(embedded_database_url) == WHOLE


def test_the_embedded_server_killed_while_copying_is_started_again(
    api: str, big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    monkeypatch.setenv("TAXI_INGEST_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TAXI_INGEST_DATABASE_URL")
    settings = Settings()
    url = stack.start_database(settings)

    def kill() -> None:
        pid = stack.status(settings).database.pid
        assert pid
        os.kill(pid, signal.SIGKILL)

    try:
        with calling(on_load=when_copying(kill), settings=settings):
            outcome = ingest(url=str(big), table="big", chunk_size=1000)
        assert outcome.status == "loaded"
        assert state(url) == WHOLE
    finally:
        stack.stop_database(settings)


@pytest.mark.parametrize("code", ["40001", "40P01", "08006", "57P01", "57P03", "53300", "55P03"])
def test_what_can_pass_is_told_from_what_cannot(embedded_database_url: str, code: str) -> None:
    def fails(code: str) -> None:
        with explained():
            execute(embedded_database_url, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")

    with pytest.raises(TransientDatabaseError):
        fails(code)
    for lasting in ("42501", "53100", "22003"):
        with pytest.raises(DatabaseError) as failure:
            fails(lasting)
        assert not isinstance(failure.value, TransientDatabaseError)


def test_a_refusal_that_cannot_pass_is_not_tried_again(
    api: str, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    tries: list[object] = []

    def counted(*arguments: object, **options: object) -> LoadResult:
        tries.append(arguments)
        return load_file(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("taxi_ingest.places.postgres.loading.load_file", counted)
    execute(embedded_database_url, "CREATE TABLE big (n bigint CONSTRAINT few CHECK (n < 10), t text)")
    with pytest.raises(DatabaseError, match="few"):
        ingest(url=str(big), table="big")
    assert len(tries) == 1


def test_readers_see_the_old_rows_or_the_new_and_do_not_wait_for_the_copy(
    api: str, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    run(big, embedded_database_url, monkeypatch)
    seen, ended = set(), threading.Event()
    patient = url_with(embedded_database_url, options="-c lock_timeout=60s")

    def read() -> None:
        seen.update(query(patient, "SELECT count(*), max(n) FROM big"))

    def read_on() -> None:
        while not ended.is_set():
            read()

    reading = Background(read_on)
    big.write_text(big.read_text() + f"{ROWS},one more\n")
    try:
        # The copy goes on when it has read: whoever waited for it would wait for himself.
        with calling(on_load=when_copying(read)):
            assert run(big, embedded_database_url, monkeypatch).status == "replaced"
    finally:
        ended.set()
        reading.result()
    assert seen <= {(ROWS, ROWS - 1), (ROWS + 1, ROWS)}


def test_who_reads_for_long_blocks_a_replacement_but_nobody_behind_it(
    api: str, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    run(big, embedded_database_url, monkeypatch)
    reader = held(embedded_database_url, "SELECT count(*) FROM big")
    big.write_text(big.read_text() + f"{ROWS},one more\n")
    replacing = Background(partial(copy_context().run, run, big, embedded_database_url, monkeypatch))
    patient = url_with(embedded_database_url, options="-c lock_timeout=60s")
    for _ in range(2):
        until_session(embedded_database_url, WAITING)
        assert query(patient, "SELECT count(*) FROM big") == [(ROWS,)]
    assert replacing.results == []
    reader.close()
    assert replacing.result().status == "replaced"


def test_an_interrupt_ends_the_flow_run_as_cancelled(
    api: str, big: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    runs: list[FlowRun] = []

    def interrupt() -> None:
        runs.extend(running())
        raise KeyboardInterrupt

    with calling(on_load=when_copying(interrupt)), pytest.raises(CancelledRun):
        run(big, embedded_database_url, monkeypatch)
    assert [flow_run(run.id).state_name for run in runs] == ["Cancelled"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_heard_while_waiting_for_another_run(
    api: str, big: Path, embedded_database_url: str, number: signal.Signals
) -> None:
    del api
    holder = held(embedded_database_url, "SELECT pg_advisory_xact_lock(7482916301)")
    waiting = start(big, embedded_database_url)
    until_session(embedded_database_url, WAITING)
    waiting.send_signal(number)
    _, stderr = waiting.communicate(timeout=100)
    assert (waiting.returncode, "Interrupted" in stderr) == (130, True), stderr
    assert sessions(embedded_database_url, WAITING) == 0
    holder.close()


def test_a_killed_run_leaves_nothing_and_is_crashed_by_the_next(
    api: str, tmp_path: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api
    path = any_rows(tmp_path, 2_000_000)
    killed = start(path, embedded_database_url, "--chunk-size", "1000")
    until_session(embedded_database_url, COPYING)
    [stuck] = running()
    killed.kill()
    killed.communicate()
    path.write_text("n,t\n1,x\n")
    assert run(path, embedded_database_url, monkeypatch).status == "loaded"
    assert flow_run(stuck.id).state_name == "Crashed"
    unfinished = [task.name for task in task_runs(stuck.id) if not (task.state and task.state.is_final())]
    assert unfinished == []
    assert query(embedded_database_url, "SELECT count(*) FROM big") == [(1,)]
    partitions = "SELECT count(*) FROM pg_class WHERE relname ~ '^load_[0-9]+$'"
    assert query(embedded_database_url, partitions) == [(1,)]
    assert sessions(embedded_database_url, COPYING) == 0


def start(path: Path, url: str, *more: object) -> "subprocess.Popen[str]":
    arguments = ("ingest", "--url", path, "--table", "big", *more)
    return start_cli(*arguments, env={"TAXI_INGEST_DATABASE_URL": url})


def wait_until_loaded(url: str) -> None:
    """Until the ledger shows a load, which is when it has been committed."""
    until(
        lambda: (
            exists(url, "taxi_ingest.loads")
            and query(url, "SELECT load_id FROM taxi_ingest.loads WHERE status = 'loaded'")
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while it copies", "when it has committed"])
def test_a_run_whose_prefect_is_gone_is_told_as_loaded_and_put_right_by_the_next(
    tmp_path: Path,
    embedded_database_url: str,
    with_tables: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    for name, value in (("HOME", tmp_path / "home"), ("PREFECT_PORT", free_port())):
        monkeypatch.setenv(f"TAXI_INGEST_{name}", str(value))
    settings = Settings()
    with_tables(settings.home)
    stack.launch_prefect(settings).wait(600)
    try:
        path = any_rows(tmp_path, 100_000)
        loading = start(path, embedded_database_url, "--chunk-size", "1000", "--json")
        if moment == "while it copies":
            until_session(embedded_database_url, COPYING)
        else:
            wait_until_loaded(embedded_database_url)
        pid = stack.status(settings).prefect.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        stdout, stderr = loading.communicate(timeout=100)
        assert (loading.returncode, "Traceback" in stderr, "Error logging" in stderr) == (0, False, False), (
            stderr
        )
        told = json.loads(stdout)
        assert (told["status"], told["rows_loaded"]) == ("loaded", 100_000)
        stack.launch_prefect(settings).wait(600)
        again = start(path, embedded_database_url, "--json")
        assert json.loads(again.communicate(timeout=60)[0])["status"] == "skipped"
        with prefect_api(settings):
            # Where the run's end was quicker than the kill, Prefect knows, and no note says otherwise.
            assert flow_run(id_of(told["flow_run_url"])).state_name == "Completed"
            assert running() == []
    finally:
        stack.stop_prefect(settings)


def test_many_processes_load_a_file_once_and_different_files_all(
    api: str, tmp_path: Path, embedded_database_url: str
) -> None:
    del api
    paths = [tmp_path / f"{name}.csv" for name in "aab"]
    for path in set(paths):
        path.write_text(f"n,t\n1,{path.stem}\n")
    runs = [start(path, embedded_database_url, "--json") for path in paths]
    for process in runs:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    assert query(embedded_database_url, "SELECT t FROM big ORDER BY 1") == [("a",), ("b",)]
