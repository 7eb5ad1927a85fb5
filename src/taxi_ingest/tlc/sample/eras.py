"""What a dataset's files looked like in which months: `eras.csv`, a row an era.

    format      what TLC published; a CSV where it published only Parquet is written as pandas would
    first, last months; an empty one is no limit
    header_end  the line ends behind the header, `+` between them; `blank` is the empty line some have
    row_end     the line end of each row
    fields      in a row; those beyond the header are empty
    quoted      `all` fields, or those of `string`; the header in both cases
    style       how numbers are written (see `STYLES` beside `write_sample`)
    values      `column=value*weight/value`, where they differ from `CHOICES`; no value means null
    empty       `column=share` of nulls; columns with the same share are null in the same rows
    header      the names, with their types in Parquet

A new era is a new row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from taxi_ingest import tlc
from taxi_ingest.errors import UsageError

_LINE_ENDS = {"LF": "\n", "CRLF": "\r\n", "blank": "\r\n"}


@dataclass(frozen=True)
class Field:
    """A column as the era has it."""

    name: str
    type: pa.DataType | None
    """None in a CSV, which has none."""
    column: tlc.Column
    """What it means."""


@dataclass(frozen=True)
class Era:
    """A row of `eras.csv`: months in which a dataset's files looked alike."""

    dataset: str
    format: str
    first: str
    last: str
    header_end: str
    row_end: str
    width: int
    quoted: str
    style: str
    values: Mapping[str, str]
    empty: Mapping[str, float]
    fields: tuple[Field, ...]

    def covers(self, month: str) -> bool:
        """Whether a month is one of them."""
        return self.first <= month <= (self.last or month)


@cache
def eras() -> tuple[Era, ...]:
    """All eras."""
    return tuple(_era(row) for row in tlc.read_table("sample/eras.csv"))


def era_of(dataset: str, month: str, format: str) -> Era:
    """What a dataset's file of a month looks like, as `csv` or `parquet`; a lookup's month is empty.

    Raises UsageError for a dataset that TLC does not have, and for a month that it has no trips of.
    """
    known = tlc.dataset_named(dataset)
    written = known.kind == "lookup" or tlc.parse_file_name(f"{dataset}_tripdata_{month}").month == month
    fitting = [era for era in eras() if era.dataset == dataset and era.covers(month)]
    if not fitting or not written:
        raise UsageError(
            f"TLC has no {dataset} trips of {month!r}.", f"Months begin with {known.first_month}."
        )
    # TLC's CSVs end in 2021, and the Parquet file's columns stand in for later ones.
    return min(fitting, key=lambda era: era.format != format)


def _era(row: dict[str, str]) -> Era:
    return Era(
        dataset=row["dataset"],
        format=row["format"],
        first=row["first"],
        last=row["last"],
        header_end="".join(_LINE_ENDS[end] for end in row["header_end"].split("+")),
        row_end=_LINE_ENDS[row["row_end"]],
        width=int(row["fields"]),
        quoted=row["quoted"],
        style=row["style"],
        values=_pairs(row["values"]),
        empty={name: float(share) for name, share in _pairs(row["empty"]).items()},
        fields=_fields(tlc.dataset_named(row["dataset"]), row["header"]),
    )


def _fields(dataset: tlc.Dataset, header: str) -> tuple[Field, ...]:
    """The fields of `name:type,name:type` or `name,name`."""
    pairs = [field.partition(":") for field in header.split(",")]
    names = frozenset(tlc.normalise(name) for name, _, _ in pairs)
    columns = [dataset.column_of(tlc.normalise(name), names) for name, _, _ in pairs]
    return tuple(
        Field(name, pa.type_for_alias(type) if type else None, column)
        for (name, _, type), column in zip(pairs, columns, strict=True)
        if column
    )


def _pairs(text: str) -> dict[str, str]:
    """`a=1;b=2` as a mapping."""
    return {name: value for name, _, value in (pair.partition("=") for pair in text.split(";") if pair)}
