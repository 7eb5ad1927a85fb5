"""The flow `backfill`: each month of a range that the ledger lacks, by a child run of its own."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

from prefect.runtime import flow_run

from taxi_ingest.flows.artifacts import leave, of_several
from taxi_ingest.flows.caller import caller, settings_in_use
from taxi_ingest.flows.cloud_blocks import source_opened
from taxi_ingest.flows.ingest import check_target, chosen_place, ingest_month, log_table_name
from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded, Outcome
from taxi_ingest.flows.pool import BACKFILL, check_pool, load_in_pool
from taxi_ingest.flows.runs import known_to_down, own_url, parent_of_loads, tell_first, tied_flow
from taxi_ingest.flows.several import Result
from taxi_ingest.flows.side_by_side import Load, load_side_by_side
from taxi_ingest.load import LoadResult
from taxi_ingest.months import Month, Plan, check, check_room, likely_url, plan, target_of
from taxi_ingest.places import Place
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import BackfillJob, LoadOptions, Reprocess
from taxi_ingest.sources import logins_of, parse_source
from taxi_ingest.sources.months import month_address


def _name() -> str:
    parameters = flow_run.get_parameters()
    return f"backfill {' '.join(parameters['datasets'])} {parameters['months']}"


def _tags(parameters: dict[str, Any]) -> set[str]:
    return {*parameters["datasets"], BACKFILL}


def _check(parameters: dict[str, Any]) -> None:
    job = BackfillJob(**parameters)
    check(job)
    check_target([str(target_of(dataset, job.table)) for dataset in job.datasets], job.options)
    check_pool(job.work_pool)


@tied_flow(name="backfill", flow_run_name=_name, tags_for=_tags, check=_check)
def backfill(
    datasets: list[str],
    months: str,
    table: str | None = BackfillJob.table,
    jobs: int | None = BackfillJob.jobs,
    reprocess: Reprocess = BackfillJob.reprocess,
    newest_first: bool = BackfillJob.newest_first,
    max_failures: int | None = BackfillJob.max_failures,
    until: str | None = BackfillJob.until,
    work_pool: str | None = BackfillJob.work_pool,
    limit: int | None = BackfillJob.limit,
    options: LoadOptions = BackfillJob.options,
) -> BackfillOutcome:
    """Load all months of a range that the table has not yet, each exactly once.

    Args:
        datasets: yellow, green, fhv, fhvhv.
        months: `2019-01..2021-07`, `2019`, `2023-01..` (till now) or `all`.
        table: Table, or schema.table, of the one dataset; each dataset's usual one if none is named.
        jobs: How many to load at once, in a work pool for each of its workers; as many as the cores bear if
            not told.
        reprocess: Which months to load: `missing`, `failed`, `revised`, `new` or `all`.
        newest_first: Whether to begin with the latest month.
        max_failures: After how many failures no other month is begun.
        until: The month at which an open range ends; the present one if none is named.
        work_pool: The work pool of Prefect's whose workers load the months; this process if none is named.
        limit: How many of all workers may write to the database at once.
        options: How each is loaded.

    Returns:
        What has become of each month, in their order.

    Raises:
        MonthsFailed: some months failed; it has the whole outcome. All others were loaded.
        TaxiIngestError: nothing was begun.
    """
    # All parameters, which are its fields.
    return _load_months(BackfillJob(**locals()))


def _load_months(job: BackfillJob) -> BackfillOutcome:
    began = time.monotonic()
    named = f"backfill {' '.join(job.datasets)} {job.months}"
    with known_to_down(named), source_opened(job.options.source_block):
        place = chosen_place(job.options.to, job.options.block)
        targets = [target_of(dataset, job.table) for dataset in job.datasets]
        with place.loading_many(targets, job.options.wait):
            # With who loads but one of them each month waits all the same.
            outcome = _planned_and_loaded(replace(job, options=replace(job.options, wait=True)), place, began)
        tell_first(outcome)
        leave(of_several(outcome, "-".join((BACKFILL, *job.datasets))))
        return outcome.checked()


def _planned_and_loaded(job: BackfillJob, place: Place, began: float) -> BackfillOutcome:
    planned = plan(place, job, settings_in_use())
    _announce(planned, job.table, place)
    if job.reprocess == "all":
        job = replace(job, options=replace(job.options, if_loaded="replace"))
    with parent_of_loads(place) if planned.loading else nullcontext():
        results = _loaded(planned.loading, job, place)
    done = {month.name: result for month, result in zip(planned.loading, results, strict=True)}
    return BackfillOutcome(
        months=tuple(_become(month, done, job.table, place) for month in planned.months),
        seconds=round(time.monotonic() - began, 3),
        flow_run_url=own_url(),
        database=place.address,
    )


def _loaded(loading: Sequence[Month], job: BackfillJob, place: Place) -> list[Result | None]:
    if job.work_pool:
        return load_in_pool(loading, job, place)
    loads = [_load(month, job, settings_in_use()) for month in loading]
    cache = job.options.cache
    return load_side_by_side(loads, ingest_month, jobs=job.jobs, cache=cache, max_failures=job.max_failures)


def _announce(planned: Plan, table: str | None, place: Place) -> None:
    """Say what is going to be loaded, and into which tables. Raises DatabaseError where there is no room."""
    check_room(place, planned.loading, settings_in_use())
    caller().on_plan({month.name: month.known_rows for month in planned.loading})
    for dataset in dict.fromkeys(month.dataset for month in planned.loading):
        log_table_name(str(target_of(dataset, table)))


def _load(month: Month, job: BackfillJob, settings: Settings) -> Load:
    table = str(target_of(month.dataset, job.table))
    return Load(
        name=month.name,
        find=lambda: parse_source(month_address(month.dataset, month.month, settings), logins_of(settings)),
        run=lambda: ingest_month(month.dataset, month.month, job.table, job.options),
        failed=lambda error, url: NotLoaded.failed(
            error,
            table=table,
            url=url or likely_url(month, settings),
            dataset=month.dataset,
            month=month.month,
        ),
        about={"dataset": month.dataset, "month": month.month, "table": table},
        tags=frozenset({BACKFILL}),
    )


def _become(month: Month, done: Mapping[str, Result | None], table: str | None, place: Place) -> Result:
    """What has become of a month of the plan."""
    target = target_of(month.dataset, table)
    if month.name in done:
        return done[month.name] or NotLoaded("waiting", str(target), None, month.dataset, month.month)
    if month.load:
        return Outcome.of(LoadResult(month.load, skipped=True), target, place, 0, None)
    status: Literal["unpublished", "waiting"] = "unpublished" if month.state == "unpublished" else "waiting"
    return NotLoaded(status, str(target), None, month.dataset, month.month)
