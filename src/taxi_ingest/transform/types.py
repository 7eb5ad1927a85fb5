"""Which Postgres type holds which Arrow type."""

import pyarrow as pa

from taxi_ingest.errors import DataError

ARROW_OF_POSTGRES: dict[str, pa.DataType] = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
}
"""What travels to Postgres as each type; timestamps have its resolution, microseconds
(https://www.postgresql.org/docs/current/datatype-datetime.html)."""

_POSTGRES_OF_ARROW: dict[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.uint64(): "bigint",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.string_view(): "text",
    pa.null(): "text",
    pa.date32(): "date",
    pa.date64(): "date",
    pa.binary(): "bytea",
    pa.large_binary(): "bytea",
}

WIDER: dict[str, tuple[str, ...]] = {
    "smallint": ("integer", "bigint", "double precision"),
    "integer": ("bigint", "double precision"),
    "bigint": ("double precision",),
    "real": ("double precision",),
    "date": ("timestamp",),
}
"""What a type that a file's first rows suggested can become when a later row needs more; any can become
text."""


def postgres_type(column: str, type: pa.DataType) -> str:
    """The narrowest Postgres type that holds all values of an Arrow type.

    Raises DataError for nested types, which no table column of ours holds.
    """
    if pa.types.is_dictionary(type):
        return postgres_type(column, type.value_type)
    if pa.types.is_timestamp(type):
        return "timestamptz" if type.tz else "timestamp"
    if pa.types.is_time(type):
        return "time"
    if pa.types.is_decimal(type):
        return "double precision"
    if type not in _POSTGRES_OF_ARROW:
        raise DataError(
            f"Column {column!r} has the type {type}, which taxi-ingest does not load.",
            "Drop or flatten the column first.",
        )
    return _POSTGRES_OF_ARROW[type]
