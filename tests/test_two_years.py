"""Two years of months with all that can be wrong with files, loaded in each way that there is."""

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from helpers import PROGRAM, Cli, Publish, query, run_cli, start_cli, until
from http_server import Server
from prefect_runs import flow_run, worker

MONTHS = [f"{year}-{month:02}" for year in (2023, 2024) for month in range(1, 13)]
RANGE = "2023-01..2024-12"
GONE, CORRUPT, CUT = WRONG = MONTHS[1], MONTHS[3], MONTHS[16]
REVISED = MONTHS[6]
RETRY = "backfill yellow all --reprocess failed"

Run = Callable[[], tuple[int, str, str]]
"""Loads what is new: the exit code, what was said of a failure, and the command that tries again."""


@contextmanager
def on_the_command_line(*flags: str) -> Iterator[Run]:
    def run() -> tuple[int, str, str]:
        done = run_cli("backfill", "yellow", RANGE, "--reprocess", "new", *flags, "--json", timeout=900)
        result = json.loads(done.stdout)
        return done.returncode, result.get("error", ""), result.get("retry", "")

    yield run


@contextmanager
def by_a_work_pool() -> Iterator[Run]:
    pool = f"years-{os.getpid()}"
    with worker(pool), on_the_command_line("--work-pool", pool, "--jobs", "3") as run:
        yield run


@contextmanager
def by_a_schedule() -> Iterator[Run]:
    """What a run has failed with is its state in Prefect; the command that tries again is in the grid."""

    def run() -> tuple[int, str, str]:
        asked = run_cli("schedule", "run", "yellow", "--month", MONTHS[-1])
        id = UUID(asked.stdout.strip().rpartition("/")[2])
        until(lambda: flow_run(id).state.is_final(), lambda: flow_run(id).state)
        state = flow_run(id).state
        [again] = [line.removeprefix("Try again: ") for line in grid() if line.startswith("Try again: ")] or [
            ""
        ]
        return (0 if state.is_completed() else 3), state.message or "", again

    run_cli("schedule", "yellow", "--cron", "0 6 5 * *", "--months-back", len(MONTHS))
    serving = start_cli("schedule", "serve")
    try:
        yield run
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=60)
        run_cli("schedule", "rm", "yellow")


def grid(*flags: str) -> list[str]:
    return run_cli("status", "--dataset", "yellow", *flags).stdout.splitlines()


def in_table(url: str) -> dict[str, int]:
    """How many rows of each month are there; the ledger says the same."""
    rows = query(
        url,
        "SELECT month, count(*)::int, min(rows_loaded) FROM yellow_tripdata "
        "JOIN taxi_ingest.loads ON load_id = _load_id GROUP BY month, load_id ORDER BY month",
    )
    assert all(count == said for _, count, said in rows)
    return {month: count for month, count, _ in rows}


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(lambda: on_the_command_line("--jobs", "1"), id="one job", marks=pytest.mark.long),
        pytest.param(lambda: on_the_command_line("--jobs", "2"), id="two jobs", marks=pytest.mark.slow),
        pytest.param(lambda: on_the_command_line("--jobs", "4"), id="four jobs", marks=pytest.mark.long),
        pytest.param(by_a_work_pool, id="work pool", marks=pytest.mark.long),
        pytest.param(by_a_schedule, id="schedule", marks=pytest.mark.long),
    ],
)
def test_what_is_wrong_with_some_months_keeps_no_other_from_the_table(
    way: Callable[[], "contextmanager[Run]"],
    publish: Publish,
    server: Server,
    api: str,
    cli: Cli,
    embedded_database_url: str,
) -> None:
    del api
    paths = {month: publish(month) for month in MONTHS}
    whole = paths[CORRUPT].read_bytes()
    paths[GONE].rename(server.folder / "gone")
    paths[CORRUPT].write_bytes(b"PAR1" + bytes(500) + b"PAR1")
    server.fault(paths[CUT].name, cut_after_bytes=1000)
    good = {month: 20 for month in MONTHS if month not in WRONG}

    with way() as run:
        code, error, retry = run()
        assert code == 3
        assert f"3 of 24 failed, the first of them yellow {GONE}: " in error
        assert in_table(embedded_database_url) == good
        attempts = query(
            embedded_database_url, "SELECT month, exit_code FROM taxi_ingest.attempts ORDER BY 1"
        )
        assert attempts == [(month, 3) for month in WRONG]
        shown = grid()
        assert "2023   ~  x  ~  x  ~  ~  ~  ~  ~  ~  ~  ~" in shown
        assert "2024   ~  ~  ~  ~  x  ~  ~  ~  ~  ~  ~  ~" in shown

        server.faults.clear()
        (server.folder / "gone").rename(paths[GONE])
        paths[CORRUPT].write_bytes(whole)
        publish(REVISED, rows=30)
        program, *arguments = shlex.split(retry)
        assert Path(program).name == Path(PROGRAM).name
        again = cli(*arguments, "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["loaded"] == 3
        assert in_table(embedded_database_url) == dict.fromkeys(MONTHS, 20)
        assert "2023   ~  ~  ~  ~  ~  ~  *  ~  ~  ~  ~  ~" in grid("--revised")

        code, error, retry = run()
        assert (code, error, retry) == (0, "", "")
    assert in_table(embedded_database_url) == {**dict.fromkeys(MONTHS, 20), REVISED: 30}
    assert not [line for line in grid() if line.startswith("Try again")]
