"""Flow runs as processes: what becomes of a run in Prefect when its process is interrupted or killed."""

import socket
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Crashed

_MARK = f"taxi-ingest@{socket.gethostname()}:"

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
            client.update_flow_run(run.id, infrastructure_pid=_mark(psutil.Process()))


def crash_dead_runs() -> None:
    """Mark as Crashed the flow runs of killed processes of this machine, and their sub-flows' runs."""
    with get_client(sync_client=True) as client:
        dead = [run.id for run in _running(client) if _is_dead(run)]
        children = _running(client, parent_flow_run_id={"any_": dead}) if dead else []
        for run_id in (*dead, *(child.id for child in children)):
            client.set_flow_run_state(run_id, Crashed(message="Its process was killed."), force=True)


def _running(client: SyncPrefectClient, **conditions: object) -> list[FlowRun]:
    wanted = {"state": {"type": {"any_": [StateType.RUNNING]}}, **conditions}
    return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))


def _is_dead(run: FlowRun) -> bool:
    """Whether a run of ours, on this machine, has lost its process."""
    mark = run.infrastructure_pid or ""
    if not mark.startswith(_MARK):
        return False
    try:
        return mark != _mark(psutil.Process(int(mark.split(":")[1])))
    except psutil.NoSuchProcess:
        return True


def _mark(process: psutil.Process) -> str:
    """A process as it can be told apart from a later one with the same number."""
    return f"{_MARK}{process.pid}:{process.create_time():.0f}"
