"""The flow `load_new`, which schedules run: what TLC has newly published of a dataset, or revised."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from prefect.runtime import flow_run

from taxi_ingest.flows.backfill import backfill
from taxi_ingest.flows.ingest import check_target
from taxi_ingest.flows.outcome import BackfillOutcome
from taxi_ingest.flows.runs import tied_flow
from taxi_ingest.settings.job import DEFAULT_OPTIONS, MONTHS_BACK, NEW_YORK, LoadOptions, check_numbers
from taxi_ingest.tlc import first_day, months_before, parse_range, trips_named


def _name() -> str:
    return run_name(flow_run.get_parameters(), flow_run.get_scheduled_start_time())


def run_name(parameters: Mapping[str, Any], begin: datetime) -> str:
    """What a run with these parameters is called that is to begin then: `yellow as of 2024-01`."""
    as_of = _as_of(parameters.get("month"), parameters.get("timezone", NEW_YORK), begin)
    return f"{parameters['dataset']} as of {as_of:%Y-%m}"


def _as_of(month: str | None, timezone: str, begin: datetime) -> date:
    """A day of the month that is given, else the day on which a run is to begin."""
    return first_day(month) if month else begin.astimezone(ZoneInfo(timezone)).date()


def _check(parameters: dict[str, Any]) -> None:
    parse_range(parameters["month"] or "all", trips_named(parameters["dataset"]), date.today())
    check_numbers(parameters["months_back"])
    check_target([parameters["table"] or trips_named(parameters["dataset"]).table], parameters["options"])


@tied_flow(name="load-new", flow_run_name=_name, check=_check)
def load_new(
    dataset: str,
    months_back: int = MONTHS_BACK,
    month: str | None = None,
    timezone: str = NEW_YORK,
    table: str | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> BackfillOutcome:
    """Load what TLC has newly published of a dataset, and what of it TLC has revised since.

    Args:
        dataset: yellow, green, fhv or fhvhv.
        months_back: For how many months, up to this one, that is looked for.
        month: The month up to which, `2024-01`; that in which the run was to begin if none is given.
        timezone: The time zone in which that month is reckoned.
        table: Table, or schema.table; the dataset's usual one if none is named.
        options: How each month is loaded.

    Raises:
        MonthsFailed: some months failed; it has the whole outcome. All others were loaded.
        TaxiIngestError: nothing was begun.
    """
    last = _as_of(month, timezone, flow_run.get_scheduled_start_time())
    first = max(months_before(last, months_back - 1), trips_named(dataset).first_month)
    # One after the other: how many runs there are at once is what the worker's cores bear.
    return backfill(
        [dataset], f"{first}..", table, jobs=1, reprocess="new", until=f"{last:%Y-%m}", options=options
    )
