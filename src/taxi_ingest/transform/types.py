"""Which Postgres type holds which Arrow type."""

import pyarrow as pa

from taxi_ingest.errors import DataError
from taxi_ingest.read.texts import NUMERIC

ARROW_OF_POSTGRES: dict[str, pa.DataType] = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "numeric": NUMERIC,
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
    pa.uint64(): "numeric",
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
    pa.binary_view(): "bytea",
}

WIDER: dict[str, tuple[str, ...]] = {
    "smallint": ("integer", "bigint", "numeric", "text"),
    "integer": ("bigint", "numeric", "text"),
    "bigint": ("numeric", "text"),
    "numeric": ("text",),
    "real": ("double precision", "text"),
    "double precision": ("text",),
    "boolean": ("text",),
    "date": ("timestamp", "text"),
    "time": ("text",),
    "timestamp": ("text",),
    "timestamptz": ("text",),
}
"""What a column of a table can become when a later value needs more, the narrowest first. Postgres then
rewrites the rows that it has, so only what keeps each of their values is here: no double becomes `numeric`
(Postgres would round it to 15 digits), and no integer a double."""

WIDER_WHEN_READ_ANEW = {"double precision": ("numeric",)}
"""What a type that a file's first rows suggested can become besides, as no row is stored with it yet."""

FOR_DECIMALS = {(whole, "double precision"): "numeric" for whole in ("smallint", "integer", "bigint")}
"""What a table's column of whole numbers becomes for a file whose first rows have decimals in it."""


def postgres_type(column: str, type: pa.DataType) -> str:
    """The narrowest Postgres type that holds all values of an Arrow type.

    Raises DataError for nested types, which no table column of ours holds.
    """
    if isinstance(type, pa.BaseExtensionType):
        return postgres_type(column, type.storage_type)
    if pa.types.is_dictionary(type):
        return postgres_type(column, type.value_type)
    if pa.types.is_timestamp(type):
        return "timestamptz" if type.tz else "timestamp"
    if pa.types.is_time(type):
        return "time"
    if pa.types.is_decimal(type):
        return "numeric"
    if pa.types.is_fixed_size_binary(type):
        return "bytea"
    if type not in _POSTGRES_OF_ARROW:
        raise DataError(
            f"Column {column!r} has the type {type}, which taxi-ingest does not load.",
            "Drop or flatten the column first.",
        )
    return _POSTGRES_OF_ARROW[type]
