"""What carries schedules out: a worker of ours, which leaves no run that only seems to go on."""

import asyncio
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from taxi_ingest.errors import UsageError
from taxi_ingest.flows.deployments import PROCESS, USUAL_POOL, find_pool, make_process_pool
from taxi_ingest.flows.load_new import load_new
from taxi_ingest.flows.pulse import LOST, Pulse
from taxi_ingest.flows.runs import end_run
from taxi_ingest.flows.schedule import name_planned_runs
from taxi_ingest.settings.job import usual_jobs

_QUERY_SECONDS = 5
_WATCH_SECONDS = 20
_TRIES = 3
_LATELY = timedelta(hours=1)
_AGAIN = "again:"
"""How often a run was begun anew, as a tag."""


def serve(
    pool: str | None = None, jobs: int | None = None, tell: Callable[[str], None] = lambda _: None
) -> None:
    """Carry out a work pool's runs, schedules' and others, each in a process of its own, until interrupted.

    `jobs` is how many at once. What of schedules is cut short, by the end of this or of another worker, is
    begun anew. Raises UsageError where there is no such pool, or it is not one for processes.
    """
    with get_client(sync_client=True) as client:
        if pool is None:
            pool = USUAL_POOL
            make_process_pool(client, pool)
        _check_type(client, pool)
        worker = ProcessWorker(
            work_pool_name=pool,
            name=f"taxi-ingest {socket.gethostname()} {os.getpid()}",
            limit=jobs or usual_jobs(),
        )
        worker.job_configuration = _InThisFolder
        settings = temporary_settings({PREFECT_WORKER_QUERY_SECONDS: _QUERY_SECONDS})
        with settings, _watching(pool), _terminated_as_interrupted(), _own_temporary_folder():
            try:
                asyncio.run(worker.start(printer=tell))
            except KeyboardInterrupt:
                # As it is meant to end.
                pass
            finally:
                for run in _under_way(client, pool):
                    if run.labels.get("prefect.worker.name") == worker.name:
                        # Nobody need be told of it, as of a crash.
                        _begin_anew(client, run, Cancelled(message="Its worker was stopped."))


class _InThisFolder(ProcessJobConfiguration):
    """Runs begin in the folder of this process, whose `.env` and relative paths are meant for them, too."""

    def prepare_for_flow_run(self, *arguments: Any, **more: Any) -> None:
        """Complete what the deployment says."""
        super().prepare_for_flow_run(*arguments, **more)
        self.working_dir = self.working_dir or Path.cwd()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what SIGINT does, of which asyncio alone makes an orderly end.

    Where SIGINT is ignored, as in what a script starts in the background, asyncio would not heed it.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    signal.signal(signal.SIGTERM, _interrupt)
    if before[signal.SIGHUP] != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """Keep Prefect's runner from a folder of all users of a host, which belongs to the first of them."""
    usual = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="taxi-ingest-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = usual


def _check_type(client: SyncPrefectClient, pool: str) -> None:
    found = find_pool(client, pool)
    if found.type != PROCESS:
        raise UsageError(
            f"The work pool {pool} is of the type {found.type}.",
            f"`prefect worker start --pool {pool}` starts a worker of that type.",
        )


@contextmanager
def _watching(pool: str) -> Iterator[None]:
    """Now and then begin anew what a worker that was killed has left, and name what was planned since."""
    stopped = threading.Event()

    def watch() -> None:
        with get_client(sync_client=True) as client:
            pulse = Pulse(client, starts_at_once=True)
            while not stopped.wait(_WATCH_SECONDS):
                try:
                    name_planned_runs(client)
                    for run in _under_way(client, pool):
                        if pulse.is_lost(run):
                            _begin_anew(client, run, Crashed(message=LOST))
                    for run in _never_begun(client, pool):
                        _make_again(client, run)
                except (PrefectException, httpx.HTTPError):
                    pulse.listen_anew()

    thread = threading.Thread(target=copy_context().run, args=(watch,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _under_way(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    """The schedules' runs that workers of this pool have begun."""
    return _runs(client, pool, state={"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}})


def _never_begun(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    """Those that crashed lately before they began, as where Prefect's server was gone just then."""
    crashed = _runs(client, pool, state={"type": {"any_": ["CRASHED"]}})
    since = datetime.now(UTC) - _LATELY
    return [run for run in crashed if not run.run_count and run.state and run.state.timestamp > since]


def _runs(client: SyncPrefectClient, pool: str, **conditions: object) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_filter=FlowFilter.model_validate({"name": {"any_": [load_new.name]}}),
        work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [pool]}}),
        flow_run_filter=FlowRunFilter.model_validate(conditions),
    )


def _begin_anew(client: SyncPrefectClient, run: FlowRun, end: State) -> None:
    """End a run, and make another in its place."""
    if run.state and run.state.is_cancelling():
        # Somebody did not want it any more.
        end_run(client, run, Cancelled(message="Cancelled; its worker has gone."))
        return
    end_run(client, run, end)
    _make_again(client, run)


def _make_again(client: SyncPrefectClient, run: FlowRun) -> None:
    """Make another run in the place of one that has ended, unless that was done already, or too often."""
    tries = 1 + sum(int(tag.removeprefix(_AGAIN)) for tag in run.tags if tag.startswith(_AGAIN))
    if run.deployment_id is None or tries >= _TRIES:
        return
    client.create_flow_run_from_deployment(
        run.deployment_id,
        parameters=run.parameters,
        name=run.name,
        state=Scheduled(scheduled_time=run.expected_start_time),
        tags=[*(tag for tag in run.tags if not tag.startswith(_AGAIN)), f"{_AGAIN}{tries}"],
        idempotency_key=f"again {run.id}",
    )
