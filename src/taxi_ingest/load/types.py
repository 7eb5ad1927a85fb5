"""Arrow's types as Postgres', and what Postgres can hold: translated here, and nowhere else."""

import pyarrow as pa

from taxi_ingest.errors import DataError
from taxi_ingest.read.texts import DECIMAL
from taxi_ingest.transform import Store, Stream
from taxi_ingest.transform.types import WIDER

_NAMES: dict[pa.DataType, str] = {
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    DECIMAL: "numeric",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.time64("us"): "time",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", "UTC"): "timestamptz",
    pa.binary(): "bytea",
}
"""Each holds exactly what the other does, as far as dates and times are within `POSTGRES`
(https://www.postgresql.org/docs/current/datatype.html)."""

_TYPES = {name: type for type, name in _NAMES.items()}

_SPELLED_OUT = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
}

POSTGRES = Store(
    name_bytes=63,
    reserved_names=frozenset({"_load_id"}),
    days=(-2_440_588, 2_145_042_905),
    moments=(-210_866_803_200_000_000, 2**63 - 1),
    type_names=_NAMES,
)
"""Dates and timestamps begin on 24 November 4714 BC (proleptic Gregorian); dates end on 31 December 5874897,
timestamps after Arrow's (https://www.postgresql.org/docs/current/datatype-datetime.html). Names:
https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS"""

_MOST_COLUMNS = 1_599
"""Postgres' limit of 1,600 (https://www.postgresql.org/docs/current/limits.html) but for `_load_id`."""

_ROUNDED = {(pa.float64(), DECIMAL)}
"""Postgres makes a numeric of a double's first 15 digits."""


def for_postgres(stream: Stream) -> Stream:
    """The stream with the names and values that Postgres can hold.

    Raises DataError for more columns than a table can have.
    """
    columns = len(stream.plan.columns)
    if columns > _MOST_COLUMNS:
        raise DataError(
            f"{stream.path.name} has {columns:,} columns; a Postgres table holds {_MOST_COLUMNS:,}.",
            "Leave columns out, or make rows of them.",
        )
    return stream.into(POSTGRES)


def name_of(type: pa.DataType) -> str:
    """What Postgres calls the type of a planned column."""
    return _NAMES[type]


def short_name(formatted: str) -> str:
    """The name, as it is written here, of a type that Postgres' format_type spells out."""
    return _SPELLED_OUT.get(formatted, formatted)


def type_named(name: str) -> pa.DataType | None:
    """The Arrow type that travels to a Postgres type; None for those that are not loaded into."""
    return _TYPES.get(name)


def is_widening(stored: pa.DataType, type: pa.DataType) -> bool:
    """Whether ALTER TABLE can make `type` of a column, and keeps each value of the rows that it has."""
    return type in WIDER.get(stored, ()) and (stored, type) not in _ROUNDED
