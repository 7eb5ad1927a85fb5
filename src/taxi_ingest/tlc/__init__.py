"""The catalogue: the datasets of the Taxi & Limousine Commission, their months, and each era's names.

The facts are rows of the tables beside this file. A new era adds rows or names there, not code here.

datasets.csv: a dataset's kind (trips by month, or one lookup table), usual table and first month.
rowcounts.csv: how many rows a published file is known to have; CSV and Parquet differ.
values.csv: what the text codes mean that are carried as published, and the number that later files have.
codes.csv: what the codes mean that are numbers (TLC's data dictionaries of 2025-03).
columns.csv, from TLC's data dictionaries and the headers of all published files:

    key        `yes` where every file of the dataset has the column: what a file is recognised by
    also       other eras' names for it, in lower case
    only_with  `also` holds only in files that have this column too (2009-2014 called a text
               `payment_type`, and only those years have `surcharge`)
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

from taxi_ingest.errors import UsageError, nearest

TLC_URL = "https://d37ci6vzurychx.cloudfront.net/trip-data"
"""Under this address TLC publishes `<dataset>_tripdata_<month>.parquet`
(https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page)."""

ZONES_URL = "https://d37ci6vzurychx.cloudfront.net/misc/taxi_zone_lookup.csv"
ZONES_FILES = ("taxi_zone_lookup.csv", "taxi+_zone_lookup.csv")
"""What the zone lookup is called now, and was until 2023."""

SHAPES_URL = "https://d37ci6vzurychx.cloudfront.net/misc/taxi_zones.zip"
SHAPES_FILES = ("taxi_zones.zip", "taxi_zones.geojson")
"""The zones' outlines: TLC's shapefile, in feet of New York's state plane, or the same in degrees."""

_FORMATS = ("parquet", "csv.gz", "csv")

MONTH_PATTERN = r"\d{4}-(0[1-9]|1[0-2])"
"""A month as it is written here, `2024-01`."""

_MONTH = re.compile(MONTH_PATTERN)
_YEAR = re.compile(r"\d{4}")
_RANGE = re.compile(r"all|{0}(\.\.({0})?)?".format(rf"({MONTH_PATTERN}|\d{{4}})"))
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED_MONTH = rf"(?P<month>\d{{1,2}}|({'|'.join(_MONTH_NAMES)})[a-z]*)"
_NEARLY_MONTH = (
    re.compile(rf"(?P<year>\d{{4}})[-_/., ]*{_NAMED_MONTH}([-_/. ]\d{{1,2}})?"),
    re.compile(rf"{_NAMED_MONTH}[-_/., ]+(?P<year>\d{{4}})"),
)
_NEARLY_DOTS = re.compile(
    r"\s*(?:\.{3,}|…|[:,–—~]|\bto\b|\.\.)\s*|\s+-\s+|(?<=\d{4}-\d\d)-(?=\d{4})|(?<=^\d{4})-(?=\d{4}$)"
)
"""What stands between two months of a range where `..` should."""
_FILE_NAME = re.compile(
    r"(?P<dataset>yellow|green|fhvhv|fhv)_tripdata_(?P<month>\d{4}-(?:0[1-9]|1[0-2]))(?!\d)"
)


@dataclass(frozen=True)
class Column:
    """A column of a dataset's canonical schema: TLC's present name, its Arrow type's name, its meaning."""

    name: str
    snake: str
    type: str
    meaning: str
    key: bool
    also: frozenset[str]
    only_with: str | None

    def claims(self, header_name: str, header: frozenset[str]) -> bool:
        """Whether a file with these (normalised) names means this column by `header_name`."""
        if self.only_with and self.only_with not in header:
            return header_name == self.name.lower()
        return header_name == self.name.lower() or header_name in self.also or header_name == self.snake


@dataclass(frozen=True)
class Dataset:
    """One of TLC's datasets and its canonical columns, in the order of the table."""

    name: str
    columns: tuple[Column, ...]
    kind: str
    """`trips`: a file a month. `lookup`: one small file, whose first column is its key."""
    table: str
    """The table that its files go to if no other is named."""
    first_month: str
    """`2009-01`; all later ones exist, up to about two months ago. Empty for a lookup."""

    def column_of(self, header_name: str, header: frozenset[str]) -> Column | None:
        """The column that a file's name stands for; one that holds only in this era goes first."""
        claims = [column for column in self.columns if column.claims(header_name, header)]
        return max(claims, key=lambda column: column.only_with in header, default=None)

    def matches(self, header: frozenset[str]) -> int:
        """How many names of a file are columns of this dataset; 0 where a key column is missing."""
        columns = [self.column_of(name, header) for name in header]
        if not all(column in columns for column in self.columns if column.key):
            return 0
        return sum(column is not None for column in columns)


@dataclass(frozen=True)
class FileName:
    """What the name of a file says about it; a hint, since files are misnamed."""

    dataset: str | None
    month: str | None


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of a CSV beside this file."""
    with resources.files("taxi_ingest.tlc").joinpath(name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def datasets() -> tuple[Dataset, ...]:
    """All datasets, from `datasets.csv` and `columns.csv`."""
    columns = read_table("columns.csv")
    return tuple(
        Dataset(
            name=row["dataset"],
            columns=tuple(_column(column) for column in columns if column["dataset"] == row["dataset"]),
            kind=row["kind"],
            table=row["table"],
            first_month=row["first_month"],
        )
        for row in read_table("datasets.csv")
    )


def dataset_named(name: str) -> Dataset:
    """The dataset of a name. Raises UsageError where there is none."""
    return _named(name, datasets())


def trips_named(name: str) -> Dataset:
    """The dataset of a name, which has months. Raises UsageError where there is none."""
    if name in (dataset.name for dataset in datasets() if dataset.kind == "lookup"):
        raise UsageError(f"{name} has no months.", "`taxi-ingest zones` loads the taxi zones.")
    return _named(name, [dataset for dataset in datasets() if dataset.kind == "trips"])


def _named(name: str, among: Sequence[Dataset]) -> Dataset:
    for dataset in among:
        if dataset.name == name:
            return dataset
    known = [dataset.name for dataset in among]
    bare = name.strip().lower()
    near = next((dataset.name for dataset in among if dataset.table == bare), None)
    near = near or _ALSO_CALLED.get(bare) or nearest(bare, known)
    raise UsageError(
        f"TLC has no dataset {name!r}.",
        f"Did you mean {near}? There are {', '.join(known)}."
        if near
        else f"Choose one of {', '.join(known)}.",
    )


_ALSO_CALLED = {"hvfhv": "fhvhv", "hvfhs": "fhvhv"}
"""What others call a dataset: TLC itself speaks of high-volume for-hire services."""


def parse_month(text: str) -> str:
    """A month as it is written here, `2024-01`. Raises UsageError for anything else, with the near miss."""
    if _MONTH.fullmatch(text):
        return text
    near = near_month(text)
    raise UsageError(f"{text!r} is no month.", f"Did you mean {near}?" if near else "Write it like 2024-01.")


def near_month(text: str) -> str | None:
    """The month that was meant by `2024/1`, `202401`, `01/2024` or `Jan 2024`; None where it is none."""
    for pattern in _NEARLY_MONTH:
        if found := pattern.fullmatch(text.strip().lower()):
            name = found["month"]
            number = name if name.isdigit() else str(_MONTH_NAMES.index(name[:3]) + 1)
            month = f"{found['year']}-{number:0>2}"
            return month if _MONTH.fullmatch(month) else None
    return None


def first_day(month: str) -> date:
    """The first day of a month, `2024-01`. Raises UsageError for what is none."""
    return date.fromisoformat(f"{parse_month(month)}-01")


def addresses(dataset: Dataset, month: str, base_url: str, today: date) -> tuple[str, ...]:
    """Where a month may lie under a base URL, the likeliest first.

    Raises UsageError for what is no month, and for one before the dataset's first or yet to come.
    """
    if not dataset.first_month <= parse_month(month) <= f"{today:%Y-%m}":
        raise no_such_trips(dataset, month)
    stem = f"{base_url.rstrip('/')}/{dataset.name}_tripdata_{month}"
    return tuple(f"{stem}.{format}" for format in _FORMATS)


@dataclass(frozen=True)
class MonthRange:
    """Some months of a dataset, in order."""

    months: tuple[str, ...]
    open_end: bool
    """Whether its last months are those that there are, and need not be published yet."""


def parse_range(text: str, dataset: Dataset, today: date) -> MonthRange:
    """The months that `2019-01..2021-07`, `2019-01`, `2019..2021`, `2019`, `2023-01..` or `all` stand for.

    A year stands for those of its months that the dataset has. Raises UsageError for what is no range, one
    that runs backwards, and months that are named but before the dataset's first or yet to come.
    """
    now = f"{today:%Y-%m}"
    text = text.strip()
    check_range(text)
    first_text, dots, last_text = ("", "..", "") if text == "all" else text.partition("..")
    first = _first_month(first_text, dataset) if first_text else dataset.first_month
    last = now if dots and not last_text else _last_month(last_text or first_text, now)
    if last < first:
        raise UsageError(f"{text} ends before it begins.", _RANGE_HINT)
    if first < dataset.first_month or last > now:
        raise no_such_trips(dataset, first if first < dataset.first_month else last)
    named = _MONTH.fullmatch(last_text or first_text) if last_text or not dots else None
    return MonthRange(_months_between(first, last), not named and last >= f"{today.year - 1}-12")


def check_range(text: str) -> None:
    """Raise UsageError for what is no range of months, whichever a dataset has; with the near miss."""
    if not _RANGE.fullmatch(text):
        near = near_range(text) or near_month(text)
        hint = f"Did you mean {near}?" if near else _RANGE_HINT
        raise UsageError(f"{text!r} is no month and no range of months.", hint)


_RANGE_HINT = "Write 2019-01..2021-07, 2019-01, 2019, 2019..2021, 2023-01.. (till now) or all."


def _first_month(text: str, dataset: Dataset) -> str:
    if _YEAR.fullmatch(text):
        within = f"{text}-01" <= dataset.first_month <= f"{text}-12"
        return dataset.first_month if within else f"{text}-01"
    return text


def _last_month(text: str, now: str) -> str:
    if _YEAR.fullmatch(text):
        return now if text == now[:4] else f"{text}-12"
    return text


def near_range(text: str) -> str | None:
    """The range that was meant by `2019-01 - 2021-07`, `2019-01:2021-07` and the like; None if none was."""
    bounds = [_near_bound(part) for part in _NEARLY_DOTS.split(text.strip())]
    return f"{bounds[0]}..{bounds[1]}" if len(bounds) == 2 and all(bounds) else None


def _near_bound(text: str) -> str | None:
    return text if _YEAR.fullmatch(text) or _MONTH.fullmatch(text) else near_month(text)


def _months_between(first: str, last: str) -> tuple[str, ...]:
    numbers = range(_month_number(first), _month_number(last) + 1)
    return tuple(f"{number // 12}-{number % 12 + 1:02}" for number in numbers)


def months_before(today: date, number: int) -> str:
    """The month that lies so many before that of a day."""
    months = today.year * 12 + today.month - 1 - number
    return f"{months // 12}-{months % 12 + 1:02}"


def _month_number(month: str) -> int:
    year, _, number = month.partition("-")
    return int(year) * 12 + int(number) - 1


def no_such_trips(dataset: Dataset, month: str) -> UsageError:
    """The error for a month that the dataset does not have."""
    return UsageError(
        f"TLC has no {dataset.name} trips of {month}.",
        f"They begin in {dataset.first_month} and end now.",
    )


def coded_values(dataset: str) -> list[tuple[str, str, str]]:
    """Column, value and meaning of each text code of a dataset; none of them is ever translated."""
    rows = read_table("values.csv")
    return [(row["column"], row["value"], row["meaning"]) for row in rows if row["dataset"] == dataset]


@dataclass(frozen=True)
class Code:
    """What a value of a column (by its snake_case name) means."""

    column: str
    value: int | str
    meaning: str
    number: int | None = None
    """What today's files have in the place of a text of earlier years."""


def codes() -> list[Code]:
    """All codes of trips, numbers and texts."""
    numbers = [Code(row["column"], int(row["code"]), row["meaning"]) for row in read_table("codes.csv")]
    texts = [
        Code(row["column"], row["value"], row["meaning"], int(row["code"]) if row["code"] else None)
        for row in read_table("values.csv")
    ]
    return numbers + texts


def known_rows(dataset: str | None, month: str | None, format: str) -> int | None:
    """How many rows TLC's file of a month is known to have, as `csv` (also packed: `csv.gz`) or
    `parquet`; None: not known."""
    return _known_rows().get((dataset or "", month or "", format.partition(".")[0]))


@cache
def _known_rows() -> dict[tuple[str, str, str], int]:
    rows = read_table("rowcounts.csv")
    return {(row["dataset"], row["month"], row["format"]): int(row["rows"]) for row in rows}


def _column(row: dict[str, str]) -> Column:
    return Column(
        name=row["name"],
        snake=row["snake"],
        type=row["type"],
        meaning=row["meaning"],
        key=row["key"] == "yes",
        also=frozenset(row["also"].split()),
        only_with=row["only_with"] or None,
    )


def normalise(header_name: str) -> str:
    """A name as eras differ on it least: 2014 put blanks before it, 2013 one behind, case varies."""
    return header_name.strip().lower()


def recognise(header: Iterable[str]) -> Dataset | None:
    """The dataset whose columns these are, or None for a file that is not TLC's."""
    names = frozenset(map(normalise, header))
    best = max(datasets(), key=lambda dataset: dataset.matches(names))
    return best if best.matches(names) else None


def parse_file_name(url: str) -> FileName:
    """The dataset and the month (`2024-01`) in a name like `green_tripdata_2024-01.parquet`."""
    match = _FILE_NAME.search(url)
    return FileName(match["dataset"], match["month"]) if match else FileName(None, None)
