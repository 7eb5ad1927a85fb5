"""Schedules: Prefect deployments of the flow `load_new`, each with a cron line."""

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.server.schemas.schedules import CronSchedule as Calendar
from prefect.utilities.urls import url_for

from taxi_ingest.errors import UsageError
from taxi_ingest.flows.cloud_blocks import check_source_block
from taxi_ingest.flows.deployments import TAG, USUAL_POOL, deploy, find_pool, make_process_pool
from taxi_ingest.flows.ingest import check_target
from taxi_ingest.flows.load_new import load_new, run_name
from taxi_ingest.flows.notify import find_notification, tell_of_failures, told_by
from taxi_ingest.places import place_at
from taxi_ingest.settings.job import DEFAULT_OPTIONS, MONTHS_BACK, NEW_YORK
from taxi_ingest.tlc import parse_month, parse_range, trips_named

_LOAD_NEW = FlowFilter.model_validate({"name": {"any_": [load_new.name]}})


@dataclass(frozen=True)
class Schedule:
    """A deployment that loads what is new of a dataset, again and again."""

    name: str
    cron: str
    timezone: str
    pool: str
    table: str
    to: str | None
    """The address of the place that its table is in."""
    block: str | None
    """The block of its database; without one, and without `to`, its worker's settings say which it is."""
    notify: str | None
    """The block that tells of runs that fail."""
    paused: bool
    next_run: datetime | None

    def as_json(self) -> dict[str, Any]:
        """A plain object for `--json`."""
        return {**asdict(self), "next_run": self.next_run.isoformat() if self.next_run else None}


def create_schedule(
    dataset: str,
    cron: str,
    timezone: str = NEW_YORK,
    *,
    months_back: int = MONTHS_BACK,
    table: str | None = None,
    to: str | None = None,
    block: str | None = None,
    source_block: str | None = None,
    pool: str | None = None,
    notify: str | None = None,
) -> Schedule:
    """Have what is new of a dataset loaded at the times of a cron line; changes the schedule that there is.

    Raises UsageError for what is no dataset, table, cron line or time zone, and for a block or pool that is
    not there; nothing has changed then.
    """
    parse_range("all", trips_named(dataset), date.today())
    schedule = _cron_schedule(cron, timezone)
    # A worker has another current folder.
    to = place_at(to).address if to is not None else None
    options = replace(DEFAULT_OPTIONS, to=to, block=block, source_block=source_block)
    check_target([table if table is not None else trips_named(dataset).table], options)
    check_source_block(source_block)
    with get_client(sync_client=True) as client:
        told = find_notification(client, notify) if notify else None
        if pool:
            find_pool(client, pool)
        else:
            make_process_pool(client, USUAL_POOL)
        id = deploy(
            client,
            load_new,
            dataset,
            pool or USUAL_POOL,
            parameters={
                "dataset": dataset,
                "months_back": months_back,
                "timezone": timezone,
                "table": table,
                "options": asdict(options),
            },
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
            tags=[dataset],
            description=f"Loads what is new or revised of TLC's {dataset} trips.",
        )
        tell_of_failures(client, id, dataset, told)
        # Now, as Prefect's scheduler would in some seconds, so that none is seen under a random name.
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": id}, json={})
        name_planned_runs(client)
        return _schedule(client, client.read_deployment(id))


def name_planned_runs(client: SyncPrefectClient) -> None:
    """Name the runs that Prefect's scheduler has planned as they will be called: it names them at random."""
    planned = client.read_flow_runs(
        flow_filter=_LOAD_NEW,
        flow_run_filter=FlowRunFilter.model_validate(
            {"state": {"type": {"any_": ["SCHEDULED"]}}, "tags": {"all_": [TAG]}}
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    for run in planned:
        # One that somebody has planned in the dashboard may have parameters with which it will fail.
        with suppress(UsageError, LookupError, ValueError):
            name = run_name(run.parameters, run.expected_start_time or datetime.now(UTC))
            if run.name != name:
                client.set_flow_run_name(run.id, name)


def list_schedules() -> list[Schedule]:
    """All schedules, by name."""
    with get_client(sync_client=True) as client:
        # Others may have deployed our flow in a way of their own.
        found = [each for each in client.read_deployments(flow_filter=_LOAD_NEW) if TAG in each.tags]
        return [_schedule(client, each) for each in sorted(found, key=lambda each: each.name)]


def remove_schedule(name: str) -> None:
    """Remove a schedule, with the runs that it has planned. Raises UsageError where there is none."""
    with get_client(sync_client=True) as client:
        deployment = _deployment(client, name)
        tell_of_failures(client, deployment.id, name, None)
        client.delete_deployment(deployment.id)


def run_schedule(name: str, month: str | None = None) -> str:
    """Have a schedule's worker run it now, as of a month if one is given; returns the run's address.

    Raises UsageError where there is no such schedule, and for what is no month of its dataset.
    """
    parameters = {"month": parse_month(month)} if month else {}
    with get_client(sync_client=True) as client:
        deployment = _deployment(client, name)
        if month:
            parse_range(month, trips_named(deployment.parameters["dataset"]), date.today())
        name = run_name({**deployment.parameters, **parameters}, datetime.now(UTC))
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, name=name)
        return url_for(run) or str(run.id)


def _cron_schedule(cron: str, timezone: str) -> CronSchedule:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"There is no time zone {timezone!r}.", "Write it like America/New_York or Europe/Berlin."
        ) from None
    try:
        if len(cron.split()) not in (1, 5):
            raise ValueError
        schedule = CronSchedule(cron=cron, timezone=timezone)
        _next(schedule)
    except ValueError:
        raise UsageError(
            f"{cron!r} is no cron line, or for a time that never comes.",
            "Write minute, hour, day, month and day of the week, in quotes: '0 6 5 * *' is each 5th at six.",
        ) from None
    return schedule


def _next(schedule: CronSchedule) -> datetime | None:
    calendar = Calendar(cron=schedule.cron, timezone=schedule.timezone)
    return next(iter(asyncio.run(calendar.get_dates(1))), None)


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(f"{load_new.name}/{name}")
    except ObjectNotFound:
        raise UsageError(f"There is no schedule {name}.", "`taxi-ingest schedule ls` lists them.") from None


def _schedule(client: SyncPrefectClient, deployment: DeploymentResponse) -> Schedule:
    parameters = deployment.parameters
    options = parameters.get("options") or {}
    crons = [each for each in deployment.schedules if isinstance(each.schedule, CronSchedule)]
    cron = crons[0].schedule if crons else None
    active = bool(crons and crons[0].active and not deployment.paused)
    assert cron is None or isinstance(cron, CronSchedule)
    return Schedule(
        name=deployment.name,
        cron=cron.cron if cron else "",
        timezone=(cron.timezone if cron else None) or "UTC",
        pool=deployment.work_pool_name or "",
        table=parameters.get("table") or trips_named(parameters["dataset"]).table,
        to=options.get("to"),
        block=options.get("block"),
        notify=told_by(client, deployment.name),
        paused=not active,
        next_run=_next(cron) if cron and active else None,
    )
