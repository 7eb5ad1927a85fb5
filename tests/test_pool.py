"""Months that workers load: each exactly once, whatever becomes of the workers."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from helpers import (
    WAITING,
    Background,
    free_port,
    held,
    own_postgres,
    query,
    sessions,
    until,
    until_session,
    url_with,
)
from hosts import HERE, NETWORK, other_hosts
from http_server import serve
from prefect_runs import (
    flow_run,
    flow_runs,
    id_of,
    kill_children,
    kill_tree,
    prefect_at,
    start_worker,
    task_runs,
    work_pool,
    worker,
)
from taxi_ingest import Settings, prefect_api, stack
from taxi_ingest.errors import DatabaseError, UsageError
from taxi_ingest.flows import pulse
from taxi_ingest.flows.backfill import backfill
from taxi_ingest.flows.caller import calling
from taxi_ingest.flows.outcome import BackfillOutcome, MonthsFailed
from taxi_ingest.tlc.sample import write_sample

MONTHS = "2024-01..2024-03"
LEDGER_LOCKED = "LOCK taxi_ingest.loads IN EXCLUSIVE MODE"
"""What every load waits for."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with three months, each of so many rows as its number says hundreds."""
    monkeypatch.setenv("TAXI_INGEST_TLC_URL", str(tmp_path))
    for number in (1, 2, 3):
        publish(tmp_path, number)
    return tmp_path


def publish(folder: Path, number: int) -> None:
    month = f"2024-0{number}"
    write_sample("yellow", month, folder / f"yellow_tripdata_{month}.parquet", number * 100)


@pytest.fixture(autouse=True)
def ready(mirror: Path, api: str) -> None:
    """The settings that `api` takes name the mirror."""
    del mirror, api


@pytest.fixture(scope="session")
def pool() -> str:
    return f"pool-{os.getpid()}"


def runs_of(outcome: BackfillOutcome) -> list[str]:
    """The names and states of the months' runs, in the order in which they were made."""
    below = flow_runs(parent_flow_run_id={"any_": [id_of(outcome.flow_run_url)]})
    below.sort(key=lambda run: str(run.created))
    return [f"{run.name} {run.state_name}" for run in below if run.deployment_id]


def hundreds(url: str) -> list[float]:
    """How many hundreds of rows each load has in the table: none has been lost, none is there twice."""
    counts = query(url, "SELECT count(*) FROM yellow_tripdata GROUP BY _load_id ORDER BY 1")
    return [count / 100 for (count,) in counts]


def under_way(pool: str) -> list[UUID]:
    return [run.id for run in flow_runs(state={"type": {"any_": ["RUNNING"]}}) if run.work_pool_name == pool]


@pytest.mark.slow
def test_workers_load_each_month_and_the_outcome_tells_what_became_of_it(
    pool: str, mirror: Path, embedded_database_url: str
) -> None:
    backfill(["yellow"], "2024-01")
    (mirror / "yellow_tripdata_2024-02.parquet").write_bytes(b"PAR1 and no more")
    with worker(pool), pytest.raises(MonthsFailed) as failure:
        backfill(["yellow"], "2024-01..2024-03", reprocess="all", work_pool=pool)
    outcome = failure.value.outcome
    assert [month.status for month in outcome.months] == ["replaced", "failed", "loaded"]
    assert outcome.exit_code in (3, 4)
    assert "2024-02" in str(outcome.failures[0].url)
    assert sorted(runs_of(outcome)) == [
        "yellow 2024-01 Completed",
        "yellow 2024-02 Failed",
        "yellow 2024-03 Completed",
    ]
    assert hundreds(embedded_database_url) == [1, 3]


@pytest.mark.slow
def test_a_month_whose_process_is_killed_is_loaded_by_another_run(
    pool: str, embedded_database_url: str
) -> None:
    backfill(["yellow"], "2024-01")
    blocked = closing(held(embedded_database_url, LEDGER_LOCKED))
    with worker(pool) as process, blocked as connection:
        work = Background(lambda: backfill(["yellow"], "2024-02", work_pool=pool))
        until_session(embedded_database_url, WAITING)
        [first] = under_way(pool)
        kill_children(process)
        until(lambda: flow_run(first).state_name == "Crashed")
        connection.close()
        outcome = work.result(seconds=100)
    assert runs_of(outcome) == ["yellow 2024-02 Crashed", "yellow 2024-02 Completed"]
    assert outcome.count("loaded") == 1
    until(lambda: all(task.state_name != "Running" for task in task_runs(first)))
    assert hundreds(embedded_database_url) == [1, 2]


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_with_it_is_ended_and_begun_anew(
    pool: str, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "SILENCE_SECONDS", 35)
    backfill(["yellow"], "2024-01")
    blocked = closing(held(embedded_database_url, LEDGER_LOCKED))
    with work_pool(pool), blocked as connection:
        first = start_worker(pool)
        work = Background(lambda: backfill(["yellow"], "2024-02", work_pool=pool))
        until_session(embedded_database_url, WAITING)
        kill_tree(first)
        connection.close()
        second = start_worker(pool)
        outcome = work.result(seconds=150)
        kill_tree(second)
    assert runs_of(outcome) == ["yellow 2024-02 Crashed", "yellow 2024-02 Completed"]
    assert hundreds(embedded_database_url) == [1, 2]


@pytest.mark.slow
def test_an_interrupt_cancels_what_the_workers_do(pool: str, embedded_database_url: str) -> None:
    backfill(["yellow"], "2024-01")
    blocked = closing(held(embedded_database_url, LEDGER_LOCKED))
    call = (
        "import sys; from taxi_ingest import Settings, prefect_api; "
        "from taxi_ingest.flows.backfill import backfill\n"
        "with prefect_api(Settings()): backfill(['yellow'], '2024-01..2024-03', work_pool=sys.argv[1])"
    )
    with worker(pool), blocked as connection:
        process = subprocess.Popen([sys.executable, "-c", call, pool], stderr=subprocess.DEVNULL)
        until_session(embedded_database_url, WAITING)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        connection.close()
        ours = [run for run in flow_runs() if run.name in ("yellow 2024-02", "yellow 2024-03")]
        ours = [run for run in ours if run.work_pool_name == pool and not run.state.is_final()]
    assert ours == []
    assert hundreds(embedded_database_url) == [1]


@pytest.mark.slow
def test_a_limit_lets_so_many_write_at_once_on_all_workers(pool: str, embedded_database_url: str) -> None:
    backfill(["yellow"], "2024-01")
    blocked = closing(held(embedded_database_url, LEDGER_LOCKED))
    with worker(pool), blocked as connection:
        second = start_worker(pool)
        work = Background(lambda: backfill(["yellow"], MONTHS, jobs=2, work_pool=pool, limit=1))
        until_session(embedded_database_url, WAITING)
        until(lambda: len(under_way(pool)) == 2)
        time.sleep(5)
        writing = sessions(embedded_database_url, WAITING)
        connection.close()
        outcome = work.result(seconds=100)
        kill_tree(second)
    assert (writing, outcome.count("loaded")) == (1, 2)
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name("taxi-ingest").active_slots == 0


@pytest.mark.long
def test_a_restart_of_prefects_server_in_the_midst_loses_nothing(
    pool: str, embedded_database_url: str, settings: Settings
) -> None:
    backfill(["yellow"], "2024-01")
    blocked = closing(held(embedded_database_url, LEDGER_LOCKED))
    with worker(pool), blocked as connection:
        work = Background(lambda: backfill(["yellow"], MONTHS, work_pool=pool, limit=1))
        until_session(embedded_database_url, WAITING)
        stack.stop_prefect(settings)
        time.sleep(2)
        stack.launch_prefect(settings).wait(timeout_seconds=100)
        connection.close()
        outcome = work.result(seconds=200)
    assert outcome.count("loaded") == 2
    assert hundreds(embedded_database_url) == [1, 2, 3]


@pytest.mark.long
@pytest.mark.parametrize("seed", [1])
def test_workers_killed_at_random_lose_and_double_no_row(
    pool: str,
    mirror: Path,
    embedded_database_url: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    monkeypatch.setattr(pulse, "SILENCE_SECONDS", 35)
    for number in range(4, 7):
        publish(mirror, number)
    chance, months = random.Random(seed), "2024-01..2024-06"
    with work_pool(pool):
        workers = [start_worker(pool), start_worker(pool)]
        work = Background(lambda: backfill(["yellow"], months, jobs=1, work_pool=pool, limit=1))
        for round in range(4):
            time.sleep(chance.uniform(5, 20))
            victim = chance.randrange(2)
            if chance.random() < 0.5:
                kill_tree(workers[victim])
                workers[victim] = start_worker(pool)
            else:
                kill_children(workers[victim])
            if round == 1:
                stack.stop_prefect(settings)
                stack.launch_prefect(settings).wait(timeout_seconds=100)
        with suppress(MonthsFailed):  # where one month was struck three times
            work.result(seconds=900)
        for each in workers:
            kill_tree(each)
    backfill(["yellow"], months)
    assert hundreds(embedded_database_url) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_host_that_is_lost_and_a_restart_of_prefects_server_lose_and_double_no_row(
    pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "SILENCE_SECONDS", 35)
    for number in range(4, 7):
        publish(tmp_path, number)
    months = "2024-01..2024-06"
    with ExitStack() as lasting:
        hosts = lasting.enter_context(other_hosts(2))
        url = lasting.enter_context(own_postgres(HERE, NETWORK))
        monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", url)
        monkeypatch.setenv(
            "TAXI_INGEST_TLC_URL", lasting.enter_context(serve(tmp_path, address=HERE)).url("")
        )
        server, restart = lasting.enter_context(prefect_at(HERE, free_port(), tmp_path / "prefect"))
        lasting.enter_context(
            temporary_settings({PREFECT_API_URL: server, PREFECT_API_AUTH_STRING: None, PREFECT_UI_URL: None})
        )
        lasting.enter_context(prefect_api(Settings()))
        lasting.enter_context(work_pool(pool))
        backfill(["yellow"], "2024-01")

        workers = [start_worker(pool, "--limit", "1", inside=host.inside) for host in hosts]
        for each in workers:
            lasting.callback(kill_tree, each)
        with closing(held(url, LEDGER_LOCKED)):
            context = copy_context()
            work = Background(lambda: context.run(backfill, ["yellow"], months, jobs=1, work_pool=pool))
            until(lambda: waiting_hosts(url) == {host.address for host in hosts})
            kill_tree(random.choice(workers))
            restart()
        outcome = work.result(seconds=400)
        assert outcome.count("loaded") == 5
        assert any(run.endswith(" Crashed") for run in runs_of(outcome))
        assert hundreds(url) == [1, 2, 3, 4, 5, 6]


def waiting_hosts(url: str) -> set[str]:
    """From where there are loads that wait for a lock."""
    return {host for (host,) in query(url, f"SELECT host(client_addr) FROM pg_stat_activity WHERE {WAITING}")}


@pytest.mark.slow
def test_a_worker_that_loads_elsewhere_is_noticed(pool: str, embedded_database_url: str) -> None:
    elsewhere = url_with(embedded_database_url, dbname="postgres")
    backfill(["yellow"], "2024-01")
    with (
        worker(pool, TAXI_INGEST_DATABASE_URL=elsewhere),
        pytest.raises(DatabaseError, match="A worker has loaded yellow 2024-02, but not into"),
    ):
        backfill(["yellow"], "2024-02", work_pool=pool)


def test_a_pool_that_is_not_there_or_paused_is_said(pool: str) -> None:
    with pytest.raises(UsageError, match="no work pool nowhere"):
        backfill(["yellow"], MONTHS, work_pool="nowhere")
    with work_pool(pool), get_client(sync_client=True) as client:
        client.request("PATCH", f"/work_pools/{pool}", json={"is_paused": True})
        with pytest.raises(UsageError, match="is paused"):
            backfill(["yellow"], MONTHS, work_pool=pool)


def test_workers_elsewhere_can_not_load_into_the_embedded_postgres(
    pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAXI_INGEST_DATABASE_URL")
    with get_client(sync_client=True) as client, calling(settings=Settings()):
        client.create_work_pool(WorkPoolCreate(name=pool, type="docker"))
        with pytest.raises(UsageError, match="out of reach"):
            backfill(["yellow"], MONTHS, work_pool=pool)
        client.delete_work_pool(pool)


@pytest.mark.parametrize("how", [{"limit": 0, "work_pool": "p"}, {"limit": 1}])
def test_a_limit_that_means_nothing_is_refused(how: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        backfill(["yellow"], MONTHS, **how)
