"""The catalogue against the ledger: what has become of each month of a dataset.

Backfill, status and schedule are three views of this one comparison.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, TypeVar

from taxi_ingest import tlc
from taxi_ingest.errors import DatabaseError, SourceError
from taxi_ingest.load import Attempt, Database, LoadRecord, Pace, Target, coverage, free_bytes
from taxi_ingest.settings import Settings
from taxi_ingest.sources import Found, logins_of, parse_source
from taxi_ingest.sources.months import month_address

T = TypeVar("T")
Result = TypeVar("Result")

State = Literal["loaded", "short", "revised", "failed", "missing", "unpublished"]

Reprocess = Literal["missing", "failed", "revised", "all"]
"""Which months to load: all that the table has not, those whose last try failed, those whose file has changed
since, or every one anew."""

_LAG_MONTHS = 2
"""TLC publishes a month about two months later
(https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page)."""

_REQUESTS_AT_ONCE = 8

_SPARE_BYTES = 500_000_000
"""What is left to others of a disk that a plan may fill."""

_ROW_OVERHEAD_BYTES = 36
_VALUE_BYTES = 7


@dataclass(frozen=True)
class Month:
    """A month of a dataset, and what has become of it in one table."""

    dataset: str
    month: str
    """`2024-01`."""
    state: State
    load: LoadRecord | None = None
    """Its latest load whose rows are in the table."""
    attempt: Attempt | None = None
    """Its last try, where that failed."""

    @property
    def known_rows(self) -> int | None:
        """How many rows TLC's file of it is known to have."""
        return tlc.known_rows(self.dataset, self.month, "parquet") or tlc.known_rows(
            self.dataset, self.month, "csv"
        )


def compare(
    database: Database, target: Target, dataset: str, months: Sequence[str], today: date
) -> list[Month]:
    """What the ledger says of these months (`2024-01`) of a dataset; no file is asked for.

    A month that TLC has hardly published yet is `unpublished`.
    """
    known = coverage(database, target, dataset, months)
    lately = _months_before(today, _LAG_MONTHS)

    def state_of(month: str) -> State:
        if load := known.loads.get(month):
            return "short" if load.verdict == "short" else "loaded"
        if month in known.attempts:
            return "failed"
        return "unpublished" if month > lately else "missing"

    return [
        Month(dataset, month, state_of(month), known.loads.get(month), known.attempts.get(month))
        for month in months
    ]


def _months_before(today: date, number: int) -> str:
    months = today.year * 12 + today.month - 1 - number
    return f"{months // 12}-{months % 12 + 1:02}"


def with_revisions(months: Sequence[Month], settings: Settings) -> list[Month]:
    """The same; those that are loaded, and whose file has surely changed since, are `revised`."""

    def looked_at(month: Month) -> Month:
        if month.load and is_revised(month.load, settings):
            return replace(month, state="revised")
        return month

    return _side_by_side(looked_at, months)


def is_revised(load: LoadRecord, settings: Settings) -> bool:
    """Whether a load's file surely is another now, as a conditional request tells."""
    try:
        return parse_source(load.source, logins_of(settings)).is_changed(load.sha256, load.validators)
    except SourceError:
        return False


def published(months: Sequence[Month], settings: Settings) -> list[Month]:
    """The months of an open range, in order: those after the last one that has a file are `unpublished`."""
    end = _end_of_published(months, settings)
    return [*named(months[:end]), *(replace(month, state="unpublished") for month in months[end:])]


def named(months: Sequence[Month]) -> list[Month]:
    """Months that somebody has named, so that they are to be there: none is `unpublished`."""
    return [replace(month, state="missing") if month.state == "unpublished" else month for month in months]


def _end_of_published(months: Sequence[Month], settings: Settings) -> int:
    def is_there(month: Month) -> bool:
        return month.load is not None or _file(month, settings) is not None

    for end in range(len(months), 0, -_REQUESTS_AT_ONCE):
        there = _side_by_side(is_there, months[max(0, end - _REQUESTS_AT_ONCE) : end])
        if any(there):
            return end - there[::-1].index(True)
    return 0


def _file(month: Month, settings: Settings) -> Found | None:
    address = month_address(month.dataset, month.month, settings)
    return parse_source(address, logins_of(settings)).find()


def _side_by_side(function: Callable[[T], Result], values: Sequence[T]) -> list[Result]:
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(function, values))


def to_load(months: Sequence[Month], reprocess: Reprocess) -> list[Month]:
    """Those of the months that are to be loaded."""
    return [month for month in months if month.state in _REPROCESSED[reprocess]]


_REPROCESSED: Mapping[Reprocess, tuple[State, ...]] = {
    "missing": ("missing", "failed"),
    "failed": ("failed",),
    "revised": ("revised",),
    "all": ("missing", "failed", "loaded", "short", "revised"),
}


@dataclass(frozen=True)
class Estimate:
    """What loading a month takes; None for what can't be known."""

    month: Month
    rows: int | None
    file_bytes: int | None
    table_bytes: int | None
    seconds: float | None


def estimates(
    months: Sequence[Month], settings: Settings, paces: Mapping[str, Pace | None]
) -> list[Estimate]:
    """What each month would take, by its known rows, its file's length and the pace of earlier loads."""
    files = _side_by_side(lambda month: _file(month, settings), months)
    return [
        _estimate(month, file.bytes if file else None, paces[month.dataset])
        for month, file in zip(months, files, strict=True)
    ]


def _estimate(month: Month, file_bytes: int | None, pace: Pace | None) -> Estimate:
    rows = month.known_rows
    if rows is None and file_bytes and pace:
        rows = round(file_bytes / pace.file_bytes_per_row)
    if rows is None:
        return Estimate(month, None, file_bytes, None, None)
    width = pace.table_bytes_per_row if pace else _usual_row_bytes(month.dataset)
    seconds = rows / pace.rows_per_second if pace else None
    return Estimate(month, rows, file_bytes, round(rows * width), seconds)


def _usual_row_bytes(dataset: str) -> int:
    return _ROW_OVERHEAD_BYTES + _VALUE_BYTES * len(tlc.dataset_named(dataset).columns)


def check_room(database: Database, planned: Sequence[Estimate]) -> None:
    """Raise DatabaseError where the months surely don't fit on the disk of a server on this machine."""
    needed = sum(estimate.table_bytes or 0 for estimate in planned)
    free = free_bytes(database)
    if free is not None and needed > free - _SPARE_BYTES:
        raise DatabaseError(
            f"These {len(planned)} months need about {needed / 1e9:,.1f} GB; the database's disk has "
            f"{free / 1e9:,.1f} GB left.",
            "Free disk space, or name fewer months.",
        )
