"""Values of any physical type -> a column's type, without changing a value or losing a row.

Fast where all values fit, which Arrow finds out; only else are the values looked at one kind at a
time (still whole columns, never row by row) to tell those that don't fit from those that do.
"""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

_INTEGER = r"^\s*[+-]?\d+(\.0*)?\s*$"
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_TIMESTAMP = r"^\s*\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?)?\s*$"


def cast(values: pa.ChunkedArray, type: pa.DataType) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """The values as `type`, null where one can't be represented; and which those are (None: none).

    An integer column takes `1.0` and refuses `1.5` and what is out of its range; a text column
    refuses the NUL character, which Postgres can't store. Nanoseconds are cut to microseconds.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.type == type and not pa.types.is_string(type):
        return values, None
    try:
        converted = _fitting(values, type)
    except pa.ArrowInvalid:
        converted = _tolerant(values, type)
    bad = pc.and_(pc.is_valid(values), pc.is_null(converted))
    return converted, bad if pc.any(bad).as_py() else None


def _fitting(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_string(type):
        text = values.cast(type)
        return _only(text, pc.invert(pc.match_substring(text, "\0"))) if _has_nul(text) else text
    if pa.types.is_timestamp(type) and pa.types.is_timestamp(values.type):
        wall_time = pc.local_timestamp(values) if values.type.tz and not type.tz else values
        return wall_time.cast(type, safe=False)
    return values.cast(type)


def _has_nul(text: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring(text, "\0")).as_py())


def _tolerant(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    """The values that fit, null for all others."""
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not is_text:
        return _integers(values, type) if pa.types.is_integer(type) else _each(values, type)
    for applies, convert in _FROM_TEXT:
        if applies(type):
            return convert(values, type)
    return _each(values, type)


def _only(values: pa.ChunkedArray, keep: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(keep, values, pa.scalar(None, values.type))


def _integers(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    """Numbers -> integers: whole ones in the type's range."""
    low, high = -(2 ** (type.bit_width - 1)), 2 ** (type.bit_width - 1) - 1
    if pa.types.is_floating(values.type):
        whole = pc.and_(pc.is_finite(values), pc.equal(pc.floor(values), values))
        values = _only(values, pc.fill_null(whole, False))
        # Compared as doubles: 2**63 - 1 is none, the largest below 2**63 is.
        low, high = pa.scalar(float(low), values.type), pa.scalar(float(min(high, 2**63 - 1024)), values.type)
    elif pa.types.is_unsigned_integer(values.type):
        low, high = pa.scalar(0, pa.uint64()), pa.scalar(high, pa.uint64())
    inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
    return _only(values, pc.fill_null(inside, False)).cast(type, safe=False)


def _text_to_integers(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    digits = _only(values, pc.match_substring_regex(values, _INTEGER))
    digits = pc.replace_substring_regex(pc.utf8_trim_whitespace(digits), r"^\+|\.0*$", "")
    digits = _only(digits, pc.less_equal(pc.utf8_length(digits), 18))
    return _integers(digits.cast(pa.int64()), type)


def _text_to_numbers(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    numbers = _only(values, pc.match_substring_regex(values, _NUMBER))
    return pc.replace_substring_regex(pc.utf8_trim_whitespace(numbers), r"^\+", "").cast(type)


def _text_to_timestamps(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    """ISO 8601 with a blank or a T, seconds and their fraction optional as in Postgres."""
    texts = pc.utf8_trim_whitespace(_only(values, pc.match_substring_regex(values, _TIMESTAMP)))
    texts = pc.replace_substring(texts, "T", " ")
    texts = pc.if_else(
        pc.equal(pc.utf8_length(texts), 10), pc.binary_join_element_wise(texts, "00:00:00", " "), texts
    )
    seconds = pc.utf8_slice_codeunits(texts, 0, 19)
    parsed = pc.strptime(seconds, "%Y-%m-%d %H:%M:%S", "us", error_is_null=True)
    # strptime takes 31 February for 3 March; what comes out otherwise than it went in is no date.
    real = pc.equal(pc.strftime(parsed.cast(pa.timestamp("s")), "%Y-%m-%d %H:%M:%S"), seconds)
    return _only(texts, pc.fill_null(real, False)).cast(type)


def _each(values: pa.ChunkedArray, type: pa.DataType) -> pa.ChunkedArray:
    """Kinds that TLC has none of, one value at a time."""

    def one(value: pa.Scalar) -> pa.Scalar:
        try:
            return value.cast(type)
        except pa.ArrowInvalid:
            return pa.scalar(None, type)

    return pa.chunked_array([pa.array([one(value).as_py() for value in values], type)])


_FROM_TEXT: tuple[
    tuple[Callable[[pa.DataType], bool], Callable[[pa.ChunkedArray, pa.DataType], pa.ChunkedArray]], ...
] = (
    (pa.types.is_integer, _text_to_integers),
    (pa.types.is_floating, _text_to_numbers),
    (pa.types.is_timestamp, _text_to_timestamps),
)
