"""The local Prefect server lets its callers write side by side: none is turned away to try again later."""

import base64
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from helpers import free_port
from taxi_ingest import stack
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack import prefect_server as local
from taxi_ingest.tlc.sample import write_sample


def client_of(settings: Settings) -> httpx.Client:
    """A client of the local server's API that tries nothing twice."""
    server = stack.launch_prefect(settings)
    key = base64.b64encode(server.key.encode()).decode()
    return httpx.Client(
        base_url=server.wait(300),
        headers={"Authorization": f"Basic {key}"},
        timeout=30,
        trust_env=False,
        # The server closes those that are idle, maybe just when the next request is sent.
        limits=httpx.Limits(max_keepalive_connections=0),
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with client_of(settings) as client:
        yield client


def made(answer: httpx.Response) -> str:
    """The id of what a request has made, or found."""
    return str(answer.raise_for_status().json()["id"])


def begin_run(api: httpx.Client, flow: str) -> int:
    """The answer to what begins each run of ours: one transaction reads the flow, then writes the run."""
    return api.post("/flow_runs/", json={"flow_id": flow}).status_code


def begin_run_while_another_writes(settings: Settings) -> int:
    database = settings.home / "prefect" / "prefect.db"
    with client_of(settings) as api, ThreadPoolExecutor(1) as beside:
        flow = made(api.post("/flows/", json={"name": "written"}))
        with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE flow SET updated = updated")
            answer = beside.submit(begin_run, api, flow)
            time.sleep(2)  # the server's transaction has read by now, if it may begin
            other.execute("COMMIT")
        return answer.result()


def test_a_transaction_begins_only_when_it_may_write(settings: Settings) -> None:
    assert begin_run_while_another_writes(settings) == 201


@pytest.mark.slow
def test_prefects_own_server_still_turns_such_a_caller_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this fails, the test above proves nothing any more, and stack/prefect_database.py may go."""
    monkeypatch.setattr(local, "_APP", local._KEYLESS_APP)
    settings = Settings(home=tmp_path, prefect_port=free_port())
    try:
        assert begin_run_while_another_writes(settings) == 503
    finally:
        stack.stop(settings)


def test_many_who_write_at_once_all_get_through(api: httpx.Client) -> None:
    flow = made(api.post("/flows/", json={"name": "written"}))
    with ThreadPoolExecutor(8) as writers:
        answers = list(writers.map(lambda _: begin_run(api, flow), range(80)))
    assert answers == [201] * len(answers)


def test_a_transaction_in_which_another_session_reads_does_not_wait_for_itself(api: httpx.Client) -> None:
    """Prefect pauses a work queue so."""
    queue = made(api.post("/work_queues/", json={"name": "paused"}))
    assert api.patch(f"/work_queues/{queue}", json={"is_paused": True}).status_code == 204
    assert api.get(f"/work_queues/{queue}").json()["is_paused"]


@pytest.mark.slow
def test_of_ten_runs_side_by_side_none_is_told_to_try_again(
    prefect_server: str, embedded_database_url: str, tmp_path: Path, settings: Settings
) -> None:
    del prefect_server
    months = [f"2020-{month:02}" for month in range(1, 11)]
    files = [write_sample("green", month, tmp_path / f"green_tripdata_{month}.csv", 100) for month in months]
    command = [
        Path(sys.executable).with_name("taxi-ingest"),
        "ingest",
        "--quiet",
        "--table",
        "green",
        "--url",
    ]
    env = os.environ | {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    log = settings.home / "prefect" / "server.log"
    logged_before = len(log.read_text())
    runs = [subprocess.Popen([*command, file], env=env) for file in files]
    assert [run.wait(600) for run in runs] == [0] * len(runs)
    # Our server logs each call that it answers with 503, and SQLite's reason.
    assert "database is locked" not in log.read_text()[logged_before:]
