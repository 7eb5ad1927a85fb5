"""A column's type, and values of any physical type -> it, without changing a value or losing a row.

Fast where all values fit, which Arrow finds out; only else are the values looked at one kind at a
time (still whole columns, never row by row) to tell those that don't fit from those that do. What the
place that rows go to can hold is a `Store`.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.errors import DataError
from taxi_ingest.read.constants import constant, text_array
from taxi_ingest.read.texts import DECIMAL, PARTS_OF_SECOND, Origin, new_york_time, only, parse, without_nan

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

_DAY_MILLISECONDS, _DAY_MICROSECONDS = 86_400_000, 86_400_000_000


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


@dataclass(frozen=True)
class Store:
    """What a place can hold, and what it calls the types; one that nothing is said of holds all that Arrow
    does."""

    name_bytes: int = sys.maxsize
    """How long a column's name can be."""
    reserved_names: frozenset[str] = frozenset()
    """What no column may be called."""
    days: tuple[int, int] = (-(2**31), 2**31 - 1)
    """The first and the last date, in days since 1970."""
    moments: tuple[int, int] = (-(2**63), 2**63 - 1)
    """The first and the last timestamp, in microseconds since 1970."""
    type_names: Mapping[pa.DataType, str] = field(default_factory=dict)

    def name_of(self, type: pa.DataType) -> str:
        """What the place calls a type."""
        return self.type_names.get(type, str(type))


ANYWHERE = Store()


def cast(
    values: pa.ChunkedArray,
    type: pa.DataType,
    origin: Origin = "tlc",
    day_first: bool = False,
    store: Store = ANYWHERE,
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """The values as `type`, null where one can't be represented; and which those are (None: none).

    What changes is only how a value is written: an integer column takes `1.0`, and refuses `1.5` and what
    is out of its range; a double refuses an integer that it can't hold. NaN, and in text the words of
    `NULL_WORDS`, are null where numbers, times or yes and no are wanted. `origin` says whose the column is,
    `day_first` how the file spells dates (see `parse`), `store` where the values go. A text with a NUL
    character is no text of ours.
    """
    values = _plain(values)
    if pa.types.is_string(values.type) and not pa.types.is_string(type):
        return parse(values, type, origin, day_first)
    if pa.types.is_floating(values.type) and not pa.types.is_string(type):
        values = without_nan(values)
    convert = _CONVERSIONS.get((_kind(values.type), _kind(type)), _none)
    converted = _held(convert(values, type, origin), store)
    if converted.null_count == values.null_count:
        return converted, None
    return converted, pc.and_(pc.is_valid(values), pc.is_null(converted))


def _held(values: pa.ChunkedArray, store: Store) -> pa.ChunkedArray:
    """The dates and times that the place can hold."""
    if pa.types.is_date(values.type):
        return _within(values, *store.days)
    return _within(values, *store.moments) if pa.types.is_timestamp(values.type) else values


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values without a dictionary, an extension or a second way to store the same."""
    type = values.type
    if isinstance(type, pa.BaseExtensionType):
        return _plain(values.cast(type.storage_type))
    if pa.types.is_dictionary(type):
        return _plain(values.cast(type.value_type))
    if pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return values.cast(pa.string())
    if pa.types.is_large_binary(type) or pa.types.is_fixed_size_binary(type) or pa.types.is_binary_view(type):
        return values.cast(pa.binary())
    return values


def _kind(type: pa.DataType) -> str:
    return next((name for name, is_it in _KINDS.items() if is_it(type)), str(type))


_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "null": pa.types.is_null,
    "boolean": pa.types.is_boolean,
    "integer": pa.types.is_integer,
    "floating": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "text": pa.types.is_string,
    "binary": pa.types.is_binary,
    "date": pa.types.is_date,
    "time": pa.types.is_time,
    "timestamp": pa.types.is_timestamp,
}


def _none(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    """Nothing of one kind is anything of the other."""
    return pa.chunked_array([pa.nulls(len(values), type)])


def _same(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    return values.cast(type)


def _by_text(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    """As the shortest decimal that is the same number."""
    return parse(values.cast(pa.string()), type, "table")[0]


def _text(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    try:
        # Parquet's texts are bytes that nobody has looked at yet.
        text = values.cast(pa.binary()).cast(type) if pa.types.is_string(values.type) else values.cast(type)
    except pa.ArrowInvalid:
        text = pa.chunked_array([text_array([*map(_decoded, values.cast(pa.binary()).to_pylist())])])
    has_nul = pc.match_substring(text, "\0")
    return only(text, pc.invert(has_nul)) if pc.any(has_nul).as_py() else text


def _decoded(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None


def _within(values: pa.ChunkedArray, low: int, high: int) -> pa.ChunkedArray:
    """The values from `low` to `high`, both of them numbers in the values' own unit."""
    number = pa.int32() if values.type.bit_width == 32 else pa.int64()
    numbers = values.cast(number)
    range = pc.min_max(numbers)
    lowest, highest = range["min"].as_py(), range["max"].as_py()
    if lowest is None or (lowest >= low and highest <= high):
        return values
    return only(values, _between(numbers, constant(low, number), constant(high, number)))


def _between(values: pa.ChunkedArray, low: pa.Scalar, high: pa.Scalar) -> pa.ChunkedArray:
    return pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))


def _integers(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    """Numbers -> integers: whole ones in the type's range."""
    try:
        return values.cast(type)
    except pa.ArrowInvalid:
        pass
    low, high = -(2 ** (type.bit_width - 1)), 2 ** (type.bit_width - 1) - 1
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
        values = only(values, pc.and_(pc.is_finite(values), pc.equal(pc.floor(values), values)))
        # Compared as doubles: 2**63 - 1 is none, the largest below 2**63 is.
        low, high = float(low), float(min(high, 2**63 - 1024))
    elif pa.types.is_unsigned_integer(values.type):
        values = values.cast(pa.uint64())
        low = 0
    inside = _between(values, constant(low, values.type), constant(high, values.type))
    return only(values, inside).cast(type, safe=False)


def _integers_to_doubles(values: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    try:
        return values.cast(type)
    except pa.ArrowInvalid:
        return _by_text(values, type, origin)


def _integers_to_decimals(values: pa.ChunkedArray, *_: object) -> pa.ChunkedArray:
    return values.cast(pa.decimal128(20, 0))


def _doubles(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    converted = values.cast(type)
    if converted.type.bit_width >= values.type.bit_width:
        return converted
    kept = pc.equal(converted.cast(values.type), values)
    return converted if pc.all(kept).as_py() else only(converted, kept)


def _decimals(values: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    if values.type.bit_width <= 128 and values.type.scale >= 0:
        return values.cast(pa.decimal128(values.type.precision, values.type.scale))
    return _by_text(values, type, origin)


def _dates(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    if pa.types.is_date64(values.type):
        values = only(values, pc.equal(pc.floor_temporal(values, unit="day"), values))
        values = _within(values, -(2**31) * _DAY_MILLISECONDS, (2**31 - 1) * _DAY_MILLISECONDS)
    return values.cast(type)


def _dates_to_timestamps(values: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    if type.tz:
        return _none(values, type, origin)
    return _timestamps(_dates(values, pa.date32(), origin).cast(pa.timestamp("s")), type, origin)


def _timestamps_to_dates(values: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    if values.type.tz:
        return _none(values, type, origin)
    midnights = pc.equal(pc.floor_temporal(values, unit="day"), values)
    return _dates(only(values, midnights).cast(type), type, origin)


def _times(values: pa.ChunkedArray, type: pa.DataType, _: Origin) -> pa.ChunkedArray:
    return _within(_in_unit(values, type), 0, _DAY_MICROSECONDS)


def _timestamps(values: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    has_zone = values.type.tz is not None
    if has_zone != (type.tz is not None) and not (has_zone and origin == "tlc"):
        return _none(values, type, origin)
    moments = _in_unit(values, pa.timestamp(type.unit, values.type.tz))
    if has_zone and not type.tz:
        # New York's clocks are behind, and Arrow's first moments would come out as its last.
        return new_york_time(_within(moments, -(2**63) + _DAY_MICROSECONDS, 2**63 - 1))
    return moments.cast(type)


def _in_unit(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    """Times in another unit, null where that can't hold them exactly."""
    try:
        return values.cast(type)
    except pa.ArrowInvalid:
        pass
    have, want = PARTS_OF_SECOND[values.type.unit], PARTS_OF_SECOND[type.unit]
    numbers = values.cast(pa.int64())
    if have > want:
        parts = constant(have // want)
        whole = pc.multiply(pc.divide(numbers, parts), parts)
        return only(values, pc.equal(whole, numbers)).cast(type)
    most = (2**63 - 1) // (want // have)
    return _within(values, -most, most).cast(type)


_CONVERSIONS: dict[tuple[str, str], Callable[[pa.ChunkedArray, pa.DataType, Origin], pa.ChunkedArray]] = {
    **{("null", kind): _same for kind in _KINDS},
    **{(kind, "text"): _text for kind in _KINDS},
    ("boolean", "boolean"): _same,
    ("binary", "binary"): _same,
    ("integer", "integer"): _integers,
    ("integer", "floating"): _integers_to_doubles,
    ("integer", "decimal"): _integers_to_decimals,
    ("floating", "integer"): _integers,
    ("floating", "floating"): _doubles,
    ("floating", "decimal"): _by_text,
    ("decimal", "integer"): _by_text,
    ("decimal", "floating"): _by_text,
    ("decimal", "decimal"): _decimals,
    ("date", "date"): _dates,
    ("date", "timestamp"): _dates_to_timestamps,
    ("time", "time"): _times,
    ("timestamp", "date"): _timestamps_to_dates,
    ("timestamp", "timestamp"): _timestamps,
}
"""From a kind of values to a kind of column. What is not here is another kind of thing: a number is no
time, and no yes or no."""
