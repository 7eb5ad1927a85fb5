"""The catalogue: the datasets of the Taxi & Limousine Commission and what each era called a column.

The facts are rows of `tlc_columns.csv`, from TLC's data dictionaries and the headers of all published
files. A new era adds rows or names there, not code here:

    key        `yes` where every file of the dataset has the column: what a file is recognised by
    also       other eras' names for it, in lower case
    only_with  `also` holds only in files that have this column too (2009-2014 called a text
               `payment_type`, and only those years have `surcharge`)
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

_FILE_NAME = re.compile(
    r"(?P<dataset>yellow|green|fhvhv|fhv)_tripdata_(?P<month>\d{4}-(?:0[1-9]|1[0-2]))(?!\d)"
)


@dataclass(frozen=True)
class Column:
    """A column of a dataset's canonical schema: TLC's present name, its Postgres type, its meaning."""

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

    @property
    def pickup(self) -> Column:
        """The column of the trip's start, which says what month a row belongs to."""
        return next(column for column in self.columns if column.snake == "pickup_datetime")

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


@cache
def datasets() -> tuple[Dataset, ...]:
    """All datasets, from `tlc_columns.csv`."""
    with resources.files(__package__).joinpath("tlc_columns.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = dict.fromkeys(row["dataset"] for row in rows)
    return tuple(
        Dataset(name, tuple(_column(row) for row in rows if row["dataset"] == name)) for name in names
    )


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
