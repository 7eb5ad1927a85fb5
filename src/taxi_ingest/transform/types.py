"""The types that columns have, and which of them can become which."""

import pyarrow as pa

from taxi_ingest.errors import DataError
from taxi_ingest.read.texts import DECIMAL

_TYPES: dict[pa.DataType, pa.DataType] = {
    pa.bool_(): pa.bool_(),
    pa.int8(): pa.int16(),
    pa.int16(): pa.int16(),
    pa.int32(): pa.int32(),
    pa.int64(): pa.int64(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): DECIMAL,
    pa.float16(): pa.float32(),
    pa.float32(): pa.float32(),
    pa.float64(): pa.float64(),
    pa.string(): pa.string(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.null(): pa.string(),
    pa.date32(): pa.date32(),
    pa.date64(): pa.date32(),
    pa.binary(): pa.binary(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
}

WIDER: dict[pa.DataType, tuple[pa.DataType, ...]] = {
    pa.int16(): (pa.int32(), pa.int64(), DECIMAL, pa.string()),
    pa.int32(): (pa.int64(), DECIMAL, pa.string()),
    pa.int64(): (DECIMAL, pa.string()),
    DECIMAL: (pa.string(),),
    pa.float32(): (pa.float64(), pa.string()),
    pa.float64(): (DECIMAL, pa.string()),
    pa.bool_(): (pa.string(),),
    pa.date32(): (pa.timestamp("us"), pa.string()),
    pa.time64("us"): (pa.string(),),
    pa.timestamp("us"): (pa.string(),),
    pa.timestamp("us", "UTC"): (pa.string(),),
}
"""What a column can become when a later value needs more, the narrowest first. Each value keeps what it says,
so that no integer becomes a double."""


def column_type(column: str, type: pa.DataType) -> pa.DataType:
    """The type of a column that holds all values of any Arrow type; times have microseconds.

    Raises DataError for nested types, which no table column of ours holds.
    """
    if isinstance(type, pa.BaseExtensionType):
        return column_type(column, type.storage_type)
    if pa.types.is_dictionary(type):
        return column_type(column, type.value_type)
    if pa.types.is_timestamp(type):
        return pa.timestamp("us", type.tz and "UTC")
    if pa.types.is_time(type):
        return pa.time64("us")
    if pa.types.is_decimal(type):
        return DECIMAL
    if pa.types.is_fixed_size_binary(type):
        return pa.binary()
    if type not in _TYPES:
        raise DataError(
            f"Column {column!r} has the type {type}, which taxi-ingest does not load.",
            "Drop or flatten the column first.",
        )
    return _TYPES[type]
