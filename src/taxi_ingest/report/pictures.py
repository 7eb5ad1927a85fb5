"""What is shown: pictures, each a table of numbers that can also be read as such.

How they are drawn is known to drawing.py and terminal.py alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any, Literal

from taxi_ingest import tlc
from taxi_ingest.load import LoadRecord
from taxi_ingest.report.questions import Bins
from taxi_ingest.transform.quality import ODDITIES

Form = Literal["series", "heat", "bins", "ranking", "loads", "shares", "map"]
Cell = str | int | float | None

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MOST_DAYS, _MOST_WEEKS, _MOST_MONTHS = 400, 260, 600
_MOST_RANKED = 15

_QUALITY = {
    **{name: meaning for name, (meaning, _) in ODDITIES.items()},
    "pickup_in_no_zone": "picked up in no zone",
    "dropoff_in_no_zone": "dropped off in no zone",
}


@dataclass(frozen=True)
class Picture:
    """A table of numbers, and the form in which it is drawn; a row's first cell is its label."""

    name: str
    form: Form
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    numbers: tuple[int, ...] = ()
    """Of a map: the zone of each row."""

    @property
    def values(self) -> list[float]:
        """The first number of each row."""
        return [float(row[1] or 0) for row in self.rows]


@dataclass(frozen=True)
class Window:
    """The days that are shown: from the first to before the last."""

    start: date
    end: date

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment.date() < self.end


Hours = Sequence[tuple[datetime, int]]
"""Each hour that has trips, and how many."""


def window_of(months: Sequence[str], hours: Hours) -> Window | None:
    """The days of these months, or else those that there are; None where there are none."""
    if months:
        start, last = (date.fromisoformat(f"{month}-01") for month in (min(months), max(months)))
        return Window(start, _next_month(last))
    if not hours:
        return None
    return Window(hours[0][0].date(), hours[-1][0].date() + timedelta(days=1))


def series(hours: Hours, window: Window, what: str) -> Picture:
    """How many a day; a week, a month or a year, where there are many of them."""
    days = (window.end - window.start).days
    limits = {"day": _MOST_DAYS, "week": _MOST_WEEKS * 7, "month": _MOST_MONTHS * 30}
    unit = next((unit for unit, most in limits.items() if days <= most), "year")
    counts = dict.fromkeys(_steps(window, _STARTS[unit]), 0)
    for hour, trips in hours:
        if hour in window:
            counts[_STARTS[unit](hour.date())] += trips
    outside = sum(trips for hour, trips in hours if hour not in window)
    rows = tuple((str(day), trips) for day, trips in counts.items())
    note = f"Not shown, as they lie before or after these days: {outside:,}." if outside else ""
    return Picture("days", "series", f"{what} per {unit}", (unit, what.lower()), rows, note)


_STARTS: Mapping[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "year": lambda day: day.replace(month=1, day=1),
}


def _steps(window: Window, start_of: Callable[[date], date]) -> Iterator[date]:
    """The beginnings of all days, weeks, months or years of the window."""
    day = start_of(window.start)
    while day < window.end:
        yield day
        following = day + timedelta(days=1)
        while start_of(following) == day:
            following += timedelta(days=1)
        day = following


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def heat(hours: Hours, window: Window, what: str) -> Picture:
    """How many in each hour of the week."""
    counts: Counter[tuple[int, int]] = Counter()
    for hour, trips in hours:
        if hour in window:
            counts[hour.weekday(), hour.hour] += trips
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (f"{hour:02}:00", *(counts[weekday, hour] for weekday in range(len(WEEKDAYS)))) for hour in range(24)
    )
    return Picture(
        "hours", "heat", f"{what} by hour and weekday", ("hour", *WEEKDAYS), rows, _extremes(counts)
    )


def _extremes(counts: Mapping[tuple[int, int], int]) -> str:
    """The busiest hour of the week; the quietest, too, where each has something."""
    if not counts:
        return ""
    ordered = sorted(counts, key=counts.__getitem__)
    quietest, busiest = (f"{WEEKDAYS[weekday]} {hour:02}:00" for weekday, hour in (ordered[0], ordered[-1]))
    everywhere = len(counts) == 24 * len(WEEKDAYS)
    return f"Busiest: {busiest}. Quietest: {quietest}." if everywhere else f"Busiest: {busiest}."


def binned(bins: Bins, found: Sequence[Mapping[str, Any]]) -> Picture:
    """How many have values of each bin."""
    counts = {row["bin"]: int(row["trips"]) for row in found}
    below = counts.pop(-1, 0)
    edges = [bins.width * number for number in range(bins.number + 1)]
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    labels.append(f"{edges[-1]:g} and more")
    rows = tuple((label, counts.get(number, 0)) for number, label in enumerate(labels))
    note = " ".join(
        [
            *([f"The median is {_median(rows)} {bins.unit}."] if sum(counts.values()) else []),
            *([f"{below:,} are below zero and not shown."] if below else []),
        ]
    )
    return Picture(bins.name, "bins", bins.title, (bins.unit, "trips"), rows, note)


def _median(rows: Sequence[tuple[str, int]]) -> str:
    """The bin that has it."""
    passed = accumulate(trips for _, trips in rows)
    half = sum(trips for _, trips in rows) / 2
    return next(label for (label, _), until in zip(rows, passed, strict=True) if until >= half)


def ranking(name: str, title: str, heading: str, counts: Mapping[str, int]) -> Picture:
    """The most frequent, and what the others are together."""
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    rows, rest = ordered[:_MOST_RANKED], ordered[_MOST_RANKED:]
    note = f"{len(rest):,} others have {sum(trips for _, trips in rest):,} together." if rest else ""
    return Picture(name, "ranking", title, (heading, "trips"), tuple(rows), note)


def meanings(column: str) -> dict[str, str]:
    """What the codes of a column mean, numbers and the texts of earlier years alike."""
    codes = [code for code in tlc.codes() if code.column.lower() in (column, f"{column}_name")]
    numbers = {code.value: code.meaning for code in codes if code.number is None}
    return {str(code.value): numbers.get(code.number or "", code.meaning) for code in codes}


def zone_map(counts: Mapping[int, int], names: Mapping[int, str]) -> Picture:
    """How many were picked up in each zone."""
    ordered = sorted(counts.items(), key=lambda each: -each[1])
    rows = tuple((names.get(zone, f"Zone {zone}"), trips) for zone, trips in ordered)
    return Picture(
        "map", "map", "Where trips begin", ("zone", "trips"), rows, numbers=tuple(zone for zone, _ in ordered)
    )


def loads_picture(loads: Sequence[LoadRecord]) -> Picture:
    """The rows of each load, and how many TLC's file is known to have."""
    rows = tuple((label_of(load), load.rows_read, load.known_rows) for load in loads)
    short = [load for load in loads if load.verdict == "short"]
    note = f"{len(short)} of {len(loads)} have fewer than TLC's file." if short else ""
    if not any(load.known_rows for load in loads):
        note = "How many rows TLC's files have is not known of any of them."
    return Picture("loads", "loads", "Rows of each load", ("load", "rows read", "rows known"), rows, note)


def quality_picture(loads: Sequence[LoadRecord]) -> Picture | None:
    """How many rows in a hundred are odd, by kind; None where none is."""
    kinds = {kind: _QUALITY.get(kind, kind.replace("_", " ")) for load in loads for kind in load.quality}
    kinds = {kind: name for kind, name in kinds.items() if any(load.quality.get(kind) for load in loads)}
    rejected = any(load.rows_rejected for load in loads)
    if not kinds and not rejected:
        return None

    def shares(load: LoadRecord) -> Iterator[float]:
        for kind in kinds:
            yield _percent(load.quality.get(kind, 0), load.rows_read)
        if rejected:
            yield _percent(load.rows_rejected, load.rows_read)

    return Picture(
        "quality",
        "shares",
        "Odd rows, per hundred",
        ("load", *kinds.values(), *(["rejected"] if rejected else [])),
        tuple((label_of(load), *shares(load)) for load in loads),
        "All of them are loaded, but for those rejected." if rejected else "All of them are loaded.",
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


def label_of(load: LoadRecord) -> str:
    """A load, for people."""
    return load.month or f"load {load.load_id}"
