"""Months that the workers of a work pool load, on any hosts: each is submitted as a run of its own.

All truth is in Postgres: what has become of a month is read from the ledger. Where a worker has died in the
midst of it, its run is ended as Crashed, and the month submitted again.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from typing import TypeVar, cast
from uuid import UUID, uuid4

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, WorkerFilter
from prefect.client.schemas.objects import FlowRun, WorkPool
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Crashed
from prefect.utilities.urls import url_for

from taxi_ingest import stack
from taxi_ingest.errors import (
    DatabaseError,
    DataError,
    PrefectError,
    SourceError,
    TransientDatabaseError,
    UsageError,
    without_login,
)
from taxi_ingest.flows.api import restart_local_server
from taxi_ingest.flows.caller import settings_in_use
from taxi_ingest.flows.deployments import PROCESS, deploy, find_pool
from taxi_ingest.flows.ingest import ingest, ingest_month
from taxi_ingest.flows.limit import make_limit
from taxi_ingest.flows.outcome import NotLoaded, Outcome
from taxi_ingest.flows.pulse import HEARTBEAT_SECONDS, LOST, Pulse
from taxi_ingest.flows.runs import end_run, end_tasks
from taxi_ingest.flows.several import Result, carry_out
from taxi_ingest.load import LoadResult
from taxi_ingest.months import Month, compare, likely_url, target_of
from taxi_ingest.places import Place
from taxi_ingest.settings.job import BackfillJob, LoadOptions, usual_jobs
from taxi_ingest.tlc import TLC_URL

BACKFILL = "backfill"
"""What a backfill's run and those of its months are tagged with, beside datasets and months."""

_POLL_SECONDS = 1
_TRIES = 3
"""How often a month is submitted whose run crashes."""
_OUTAGE_SECONDS = 300
"""How long Prefect's server, or the database, may be gone."""
_CANCEL_SECONDS = 30
_MOST_AT_ONCE = 200
"""As many runs as Prefect's API tells of in one answer."""

_KINDS = {kind.__name__: kind for kind in (UsageError, SourceError, DataError, DatabaseError)}
"""What Prefect's message of a failed run begins with."""

Answer = TypeVar("Answer")


def check_pool(name: str | None) -> None:
    """Raise UsageError for a work pool that is named and not there, or paused."""
    if name:
        with get_client(sync_client=True) as client:
            find_pool(client, name)


def load_in_pool(months: Sequence[Month], job: BackfillJob, place: Place) -> list[Result | None]:
    """What has become of each month, in their order; None for those not begun after `max_failures`.

    Called in a flow run, whose children the months' runs are; its caller is told of each end. `place` is
    that of this process, and must be the workers'.

    Raises UsageError where there is no such pool, DatabaseError where the workers load into another database.
    Whatever it raises, all that was under way is cancelled.
    """
    with get_client(sync_client=True) as client:
        pool = find_pool(client, job.work_pool or "")
        _check_within_reach(place, pool, job.options)
        if job.limit:
            limit = make_limit(client, job.limit, forget=not _any_running(client))
            job = replace(job, options=replace(job.options, limit=limit))
        # How many share a machine is not known here.
        job = replace(job, options=replace(job.options, connections=job.options.connections or 1))
        workers = _Workers(client, pool, months, job, place)
        try:
            return carry_out([month.name for month in months], workers, job.max_failures)
        except BaseException:
            workers.cancel()
            raise


def _check_within_reach(place: Place, pool: WorkPool, options: LoadOptions) -> None:
    """Raise UsageError where the workers' runs surely can't reach the database: each would start its own."""
    embedded = stack.is_embedded(settings_in_use(), place.address)
    if embedded and options.block is None and pool.type != PROCESS:
        raise UsageError(
            f"This machine's embedded Postgres is out of reach for the work pool {pool.name}.",
            f"Name a --block, or set TAXI_INGEST_DATABASE_URL, here and where its {pool.type} runs are.",
        )


def _any_running(client: SyncPrefectClient) -> bool:
    flows = FlowFilter.model_validate({"name": {"any_": [ingest.name, ingest_month.name]}})
    running = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}})
    return bool(client.read_flow_runs(flow_filter=flows, flow_run_filter=running, limit=1))


class _Workers:
    """The months, and those of their runs that are under way."""

    def __init__(
        self,
        client: SyncPrefectClient,
        pool: WorkPool,
        months: Sequence[Month],
        job: BackfillJob,
        place: Place,
    ) -> None:
        self._client, self._pool, self._months, self._job = client, pool, months, job
        self._place = place
        self._settings = settings_in_use()
        self._deployment = deploy(client, ingest_month, pool.name, pool.name)
        self._pulse = Pulse(client, starts_at_once=pool.type == PROCESS)
        self._key = flow_run.id or str(uuid4())
        self._tries: list[list[UUID]] = [[] for _ in months]
        self._under_way: dict[UUID, int] = {}

    def _patiently(self, act: Callable[[], Answer]) -> Answer:
        """Do what can be done again where a server is gone, until it is back."""
        deadline = time.monotonic() + _OUTAGE_SECONDS
        while True:
            try:
                return act()
            except (PrefectException, httpx.HTTPError, TransientDatabaseError) as error:
                refused = isinstance(error, PrefectHTTPStatusError) and error.response.status_code < 500
                if refused or time.monotonic() > deadline:
                    raise
                # In that time no run could be heard.
                self._pulse.listen_anew()
                time.sleep(_POLL_SECONDS)
                restart_local_server(self._settings)

    # Submitting

    @property
    def works(self) -> bool:
        """Whether there are runs that have not ended."""
        return bool(self._under_way)

    def begin(self, left: deque[int]) -> None:
        """Submit the first of those that are left, so many for each worker."""
        self._patiently(lambda: self._submit(left))

    def _submit(self, left: deque[int]) -> None:
        while left and len(self._under_way) < self._most_at_once():
            number = left[0]
            run = self._submitted(number)
            self._under_way[run] = number
            self._tries[number].append(run)
            left.popleft()

    def _most_at_once(self) -> int:
        online = WorkerFilter.model_validate({"status": {"any_": ["ONLINE"]}})
        workers = self._client.read_workers_for_work_pool(self._pool.name, worker_filter=online)
        if not workers and not self._under_way:
            get_run_logger().warning(
                "No worker of the pool %s is there yet: `prefect worker start --pool %s`",
                self._pool.name,
                self._pool.name,
            )
        return min((self._job.jobs or usual_jobs()) * max(len(workers), 1), _MOST_AT_ONCE)

    def _submitted(self, number: int) -> UUID:
        month = self._months[number]
        parameters = {
            "dataset": month.dataset,
            "month": month.month,
            "table": self._job.table,
            "options": asdict(self._job.options),
        }
        run = run_deployment(
            self._deployment,
            parameters=parameters,
            flow_run_name=month.name,
            tags=[month.dataset, month.month, BACKFILL],
            job_variables={"env": self._environment()},
            # So that a call whose answer was lost makes no second run.
            idempotency_key=f"{self._key} {month.name} {len(self._tries[number])}",
            timeout=0,
        )
        return cast(FlowRun, run).id

    def _environment(self) -> dict[str, str]:
        """What of our settings the workers must share; none of it is secret."""
        shared = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}
        if self._settings.tlc_url != TLC_URL:
            shared["TAXI_INGEST_TLC_URL"] = without_login(self._settings.tlc_url)
        return shared

    # Waiting

    def ended(self) -> Iterator[tuple[int, Result | None]]:
        """Look after a second what the workers have done."""
        time.sleep(_POLL_SECONDS)
        for number, run in self._patiently(self._ended):
            yield number, self._patiently(partial(self._result, number, run))

    def _ended(self) -> list[tuple[int, FlowRun | None]]:
        """The months whose runs have ended by now, or are lost; None for one that Prefect has no more."""
        known = {run.id: run for run in self._read()}
        for run in known.values():
            if self._pulse.is_lost(run):
                end_run(self._client, run, Crashed(message=LOST))
        ended = [id for id in self._under_way if id not in known or _is_over(known[id])]
        return [(self._under_way.pop(id), known.get(id)) for id in ended]

    def _read(self) -> list[FlowRun]:
        if not self._under_way:
            return []
        wanted = FlowRunFilter.model_validate({"id": {"any_": list(self._under_way)}})
        return self._client.read_flow_runs(flow_run_filter=wanted)

    def _result(self, number: int, run: FlowRun | None) -> Result | None:
        """What has become of a month; None where it must be submitted again."""
        month, state = self._months[number], run.state if run else None
        if run and state and state.is_completed():
            for earlier in self._tries[number]:
                if earlier != run.id:
                    # Those of which Prefect did not know yet when their run was ended.
                    end_tasks(self._client, earlier, Crashed(message="Its process was killed."))
            return self._loaded(number, run)
        if state is None or state.is_crashed():
            if run:
                # The worker that tells of a killed process tells nothing of its parts.
                end_run(self._client, run, Crashed(message="Its process was killed."))
            if len(self._tries[number]) < _TRIES:
                get_run_logger().warning("%s: its run has crashed, and is begun anew", month.name)
                return None
        return self._failure(month, run)

    def _now(self, month: Month) -> Month:
        target = target_of(month.dataset, self._job.table)
        [now] = compare(self._place, target, month.dataset, [month.month], date.today())
        return now

    def _loaded(self, number: int, run: FlowRun) -> Outcome:
        month = self._months[number]
        load = self._now(month).load
        if load is None:
            raise DatabaseError(
                f"A worker has loaded {month.name}, but not into {self._place.address}.",
                "Workers use the --block that is named here, else the TAXI_INGEST_DATABASE_URL that is set"
                " where they run: let both be one database.",
            )
        own = any(str(id) in (load.flow_run_url or "") for id in self._tries[number])
        return Outcome.of(
            LoadResult(load, skipped=not own),
            target_of(month.dataset, self._job.table),
            self._place,
            run.total_run_time.total_seconds(),
            load.flow_run_url if own else url_for(run),
        )

    def _failure(self, month: Month, run: FlowRun | None) -> NotLoaded:
        attempt = self._now(month).attempt
        target = str(target_of(month.dataset, self._job.table))
        where = f"{url_for(run)} shows its log." if run else "Somebody has deleted its run: try again."
        if run and attempt and str(run.id) in (attempt.flow_run_url or ""):
            return NotLoaded(
                "failed",
                target,
                attempt.source,
                month.dataset,
                month.month,
                attempt.message,
                where,
                attempt.exit_code,
            )
        message = (run.state.message if run and run.state else None) or "Its run has crashed."
        message = message.removeprefix("Flow run encountered an exception: ")
        kind = _KINDS.get(message.partition(":")[0], PrefectError)
        url = likely_url(month, self._settings)
        return NotLoaded("failed", target, url, month.dataset, month.month, message, where, kind.exit_code)

    # Ending

    def withdraw(self) -> None:
        """Take back what no worker has begun."""
        self._patiently(self._withdraw)

    def _withdraw(self) -> None:
        for run in self._read():
            if run.state and run.state.is_scheduled():
                self._client.set_flow_run_state(run.id, Cancelled(message="Too many others have failed."))
                del self._under_way[run.id]

    def cancel(self) -> None:
        """End all that is under way: workers end their processes; where none does that, the run alone."""
        with suppress(PrefectException, httpx.HTTPError):
            self._cancel_all()

    def _cancel_all(self) -> None:
        deadline = time.monotonic() + _CANCEL_SECONDS
        for run in self._read():
            if not _is_over(run):
                self._client.set_flow_run_state(run.id, Cancelling())
        while (left := [run for run in self._read() if not _is_over(run)]) and time.monotonic() < deadline:
            time.sleep(0.2)
        for run in left:
            end_run(self._client, run, Cancelled(message="Interrupted; nothing is half-loaded."))


def _is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()
