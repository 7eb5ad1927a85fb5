"""The flow `backfill`: each month of a range that the ledger lacks, by a child run of its own."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import date
from typing import Literal

from prefect.runtime import flow_run

from taxi_ingest.errors import UsageError
from taxi_ingest.flows.api import caller, settings_in_use
from taxi_ingest.flows.ingest import chosen_database, ingest_month, log_table_name
from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded, Outcome
from taxi_ingest.flows.pool import BACKFILL, load_in_pool
from taxi_ingest.flows.runs import known_to_down, own_url, parent_of_loads, tag_run, tell_first, tied_flow
from taxi_ingest.flows.side_by_side import Load, Result, check_numbers, load_side_by_side
from taxi_ingest.load import Database, LoadResult
from taxi_ingest.months import Month, Plan, check_room, plan, target_of
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import DEFAULT_OPTIONS, LoadOptions, Reprocess
from taxi_ingest.sources import logins_of, parse_source
from taxi_ingest.sources.months import month_address
from taxi_ingest.tlc import first_day


def _name() -> str:
    parameters = flow_run.get_parameters()
    return f"backfill {' '.join(parameters['datasets'])} {parameters['months']}"


@tied_flow(name="backfill", flow_run_name=_name)
def backfill(
    datasets: list[str],
    months: str,
    table: str | None = None,
    jobs: int | None = None,
    reprocess: Reprocess = "missing",
    newest_first: bool = False,
    max_failures: int | None = None,
    until: str | None = None,
    work_pool: str | None = None,
    limit: int | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
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

    Raises:
        MonthsFailed: some months failed; it has the whole outcome. All others were loaded.
        TaxiIngestError: nothing was begun.
    """
    check_numbers(jobs, max_failures, limit)
    if limit and not work_pool:
        raise UsageError(
            "A limit is for the workers of a work pool.", "Name one, or say by jobs how many to load at once."
        )
    began, settings = time.monotonic(), settings_in_use()
    tag_run(*datasets, BACKFILL)
    with known_to_down(f"backfill {' '.join(datasets)} {months}"):
        database = chosen_database(options.block)
        planned = plan(
            database,
            datasets,
            months,
            table=table,
            reprocess=reprocess,
            newest_first=newest_first,
            settings=settings,
            today=first_day(until) if until else date.today(),
        )
        _announce(planned, table, database)
        options = replace(options, if_loaded="replace") if reprocess == "all" else options
        with parent_of_loads(database) if planned.loading else nullcontext():
            if work_pool:
                results = load_in_pool(
                    planned.loading,
                    work_pool,
                    jobs=jobs,
                    limit=limit,
                    table=table,
                    options=options,
                    database=database,
                    max_failures=max_failures,
                )
            else:
                loads = [_load(month, table, options, settings) for month in planned.loading]
                results = load_side_by_side(loads, jobs=jobs, cache=options.cache, max_failures=max_failures)
        done = {month.name: result for month, result in zip(planned.loading, results, strict=True)}
        outcome = BackfillOutcome(
            months=tuple(_become(month, done, table, database) for month in planned.months),
            seconds=round(time.monotonic() - began, 3),
            flow_run_url=own_url(),
            database=database.address,
        )
        return tell_first(outcome).checked()


def _announce(planned: Plan, table: str | None, database: Database) -> None:
    """Say what is going to be loaded, and into which tables. Raises DatabaseError where there is no room."""
    check_room(database, planned.loading, settings_in_use())
    caller().on_plan({month.name: month.known_rows for month in planned.loading})
    for dataset in dict.fromkeys(month.dataset for month in planned.loading):
        log_table_name(str(target_of(dataset, table)))


def _load(month: Month, table: str | None, options: LoadOptions, settings: Settings) -> Load:
    return Load(
        name=month.name,
        find=lambda: parse_source(month_address(month.dataset, month.month, settings), logins_of(settings)),
        run=lambda: ingest_month(month.dataset, month.month, table, options),
        failed=lambda error: NotLoaded.failed(
            error,
            table=str(target_of(month.dataset, table)),
            url=None,
            dataset=month.dataset,
            month=month.month,
        ),
        tags=frozenset({month.dataset, month.month, BACKFILL}),
    )


def _become(month: Month, done: Mapping[str, Result | None], table: str | None, database: Database) -> Result:
    """What has become of a month of the plan."""
    target = target_of(month.dataset, table)
    if month.name in done:
        return done[month.name] or NotLoaded("waiting", str(target), None, month.dataset, month.month)
    if month.load:
        return Outcome.of(LoadResult(month.load, skipped=True), target, database, time.monotonic(), None)
    status: Literal["unpublished", "waiting"] = "unpublished" if month.state == "unpublished" else "waiting"
    return NotLoaded(status, str(target), None, month.dataset, month.month)
