"""What becomes of a flow run when its process is interrupted or killed, or Prefect is gone."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, ParamSpec, Self, TypeVar, cast
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.context import FlowRunContext, SettingsContext, TagsContext, get_settings_context
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Crashed, Failed
from prefect.utilities.callables import get_call_parameters
from prefect.utilities.urls import url_for

from taxi_ingest import stack
from taxi_ingest.errors import BusyError, DatabaseError, PrefectError, TaxiIngestError
from taxi_ingest.flows.api import failures_explained, own_api_url, prefect_api, uses_local_server
from taxi_ingest.flows.caller import caller, calling, settings_in_use
from taxi_ingest.flows.child_run import run_child
from taxi_ingest.flows.outcome import BackfillOutcome, MonthsFailed, Outcome
from taxi_ingest.flows.process_marks import is_dead, machine_tag, process_mark
from taxi_ingest.places import Place

_log = logging.getLogger(__name__)

_PREFECT_SECONDS = 5
"""How long a finished run waits for a Prefect server that is gone, as it may just restart."""
_REQUEST_SECONDS = 5

_UNFINISHED = [kind for kind in StateType if kind not in TERMINAL_STATES]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
AnyOutcome = TypeVar("AnyOutcome", Outcome, BackfillOutcome)


class TiedFlow(Flow[Parameters, Result]):
    """A flow whose runs are tied to the process that calls it. A worker looks after its runs itself."""

    check: Callable[[dict[str, Any]], None] = staticmethod(lambda _: None)
    """Raises UsageError for parameters with which it can't run."""
    tags_for: Callable[[dict[str, Any]], set[str]] = staticmethod(lambda _: set())
    """The tags of a run with these parameters, by which it is found again."""

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:  # type: ignore[override]
        """Run the flow, as Flow does; what it has committed is told, though Prefect be gone by then.

        Where no API is set, as in a thread that did not inherit its parent's context, it is the local stack's
        (Prefect would start a temporary one). Raises what the flow raises where nothing was committed, and
        UsageError for what is wrong with its parameters before there is a run, which would be a Failed one.
        """
        parameters = get_call_parameters(self.fn, args, kwargs)
        self.version = process_mark(os.getpid())
        done: list[Outcome | BackfillOutcome] = []
        failed: list[TaxiIngestError] = []
        following = calling(
            on_outcome=done.append,
            on_failure=failed.append,
            tags=caller().tags | self.tags_for(parameters),
        )
        # The same settings once more: their end ends what part_from_prefect sets.
        with _some_api(), following, _tagged(), _settings_with():
            if caller().place is None:
                self.check(self.validate_parameters(parameters))
            try:
                child = caller().child
                return run_child(self, parameters, child) if child else super().__call__(*args, **kwargs)
            except Exception as error:
                if failed:
                    # Rather than that Prefect could not be told of it.
                    raise failed[0] from error
                if not done or isinstance(error, MonthsFailed):
                    raise
                return cast(Result, done[0].with_note(_untold(error)))

    def with_options(self, **options: Any) -> Self:
        """The same flow with other options, tied as well, where Flow would return a plain one."""
        flow = super().with_options(**options)
        tied = cast(Self, flow)
        tied.__class__ = type(self)
        tied.check, tied.tags_for = self.check, self.tags_for
        return tied


@contextmanager
def _tagged() -> Iterator[None]:
    with TagsContext(current_tags=TagsContext.get().current_tags | _own_tags()):
        yield


@contextmanager
def _some_api() -> Iterator[None]:
    if own_api_url():
        yield
        return
    with prefect_api(settings_in_use()):
        yield


def _untold(error: Exception) -> str:
    reason = type(error).__name__
    return f"All is done, but Prefect could not be told ({reason}); the next run puts this flow run right."


def tied_flow(
    check: Callable[[dict[str, Any]], None] = TiedFlow.check,
    tags_for: Callable[[dict[str, Any]], set[str]] = TiedFlow.tags_for,
    **options: Any,
) -> Callable[[Callable[Parameters, Result]], TiedFlow[Parameters, Result]]:
    """Prefect's decorator `flow`, for a flow whose runs are tied to their process and can be interrupted.

    `check` is given the parameters of each call of ours, and raises UsageError for those that can't be used.
    """

    def tied(function: Callable[Parameters, Result]) -> TiedFlow[Parameters, Result]:
        flow = TiedFlow(_untagged(ended_plainly(function)), **options)
        flow.check, flow.tags_for = check, tags_for
        return flow

    return tied


def _untagged(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Keep the run's own tags from its tasks: for each tag of a task Prefect asks the server for a limit."""

    @wraps(function)
    def without_tags(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with TagsContext(current_tags=TagsContext.get().current_tags - _own_tags()):
            return function(*args, **kwargs)

    return without_tags


def _own_tags() -> set[str]:
    return {machine_tag()} | caller().tags


def ended_plainly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have a flow run end in Prefect as it reads best.

    Ctrl-C, SIGTERM and SIGHUP end it as Cancelled, where Prefect would call it Crashed; its caller then meets
    Prefect's CancelledRun. An error of ours is Failed with its sentence and hint, where Prefect would show a
    traceback; its caller meets the error. What was there already is Skipped.
    """

    @wraps(function)
    def plain(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            result = function(*args, **kwargs)
        except (KeyboardInterrupt, TerminationSignal):
            part_from_prefect()
            return cast(Result, Cancelled(message="Interrupted; nothing is half-loaded."))
        except TaxiIngestError as error:
            _log.debug("Where it failed:", exc_info=True)
            caller().on_failure(error)
            part_from_prefect()
            # Who leaves it to another run has not failed.
            ended = Cancelled if isinstance(error, BusyError) else Failed
            return cast(Result, ended(message=f"{error}\n{error.hint}", data=error))
        if isinstance(result, Outcome) and result.status == "skipped":
            message = f"The table has it already, by load {result.load_id}."
            return cast(Result, Completed(name="Skipped", message=message, data=result))
        return result

    return plain


def tell_first(outcome: AnyOutcome) -> AnyOutcome:
    """Tell the caller what a flow has done before Prefect is told, which may be gone by then."""
    caller().on_outcome(outcome)
    part_from_prefect()
    return outcome


@contextmanager
def parent_of_loads(place: Place) -> Iterator[None]:
    """Let a flow have children that load into a place: a ledger keeps all of their failures."""
    place.prepare()
    with calling(place=place):
        yield
    # Children that Prefect could not be told the end of, as its server restarted in between.
    with suppress(PrefectError, DatabaseError), failures_explained():
        end_dead_runs(place)


def interruptible(call: Callable[[], Result]) -> Result:
    """Call a flow. Raises KeyboardInterrupt where it was interrupted, and is Cancelled in Prefect by now."""
    try:
        return call()
    except CancelledRun:
        raise KeyboardInterrupt from None


@contextmanager
def known_to_down(table: str) -> Iterator[None]:
    """Have `taxi-ingest down` wait for a flow that loads into this table, if it uses the local stack."""
    settings = settings_in_use()
    with stack.use_of_stack(table, settings):
        if uses_local_server(settings):
            stack.enter()
        yield


def part_from_prefect() -> None:
    """Keep a run whose work is done from waiting for minutes for a Prefect that is gone.

    Each of the engine's last calls would be tried six times. A server that restarts gets a few seconds;
    then the flow ends at once, with an error of Prefect's, and TiedFlow tells what was done.
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
    _settings_with(max_retries=number).__enter__()


def _settings_with(**changes_of_client: object) -> SettingsContext:
    """The settings in use but for these of Prefect's client.

    Prefect's own temporary_settings reads the environment and all files anew: 50 ms of a core, several times
    a run.
    """
    now = get_settings_context()
    client = now.settings.client.model_copy(update=changes_of_client)
    return SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"client": client}))


def own_url() -> str | None:
    """Where Prefect shows the flow run that this is, or that this task belongs to."""
    return url_for("flow-run", flow_run.id)


def end_dead_runs(place: Place) -> None:
    """Give the runs of ours on this machine that only seem to go on, and their parts, their final state.

    Where the place has a run's load, Prefect could not be told of it: Completed. Else, where the process
    is gone: Crashed.
    """
    context = FlowRunContext.get()
    own = context.flow_run.id if context and context.flow_run else None
    with get_client(sync_client=True) as client:
        left = [run for run in _unfinished(client, tags={"all_": [machine_tag()]}) if run.id != own]
        if not left:
            return
        urls = {run.id: url_for("flow-run", run.id) or "" for run in left}
        done = place.committed_runs(list(urls.values()))
        for run in left:
            if urls[run.id] in done:
                end_run(client, run, Completed(message="Loaded; Prefect was gone when it ended."))
            elif is_dead(run.flow_version):
                end_run(client, run, Crashed(message="Its process was killed."))


def end_run(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    """End all that is below a run, and itself last: who is killed here begins anew at the next time."""
    for below in _unfinished(client, parent_flow_run_id={"any_": [run.id]}):
        end_run(client, below, state)
    end_tasks(client, run.id, state)
    client.set_flow_run_state(run.id, state, force=True)


def end_tasks(client: SyncPrefectClient, run_id: UUID, state: State[Any]) -> None:
    """End the tasks of a run that seem to go on. Prefect knows of a task some moments after it has begun."""
    tasks = client.read_task_runs(
        flow_run_filter=_filter(id={"any_": [run_id]}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": _UNFINISHED}}}),
    )
    for task in tasks:
        client.set_task_run_state(task.id, state, force=True)


def _unfinished(client: SyncPrefectClient, **conditions: object) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=_filter(state={"type": {"any_": _UNFINISHED}}, **conditions))


def _filter(**conditions: object) -> FlowRunFilter:
    return FlowRunFilter.model_validate(conditions)
