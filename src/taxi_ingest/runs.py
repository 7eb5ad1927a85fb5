"""Flow runs as processes: what becomes of a run in Prefect when its process is interrupted or killed."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.objects import State as AnyState
from prefect.context import FlowRunContext, SettingsContext, get_settings_context
from prefect.exceptions import TerminationSignal
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES
from prefect.states import Cancelled, Completed, Crashed
from prefect.utilities.urls import url_for

from taxi_ingest import marks
from taxi_ingest.load import Database, committed_runs

State = AnyState[Any]
_PREFECT_SECONDS = 5
"""How long a finished run waits for a Prefect server that is gone, as it may just restart."""
_REQUEST_SECONDS = 5

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def cancelled_when_interrupted(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make Ctrl-C and SIGTERM end a flow run as Cancelled, where Prefect would call it Crashed.

    Its caller then meets Prefect's CancelledRun.
    """

    @wraps(function)
    def cancellable(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (KeyboardInterrupt, TerminationSignal):
            return cast(Result, Cancelled(message="Interrupted; nothing is half-loaded."))

    return cancellable


def claim_run() -> None:
    """Tell Prefect which process this flow run is, unless a worker has started it and done so."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run and run.infrastructure_pid is None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, infrastructure_pid=marks.own_mark())


def part_from_prefect() -> None:
    """Keep a run whose work is done from waiting for minutes for a Prefect that is gone.

    Each of the engine's last calls would be tried six times. A server that restarts gets a few seconds;
    then the flow ends at once, with an error of Prefect's, and `run_flow` tells what was done.
    """
    context = FlowRunContext.get()
    if context is None:
        return
    client = cast(SyncPrefectClient, context.client)
    client._client.timeout = _REQUEST_SECONDS
    _set_retries(0)
    deadline = time.monotonic() + _PREFECT_SECONDS
    while client.api_healthcheck() is not None:
        if time.monotonic() > deadline:
            return
        time.sleep(0.2)
    _set_retries(3)


def _set_retries(number: int) -> None:
    """Set it until the settings around the flow end: the engine's calls come after the flow's function."""
    now = get_settings_context()
    settings = now.settings.copy_with_update(updates={PREFECT_CLIENT_MAX_RETRIES: number})
    SettingsContext(profile=now.profile, settings=settings).__enter__()


def settle_left_runs(database: Database) -> None:
    """Put the flow runs right that only seem to run, with their sub-flows' and tasks' runs.

    Those whose load the ledger has are Completed: Prefect could not be told. Those of killed processes of
    this machine are Crashed.
    """
    context = FlowRunContext.get()
    own = context.flow_run.id if context and context.flow_run else None
    with get_client(sync_client=True) as client:
        left = [
            run for run in _running(client) if run.id != own and marks.may_be_left(run.infrastructure_pid)
        ]
        if not left:
            return
        urls = {run.id: url_for("flow-run", run.id) or "" for run in left}
        done = committed_runs(database, list(urls.values()))
        for run in left:
            if urls[run.id] in done:
                _end(client, run.id, Completed(message="Loaded; Prefect was gone when it ended."))
            elif marks.is_dead(run.infrastructure_pid):
                _end(client, run.id, Crashed(message="Its process was killed."))


def _end(client: SyncPrefectClient, run_id: UUID, state: State) -> None:
    """End a flow run, and before it what seems to run below it."""
    for child in _running(client, parent_flow_run_id={"any_": [run_id]}):
        client.set_flow_run_state(child.id, state, force=True)
    below = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    for task in client.read_task_runs(flow_run_filter=below):
        if task.state is None or not task.state.is_final():
            client.set_task_run_state(task.id, state, force=True)
    client.set_flow_run_state(run_id, state, force=True)


def _running(client: SyncPrefectClient, **conditions: object) -> list[FlowRun]:
    wanted = {"state": {"type": {"any_": [StateType.RUNNING]}}, **conditions}
    return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
