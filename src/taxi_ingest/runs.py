"""Flow runs as processes: what becomes of a run in Prefect when its process is interrupted or killed.

A run carries two tags from the moment that it is created, as it may be killed in the next: one names
the machine and the user, the other the process.
"""

import hashlib
import inspect
import os
import re
import socket
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar, cast

import psutil
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.context import TagsContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Crashed

from taxi_ingest import stack
from taxi_ingest.orchestration import uses_local_server
from taxi_ingest.settings import Settings

_MARK = re.compile(r"process:(?P<boot>\w+)/(?P<pid>\d+)/(?P<began>\d+)", re.ASCII)
_HOST_NAMESPACE = "pid:[4026531836]"
"""The machine's own namespace of process numbers, no container's (PROC_PID_INIT_INO in Linux' proc_ns.h)."""

_UNFINISHED = [kind for kind in StateType if kind not in TERMINAL_STATES]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class TiedFlow(Flow[Parameters, Result]):
    """A flow whose runs are tied to the process that calls it. A worker looks after its runs itself."""

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:  # type: ignore[override]
        """Run the flow, as Flow does."""
        with TagsContext(current_tags=TagsContext.get().current_tags | tags_of(os.getpid())):
            return super().__call__(*args, **kwargs)

    def with_options(self, **options: Any) -> Self:
        """The same flow with other options, tied as well, where Flow would return a plain one."""
        flow = super().with_options(**options)
        flow.__class__ = type(self)
        return cast(Self, flow)


def tied_flow(
    **options: Any,
) -> Callable[[Callable[Parameters, Result]], TiedFlow[Parameters, Result]]:
    """Prefect's decorator `flow`, for a flow whose runs are tied to their process and can be interrupted."""

    def tied(function: Callable[Parameters, Result]) -> TiedFlow[Parameters, Result]:
        return TiedFlow(_untagged(cancelled_when_interrupted(function)), **options)

    return tied


def _untagged(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Keep the run's tags from its tasks: for each tag of a task Prefect asks the server for a limit."""

    @wraps(function)
    def without_tags(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with TagsContext(current_tags=TagsContext.get().current_tags - tags_of(os.getpid())):
            return function(*args, **kwargs)

    return without_tags


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


def known_to_down(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have `taxi-ingest down` wait for a flow that has a parameter `table`, if it uses the local stack."""
    signature = inspect.signature(function)

    @wraps(function)
    def known(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        settings = Settings()
        with stack.use_of_stack(signature.bind(*args, **kwargs).arguments["table"], settings):
            if uses_local_server(settings):
                stack.enter()
            return function(*args, **kwargs)

    return known


def end_dead_runs() -> None:
    """Give the runs of ours on this machine whose process is gone, and their parts, their final state."""
    with get_client(sync_client=True) as client:
        for run in _unfinished(client, tags={"all_": [_machine()]}):
            if _is_dead(run):
                _end(client, run, final_state(run))


def final_state(run: FlowRun) -> State[Any]:
    """What a run whose process is gone has come to."""
    del run
    return Crashed(message="Its process was killed.")


def _end(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    """End a run's tasks and sub-flows, and itself last: who is killed here begins anew at the next time."""
    subflows = _unfinished(client, parent_flow_run_id={"any_": [run.id]})
    tasks = client.read_task_runs(
        flow_run_filter=_filter(id={"any_": [run.id, *(subflow.id for subflow in subflows)]}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": _UNFINISHED}}}),
    )
    for task in tasks:
        client.set_task_run_state(task.id, state, force=True)
    for part in (*subflows, run):
        client.set_flow_run_state(part.id, state, force=True)


def _unfinished(client: SyncPrefectClient, **conditions: object) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=_filter(state={"type": {"any_": _UNFINISHED}}, **conditions))


def _filter(**conditions: object) -> FlowRunFilter:
    return FlowRunFilter.model_validate(conditions)


# Which process a run is


def _is_dead(run: FlowRun) -> bool:
    """Whether the process that a run of this machine names is gone."""
    marks = [mark for tag in run.tags if (mark := _MARK.fullmatch(tag))]
    return bool(marks) and not any(_lives(mark) for mark in marks)


def _lives(mark: re.Match[str]) -> bool:
    began = _began(int(mark["pid"])) if mark["boot"] == _boot() else None
    # A tick, or a second where the system tells no ticks: no number comes round as fast as that.
    return began is not None and abs(began - int(mark["began"])) <= 1


def tags_of(pid: int) -> set[str]:
    """The tags of a run that this process of ours is."""
    return {_machine(), f"process:{_boot()}/{pid}/{_began(pid) or 0:.0f}"}


def _machine() -> str:
    """This machine and user; in a container this boot and namespace, as images share names and ids."""
    namespace = _link("/proc/self/ns/pid")
    identity = _text("/etc/machine-id") if namespace in ("", _HOST_NAMESPACE) else ""
    identity = identity or f"{namespace} {_boot()}"
    return f"machine:{os.getuid()}@{socket.gethostname()}/{_digest(identity)}"


def _boot() -> str:
    """Which start of the machine this is; the same for all where the system does not tell."""
    return _digest(_text("/proc/sys/kernel/random/boot_id"))


def _began(pid: int) -> float | None:
    """When a process began, None if it is gone or waits, dead, for its parent.

    On Linux in ticks since the machine started (proc_pid_stat(5), field 22): its time of creation is
    reckoned from the clock, and moves with it. Elsewhere in seconds since 1970.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _created(pid)
    return None if fields[0] in (b"Z", b"X") else float(fields[19])


def _created(pid: int) -> float | None:
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except psutil.Error:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
