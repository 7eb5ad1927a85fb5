"""The flow `load_new`, which schedules run: what TLC has newly published of a dataset, or revised."""

from datetime import date
from zoneinfo import ZoneInfo

from prefect.runtime import flow_run

from taxi_ingest.flows.backfill import backfill
from taxi_ingest.flows.outcome import BackfillOutcome
from taxi_ingest.flows.runs import tied_flow
from taxi_ingest.settings.job import DEFAULT_OPTIONS, LoadOptions
from taxi_ingest.tlc import dataset_named, months_before, parse_month

NEW_YORK = "America/New_York"
"""The time zone of schedules that name none."""

MONTHS_BACK = 6
"""For how many months a schedule looks for what is new: TLC publishes one two months later, or more."""


def _name() -> str:
    parameters = flow_run.get_parameters()
    return f"{parameters['dataset']} as of {_as_of(parameters['month'], parameters['timezone']):%Y-%m}"


def _as_of(month: str | None, timezone: str) -> date:
    """A day of the month that is given, else the day on which this run was to begin."""
    if month:
        return date.fromisoformat(f"{parse_month(month)}-01")
    begin: date = flow_run.get_scheduled_start_time().astimezone(ZoneInfo(timezone)).date()
    return begin


@tied_flow(name="load-new", flow_run_name=_name)
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
    last = _as_of(month, timezone)
    first = max(months_before(last, months_back - 1), dataset_named(dataset).first_month)
    # One after the other: how many runs there are at once is what the worker's cores bear.
    return backfill(
        [dataset], f"{first}..", table, jobs=1, reprocess="new", until=f"{last:%Y-%m}", options=options
    )
