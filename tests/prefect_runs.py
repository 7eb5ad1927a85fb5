"""What tests ask Prefect: which runs there are, and how they ended."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx
import psutil
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import get_current_settings
from prefect.states import Running
from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver
from psycopg2.extensions import parse_dsn

from helpers import until
from taxi_ingest.flows.blocks import find_block
from taxi_ingest.flows.deployments import make_process_pool
from taxi_ingest.load import Database

_PREFECT = str(Path(sys.executable).with_name("prefect"))


def id_of(flow_run_url: str | None) -> UUID:
    """The run whose page this is."""
    assert flow_run_url
    return UUID(flow_run_url.rpartition("/")[2])


def flow_run(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def flow_runs(**wanted: object) -> list[FlowRun]:
    """The latest 200 runs, as Prefect tells of no more, or those that a filter of its lets pass."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(wanted), sort=FlowRunSort.EXPECTED_START_TIME_DESC
        )


def number_of_runs() -> int:
    with get_client(sync_client=True) as client:
        return int(client.request("POST", "/flow_runs/count", json={}).json())


def running() -> list[FlowRun]:
    return flow_runs(state={"type": {"any_": ["RUNNING"]}})


def task_runs(*of: UUID) -> list[TaskRun]:
    """The tasks of runs; Prefect records them from events, some time after they happened."""
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter.model_validate({"id": {"any_": list(of)}})
        return client.read_task_runs(flow_run_filter=wanted) if of else []


@flow(name="ingest")
def _anything() -> None: ...


@contextmanager
def seeming_run(*tags: str, process: str | None = None) -> Iterator[UUID]:
    """A run that seems to go on, with these tags and the mark of a process."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(_anything.with_options(version=process), tags=tags, state=Running()).id
        try:
            yield run
        finally:
            client.delete_flow_run(run)


def block(url: str, name: str) -> Database:
    """The same database by way of a block."""
    parts = parse_dsn(url)
    host = parts["host"]
    components = ConnectionComponents(
        driver=SyncDriver.POSTGRESQL_PSYCOPG2,
        username=parts["user"],
        password=parts.get("password"),
        host=None if host.startswith("/") else host,
        port=int(parts["port"]) if "port" in parts else None,
        database=parts["dbname"],
        query={"host": host} if host.startswith("/") else None,
    )
    SqlAlchemyConnector(connection_info=components).save(name, overwrite=True)
    found = find_block(name)
    assert found
    return found


@contextmanager
def worker(pool: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker of a process pool, as a user starts it; its processes end with it."""
    with work_pool(pool):
        process = start_worker(pool, **environment)
        try:
            yield process
        finally:
            kill_tree(process)


def start_worker(
    pool: str, *flags: str, inside: Sequence[str] = (), **environment: str
) -> "subprocess.Popen[str]":
    """Start a worker that asks for runs each second; `inside` is what has it run on another host."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    settings.pop("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", None)
    command = [*inside, _PREFECT, "worker", "start", "--pool", pool, "--type", "process", *flags]
    return _silent(command, {**os.environ, **settings, "PREFECT_WORKER_QUERY_SECONDS": "1", **environment})


@contextmanager
def prefect_at(address: str, port: int, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A server of Prefect's as one starts it for several hosts: its API, and what restarts it."""
    api = f"http://{address}:{port}/api"
    command = [_PREFECT, "server", "start", "--host", address, "--port", str(port), "--no-ui"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    running: list[subprocess.Popen[str]] = []

    def restart() -> None:
        for before in running:
            kill_tree(before)
        running[:] = [_silent(command, {**own, "PREFECT_HOME": str(folder)})]
        until(lambda: _answers(api), process=running[0])

    restart()
    try:
        yield api, restart
    finally:
        kill_tree(running[0])


def _silent(command: Sequence[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def _answers(api: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{api}/health").is_success
    return False


@contextmanager
def work_pool(name: str) -> Iterator[None]:
    """A work pool for processes."""
    with get_client(sync_client=True) as client:
        make_process_pool(client, name)
        yield
        client.delete_work_pool(name)


def kill_tree(process: "subprocess.Popen[str]") -> None:
    """Kill a worker, and then the processes of its runs: it can't tell how they ended."""
    children = _children(process)
    process.kill()
    process.wait()
    _kill(children)


def kill_children(process: "subprocess.Popen[str]") -> None:
    """Kill the processes of a worker's runs, which have sessions of their own."""
    _kill(_children(process))


def _children(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _kill(processes: list[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.kill()
