"""The catalogue against the ledger: what has become of each month of a dataset.

Backfill, status and schedule are three views of this one comparison.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, TypeVar, get_args

from taxi_ingest import tlc
from taxi_ingest.errors import DatabaseError, SourceError, UsageError, without_login
from taxi_ingest.load import Attempt, Disagreement, LoadRecord, Pace, Target, parse_target
from taxi_ingest.places import Place, place_at
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import BackfillJob, Reprocess
from taxi_ingest.sources import Found, Source, Validators, logins_of, parse_source
from taxi_ingest.sources.months import month_address, month_sources

T = TypeVar("T")
Result = TypeVar("Result")

State = Literal["loaded", "short", "revised", "inconsistent", "failed", "missing", "unpublished"]

_LAG_MONTHS = 2
"""TLC publishes a month about two months later
(https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page)."""

_LONGEST_LAG_MONTHS = 6
"""What is not there after so many months is looked for in the wrong place."""

_REQUESTS_AT_ONCE = 8

_SPARE_BYTES = 500_000_000
"""What is left to others of a disk that a plan may fill."""

_LEAST_FILE_BYTES_A_ROW = 5
"""TLC's smallest files, Parquet of fhv, have 8 to 10."""

_ROW_OVERHEAD_BYTES = 36
_VALUE_BYTES = 5
"""About what a row takes before anything was loaded to tell: generated yellow and green months take 157 and
166 bytes a row, of whose 26 and 25 columns each era leaves some empty."""


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
    """Its last try, where that failed; also that of loading anew a month that the table has."""
    disagreements: tuple[Disagreement, ...] = ()
    """What the table has of it otherwise than the ledger says, for which it is `inconsistent`."""

    @property
    def name(self) -> str:
        """`yellow 2024-01`."""
        return f"{self.dataset} {self.month}"

    @property
    def is_begun(self) -> bool:
        """Whether anything has become of it."""
        return bool(self.load or self.attempt or self.disagreements)

    @property
    def known_rows(self) -> int | None:
        """How many rows TLC's file of it is known to have."""
        return tlc.known_rows(self.dataset, self.month, "parquet") or tlc.known_rows(
            self.dataset, self.month, "csv"
        )


def compare(place: Place, target: Target, dataset: str, months: Sequence[str], today: date) -> list[Month]:
    """What the ledger says of these months (`2024-01`) of a dataset; no file is asked for.

    A month that TLC has hardly published yet is `unpublished`.
    """
    known = place.coverage(target, dataset, months)
    lately = tlc.months_before(today, _LAG_MONTHS)

    def state_of(month: str) -> State:
        if month in known.disagreements:
            return "inconsistent"
        if load := known.loads.get(month):
            return "short" if load.verdict == "short" else "loaded"
        if month in known.attempts:
            return "failed"
        return "unpublished" if month > lately else "missing"

    return [
        Month(
            dataset,
            month,
            state_of(month),
            known.loads.get(month),
            known.attempts.get(month),
            tuple(known.disagreements.get(month, ())),
        )
        for month in months
    ]


def with_revisions(months: Sequence[Month], settings: Settings) -> list[Month]:
    """The same; those that are loaded, and whose file has surely changed since, are `revised`."""

    def looked_at(month: Month) -> Month:
        if month.load and not month.disagreements and is_revised(month.load, settings):
            return replace(month, state="revised")
        return month

    return _side_by_side(looked_at, months)


def is_revised(load: LoadRecord, settings: Settings) -> bool:
    """Whether a month's file surely is another now.

    It is looked at where the catalogue has a file of its name now; where there is none, where it once lay.
    """
    try:
        before = parse_source(load.source, logins_of(settings))
        now = _catalogued(load, before, settings)
        found = now.find() if now.url != before.url else None
        if found is None or found.bytes is None:
            return before.is_changed(load.sha256, load.validators)
        # What one server has said of its file tells nothing of another's.
        return found.bytes != load.bytes or now.is_changed(load.sha256, Validators())
    except (SourceError, UsageError):
        # An address may be of a kind that is not known here.
        return False


def _catalogued(load: LoadRecord, before: Source, settings: Settings) -> Source:
    """Where the file of a load lies now, by the catalogue; where it lay if that has another format."""
    places = month_sources(load.dataset or "", load.month or "", settings)
    return next((place for place in places if place.name == before.name), before)


@dataclass(frozen=True)
class Calendar:
    """All months of a dataset, and what has become of them in one table."""

    dataset: str
    target: Target
    months: tuple[Month, ...]

    @property
    def counts(self) -> dict[State, int]:
        """How many months are in each state."""
        found = Counter(month.state for month in self.months)
        return {state: found[state] for state in get_args(State)}

    @property
    def rows_loaded(self) -> int:
        """How many rows the latest load of each month has put into the table."""
        return sum(month.load.rows_loaded for month in self.months if month.load)

    @property
    def failed(self) -> list[Month]:
        """Those whose last try failed, and that the table has not."""
        return [month for month in self.months if month.state == "failed"]


def calendars(place: Place, datasets: Sequence[str], table: str | None, today: date) -> list[Calendar]:
    """All months of each dataset in each table that has loads of it, or whose last try of one failed.

    Only of these datasets and of this table, where any are named; a dataset that is named and has none gets
    the calendar of its usual table. Raises UsageError for what is no dataset, or has no months.
    """
    wanted = datasets or [dataset.name for dataset in tlc.datasets() if dataset.kind == "trips"]
    held = place.holders()
    found = []
    for dataset in dict.fromkeys(wanted):
        targets = _targets(dataset, table, held)
        every = [_calendar(place, tlc.trips_named(dataset), target, today) for target in targets]
        begun = [calendar for calendar in every if any(month.is_begun for month in calendar.months)]
        found += begun or (every[:1] if dataset in datasets else [])
    return found


def _targets(dataset: str, table: str | None, held: Sequence[tuple[str, Target]]) -> list[Target]:
    usual = target_of(dataset, table)
    others = {target for name, target in held if name == dataset and table is None} - {usual}
    return [usual, *sorted(others, key=str)]


def _calendar(place: Place, dataset: tlc.Dataset, target: Target, today: date) -> Calendar:
    every = tlc.parse_range("all", dataset, today).months
    return Calendar(dataset.name, target, tuple(compare(place, target, dataset.name, every, today)))


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


def likely_url(month: Month, settings: Settings) -> str:
    """Where a month's file would be looked for first."""
    return month_sources(month.dataset, month.month, settings)[0].url


def _side_by_side(function: Callable[[T], Result], values: Sequence[T]) -> list[Result]:
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(function, values))


def to_load(months: Sequence[Month], reprocess: Reprocess) -> list[Month]:
    """Those of the months that are to be loaded."""
    return [
        month
        for month in months
        if month.state in _REPROCESSED[reprocess]
        or (reprocess == "failed" and month.attempt and month.state != "unpublished")
    ]


_REPROCESSED: Mapping[Reprocess, tuple[State, ...]] = {
    "missing": ("missing", "failed", "inconsistent"),
    "failed": ("failed", "inconsistent"),
    "revised": ("revised",),
    "new": ("missing", "failed", "inconsistent", "revised"),
    "all": ("missing", "failed", "inconsistent", "loaded", "short", "revised"),
}
"""What is inconsistent is refused, which says how to mend it: to pass it over would be to call it loaded."""


@dataclass(frozen=True)
class Estimate:
    """What loading a month takes; None for what can't be known."""

    month: Month
    rows: int | None
    file_bytes: int | None
    table_bytes: int | None
    seconds: float | None


def estimates(place: Place, months: Sequence[Month], settings: Settings) -> list[Estimate]:
    """What each month would take, by its known rows, its file's length and the pace of earlier loads."""
    paces = paces_of(place, months)
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
    # A mirror may have a part of the month only.
    likely = min(rows, file_bytes // _LEAST_FILE_BYTES_A_ROW) if file_bytes else rows
    width = (pace and pace.table_bytes_per_row) or _usual_row_bytes(month.dataset)
    seconds = likely / pace.rows_per_second if pace and pace.rows_per_second else None
    return Estimate(month, rows, file_bytes, round(likely * width), seconds)


def _usual_row_bytes(dataset: str) -> int:
    return _ROW_OVERHEAD_BYTES + _VALUE_BYTES * len(tlc.dataset_named(dataset).columns)


def check_room(place: Place, months: Sequence[Month], settings: Settings) -> None:
    """Raise DatabaseError where the months surely don't fit on the disk of a server on this machine.

    One that replaces its rows takes no more room in the end.
    """
    free = place.free_bytes()
    if free is None:
        return
    months = [month for month in months if month.load is None]
    paces = paces_of(place, months)
    planned = [_estimate(month, None, paces[month.dataset]) for month in months]
    if _room(planned) > free - _SPARE_BYTES:
        # Before it is said the files are looked at, which takes a request each.
        planned = estimates(place, months, settings)
    needed = _room(planned)
    if needed > free - _SPARE_BYTES:
        raise DatabaseError(
            f"These {len(months)} months need about {needed / 1e9:,.1f} GB; the database's disk has "
            f"{free / 1e9:,.1f} GB left.",
            "Free disk space, or name fewer months.",
        )


def _room(planned: Sequence[Estimate]) -> int:
    return sum(estimate.table_bytes or 0 for estimate in planned)


def paces_of(place: Place, months: Sequence[Month]) -> dict[str, Pace | None]:
    """How fast the datasets of these months were loaded."""
    return {dataset: place.pace(dataset) for dataset in {month.dataset for month in months}}


@dataclass(frozen=True)
class Plan:
    """Which months of a range are to be loaded."""

    months: tuple[Month, ...]
    """All of the range, in order."""
    loading: tuple[Month, ...]
    """Those to be loaded, in the order in which they are."""


def check(job: BackfillJob) -> None:
    """Raise UsageError for what is no dataset, no range of its months, no table of theirs or no place."""
    if job.table is not None:
        parse_target(job.table)
    if job.table is not None and len(set(job.datasets)) > 1:
        raise UsageError("A table holds one dataset.", "Leave --table out, or name one dataset.")
    for name in job.datasets:
        tlc.parse_range(job.months, tlc.trips_named(name), _today(job))
    if job.options.to is not None:
        _check_reprocess(job.reprocess, place_at(job.options.to))


def _check_reprocess(reprocess: Reprocess, place: Place) -> None:
    if reprocess == "failed" and not place.keeps_failures:
        raise UsageError(
            f"What has failed is not known in {place.address}: only what was loaded is.",
            "Leave --reprocess out: all that is missing is loaded then, what has failed, too.",
        )


def _today(job: BackfillJob) -> date:
    """The day on which it is reckoned what may have been published."""
    return tlc.first_day(job.until) if job.until else date.today()


def plan(place: Place, job: BackfillJob, settings: Settings) -> Plan:
    """Compare a range of months with the ledger, and with what is published where its end is open.

    Raises UsageError for what is no dataset or no range, SourceError where no file can be found at all.
    """
    check(job)
    _check_reprocess(job.reprocess, place)
    found = [
        month
        for name in dict.fromkeys(job.datasets)
        for month in _months(place, tlc.trips_named(name), job, settings)
    ]
    if job.reprocess in ("revised", "new"):
        found = with_revisions(found, settings)
    found.sort(key=_order)
    loading = to_load(found, job.reprocess)
    return Plan(tuple(found), tuple(sorted(loading, key=_order, reverse=job.newest_first)))


def _order(month: Month) -> str:
    return month.month


def _months(place: Place, dataset: tlc.Dataset, job: BackfillJob, settings: Settings) -> list[Month]:
    wanted = tlc.parse_range(job.months, dataset, _today(job))
    target = target_of(dataset.name, job.table)
    found = compare(place, target, dataset.name, wanted.months, _today(job))
    if not wanted.open_end:
        return named(found)
    found = published(found, settings)
    late = tlc.months_before(_today(job), _LONGEST_LAG_MONTHS)
    if found[0].state == "unpublished" and found[0].month <= late:
        raise SourceError(
            f"{without_login(settings.tlc_url)} has no file of {dataset.name} from {found[0].month} on.",
            "Check TAXI_INGEST_TLC_URL.",
        )
    return found


def target_of(dataset: str, table: str | None) -> Target:
    """The table that a dataset's months go to: the one that is named, else its usual one."""
    return parse_target(tlc.dataset_named(dataset).table if table is None else table)
