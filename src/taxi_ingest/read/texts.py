"""How values are spelled in text files: words for "no value", numbers, times.

Whole columns at a time: Arrow reads what is spelled as it expects; only a column where it stumbles, or
where a look at the bytes finds something odd, is taken apart.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.read.constants import constant, from_numpy, text_array, to_numpy

NULL_WORDS = (
    *("", "nan", "-nan", "+nan", "nat", "<nat>"),
    *("null", "(null)", "<null>", "\\n", "none", "nil"),
    *("na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind"),
)
"""What stands for no value in a column of numbers, yes and no, or times, in any case and between blanks:
what pandas, numpy, R, Excel, Oracle, MySQL and Postgres write. In a column of text each of them is text."""

Origin = Literal["tlc", "table", "guess"]
"""Who says what type a column has, and so how freely its values may be spelled.

`tlc`: TLC's canonical schema. What is meant is known: a time with a zone becomes New York's wall time,
    a decimal the nearest double.
`table`: a table or a Parquet file. A time without a zone has none, and a double is only what spells it.
`guess`: the first rows of this file. The column might as well hold codes, so that numbers must be spelled
    as numbers are written: `007`, `+1` and `1e5` are text.
"""

DECIMAL = pa.decimal256(76, 38)
"""Stands for any decimal of up to 38 digits, wherever its point is. Such columns come as this or, where
one scale serves all values, as `decimal128` of that scale."""
_MOST_DIGITS = 38

SPELLINGS = {
    **dict.fromkeys(
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        "Times are read as 2019-03-01 00:02:21 (also with T, without seconds, with up to six digits behind "
        "the seconds, and with Z, UTC or +00:00 at the end) or 03/01/2019 12:02:21 AM (month first, in "
        "all rows).",
    ),
    pa.date32(): "Dates are read as 2019-03-01 or 03/01/2019 (month first).",
    pa.time64("us"): "Times of day are read as 00:02:21 or 12:02:21 AM.",
    pa.bool_(): "Yes and no are read as true, t, yes, y, on, 1 and false, f, no, n, off, 0.",
}
"""How values of a type may be spelled, to be said where none is."""

_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")

_INTEGER = r"^[+-]?\d+(\.0*)?$"
_PLAIN_INTEGER = r"^-?(0|[1-9]\d*)(\.0*)?$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_PLAIN_NUMBER = r"^-?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$"
_PLAIN_DECIMAL = r"^-?((0|[1-9]\d*)(\.\d*)?|\.\d+)$"
_INFINITY = r"(?i)^[+-]?inf(inity)?$"

_CLOCK = (
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?: ?(?P<half>[AaPp][Mm]))?"
)
_ZONE = r"(?: ?(?P<zone>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?"
_ISO = rf"^(?P<year>\d{{4}})-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}})(?:[ T]{_CLOCK}{_ZONE})?$"
_AMERICAN = rf"^(?P<month>\d{{1,2}})/(?P<day>\d{{1,2}})/(?P<year>\d{{4}})(?:,? {_CLOCK}{_ZONE})?$"
SLASHED = r"^\s*\d{1,2}/\d{1,2}/\d{4}"
"""How a date such as 03/01/2019 begins."""
_TIME_OF_DAY = rf"^{_CLOCK}$"

_ODD_NUMBERS = ((b"x", b"0x"), (b"X", b"0X"), (b"e", b"e-"), (b"E", b"E-"))

_EXACT_BELOW = 2.0**53
"""Every integer below is a double; a text of 15 significant digits always comes back from one
(https://en.wikipedia.org/wiki/Double-precision_floating-point_format)."""
_DIGITS_KEPT = {pa.float32(): 6, pa.float64(): 15}
_SHORTEST_UNDERFLOW = len("1e-324")

PARTS_OF_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Of each of Arrow's units of time."""
_SECONDS_UNTIL_2038 = 2_145_916_800
_NEW_YORK = "America/New_York"
_ZERO, _TWELVE, _SIXTY, _THOUSAND = map(constant, (0, 12, 60, 1000))


def parse(
    texts: pa.ChunkedArray, type: pa.DataType, origin: Origin, day_first: bool = False
) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """The values as `type` (not text), null where one isn't any; and which those are (None: none).

    Words for "no value" become null and are not among them. See `Origin` for what is taken; of a file
    that is known to write days first, no `03/01/2019` is.
    """
    if (quick := _quickly(texts, type, origin)) is not None:
        return quick, None
    texts = without_null_words(texts)
    if (quick := _quickly(texts, type, origin)) is not None:
        return quick, None
    values = next(read for applies, read in _READERS if applies(type))(
        pc.utf8_trim_whitespace(texts), type, origin
    )
    if day_first and pa.types.is_temporal(type):
        values = only(values, pc.invert(pc.match_substring_regex(texts, SLASHED)))
    bad = pc.and_(pc.is_valid(texts), pc.is_null(values))
    return values, bad if pc.any(bad).as_py() else None


def only(values: pa.ChunkedArray, keep: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values where `keep` is true, null elsewhere."""
    return pc.if_else(pc.fill_null(keep, constant(False)), values, pa.nulls(1, values.type)[0])


def without_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers, null where one is not a number."""
    nan = pc.is_nan(values)
    return only(values, pc.invert(nan)) if pc.any(nan).as_py() else values


def spelled_by_arrow(content: bytes, table: pa.Table) -> bool:
    """Whether the numbers that Arrow's CSV reader made of this text are what it says.

    It takes `0x10` for 16, what is too large or too small for a double for infinity or 0, and larger
    integers for the nearest double; all of them must be looked at as text.
    """
    numeric = any(pa.types.is_integer(type) or pa.types.is_floating(type) for type in table.schema.types)
    # A single byte is looked for ten times as fast as two, and none of these is frequent in trips.
    if numeric and any(letter in content and odd in content for letter, odd in _ODD_NUMBERS):
        return False
    for column in table.columns:
        if pa.types.is_floating(column.type) and len(column):
            range = pc.min_max(column)
            low, high = range["min"].as_py(), range["max"].as_py()
            if low is not None and max(-low, high) >= _EXACT_BELOW:
                return False
    return True


def without_null_words(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts, null where one stands for no value."""
    words = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    return only(texts, pc.invert(pc.is_in(words, value_set=text_array(NULL_WORDS))))


def are_numbers(texts: pa.ChunkedArray) -> bool:
    """Whether each is spelled as numbers are written, with however many digits."""
    alike = pc.match_substring_regex(pc.utf8_trim_whitespace(texts), f"{_PLAIN_NUMBER}|{_INFINITY}")
    return bool(pc.all(pc.fill_null(alike, constant(False))).as_py())


def _any(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _quickly(texts: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray | None:
    """The values by Arrow's own parser, or None where one needs a closer look."""
    if not (pa.types.is_integer(type) or pa.types.is_floating(type)) and not _reads_as_we_do(type):
        return None
    try:
        values = texts.cast(type)
    except pa.ArrowInvalid:
        return None
    if pa.types.is_integer(type) and _oddly_spelled(texts):
        return None
    if pa.types.is_floating(type):
        if origin == "guess" and _oddly_spelled(texts):
            return None
        values = without_nan(values)
        if len(_not_kept(texts, values, origin)):
            return None
    return values


def _reads_as_we_do(type: pa.DataType) -> bool:
    return bool(pa.types.is_date32(type) or pa.types.is_timestamp(type))


def _oddly_spelled(texts: pa.ChunkedArray) -> bool:
    """Whether a number begins with a plus sign, or with a zero that no point follows."""
    return any(_odd_in(chunk) for chunk in texts.chunks if len(chunk))


def _odd_in(chunk: pa.StringArray) -> bool:
    _, offsets, content = chunk.buffers()
    if content is None:
        return False
    ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    starts, lengths = ends[:-1], np.diff(ends)
    characters = np.frombuffer(content, np.uint8)
    starts = starts[lengths > 1]
    first = characters[starts]
    if (first == ord("+")).any():
        return True
    zeros = starts[first == ord("0")]
    negative = starts[(first == ord("-")) & (lengths[lengths > 1] > 2)]
    zeros = np.concatenate((zeros, negative[characters[negative + 1] == ord("0")] + 1))
    return bool((characters[zeros + 1] != ord(".")).any())


def _not_kept(texts: pa.ChunkedArray, values: pa.ChunkedArray, origin: Origin) -> npt.NDArray[np.int64]:
    """The indexes of texts that are another number than the double (or single) read from them."""
    numbers = to_numpy(values, null=float("nan"))
    size = np.abs(numbers)
    lengths = to_numpy(pc.binary_length(texts), null=0)
    suspicious = (size >= _EXACT_BELOW) | ((size == 0) & (lengths >= _SHORTEST_UNDERFLOW))
    if origin != "tlc" or values.type != pa.float64():
        suspicious |= lengths > _DIGITS_KEPT[values.type]
        if values.type == pa.float32():
            suspicious |= size >= 2.0**24
    indexes = np.flatnonzero(suspicious & ~np.isnan(numbers))
    if not len(indexes):
        return indexes
    chosen = texts.take(from_numpy(indexes))
    shown = values.take(from_numpy(indexes)).cast(pa.string())
    differ = np.flatnonzero(to_numpy(pc.not_equal(chosen, shown).cast(pa.uint8()), null=0))
    kept = [
        _is_same(chosen[index].as_py().strip(), shown[index].as_py(), float(numbers[indexes[index]]), origin)
        for index in differ.tolist()
    ]
    lost: npt.NDArray[np.int64] = indexes[differ[~np.array(kept, bool)]]
    return lost


def _is_same(text: str, shown: str, value: float, origin: Origin) -> bool:
    """Whether a text is the number that was read from it, whose shortest spelling is `shown`."""
    if not np.isfinite(value):
        return re.match(_INFINITY, text) is not None
    written = Decimal(text)
    if value == 0:
        return written == 0
    if origin == "tlc" and not re.match(_INTEGER, text):
        return True
    return written in (Decimal(shown), Decimal(value))


def _integers(texts: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    pattern = _PLAIN_INTEGER if origin == "guess" else _INTEGER
    digits = only(texts, pc.match_substring_regex(texts, pattern))
    digits = pc.replace_substring_regex(digits, r"^\+|\.0*$", "")
    digits = pc.replace_substring_regex(digits, r"^(-?)0+(\d)", r"\1\2")
    numbers = only(digits, pc.less_equal(pc.binary_length(digits), constant(20))).cast(pa.decimal128(38, 0))
    half = 2 ** (type.bit_width - 1)
    low, high = (constant(limit, numbers.type) for limit in (-half, half - 1))
    return only(numbers, pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))).cast(type)


def _doubles(texts: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    pattern = _PLAIN_NUMBER if origin == "guess" else _NUMBER
    numbers = only(
        texts, pc.or_(pc.match_substring_regex(texts, pattern), pc.match_substring_regex(texts, _INFINITY))
    )
    values = numbers.cast(type)
    lost = np.zeros(len(values), bool)
    lost[_not_kept(numbers, values, origin)] = True
    return only(values, pa.chunked_array([from_numpy(~lost)]))


def _decimals(texts: pa.ChunkedArray, _: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    """Decimals of at most 38 digits, each exactly, as DECIMAL says."""
    pattern = _PLAIN_DECIMAL if origin == "guess" else _DECIMAL
    digits = only(texts, pc.match_substring_regex(texts, pattern))
    if _any(digits, "[eE]"):
        spelled_out = [None if text is None else f"{Decimal(text):f}" for text in digits.to_pylist()]
        digits = pa.chunked_array([text_array(spelled_out)])
    digits = pc.replace_substring_regex(digits, r"^\+", "")
    whole, fraction = _digits_around_point(digits)
    scale = pc.max(fraction).as_py() or 0
    if (pc.max(whole).as_py() or 0) + scale <= _MOST_DIGITS:
        return digits.cast(pa.decimal128(_MOST_DIGITS, scale))
    digits = pc.replace_substring_regex(digits, r"^(-?)0+", r"\1")
    digits = pc.replace_substring_regex(digits, r"(\.\d*?)0+$", r"\1")
    whole, fraction = _digits_around_point(digits)
    digits = only(digits, pc.less_equal(pc.add(whole, fraction), constant(_MOST_DIGITS)))
    # Of a zero nothing is left.
    return pc.replace_substring_regex(digits, r"^-?\.?$", "0").cast(DECIMAL)


def _digits_around_point(digits: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    unsigned = pc.utf8_ltrim(digits, characters="-")
    length, point = pc.binary_length(unsigned), pc.find_substring(unsigned, ".")
    has_point = pc.greater_equal(point, _ZERO)
    whole = pc.if_else(has_point, point, length)
    return whole, pc.if_else(has_point, pc.subtract(pc.subtract(length, point), constant(1)), _ZERO)


def _booleans(texts: pa.ChunkedArray, _: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    words = pc.utf8_lower(texts)
    spelled = 1 if origin == "guess" else len(_TRUE)
    true, false = (pc.is_in(words, value_set=text_array(side[:spelled])) for side in (_TRUE, _FALSE))
    return only(true, pc.or_(true, false))


def _dates(texts: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    if origin == "guess":
        # Midnight is a time that the file tells.
        texts = only(texts, pc.invert(pc.match_substring(texts, ":")))
    moments, offset = _moments(texts)
    days = only(
        moments, pc.and_(pc.is_null(offset), pc.equal(pc.floor_temporal(moments, unit="day"), moments))
    )
    return days.cast(type)


def _times_of_day(texts: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    # As a guess, `1:30` might be an hour and a half.
    looks = pc.match_substring_regex(texts, r"^\d{2}:" if origin == "guess" else r":")
    parts = pc.extract_regex(only(texts, looks), pattern=_TIME_OF_DAY)
    return _microseconds(parts).cast(type)


def _timestamps(texts: pa.ChunkedArray, type: pa.DataType, origin: Origin) -> pa.ChunkedArray:
    moments, offset = _moments(texts)
    without_zone = only(moments, pc.is_null(offset))
    if not type.tz and origin != "tlc":
        return without_zone
    moments = pc.subtract(moments, pc.multiply(offset, constant(60_000_000)).cast(pa.duration("us")))
    utc = moments.cast(pa.timestamp("us", "UTC"))
    return utc.cast(type) if type.tz else pc.coalesce(without_zone, new_york_time(utc))


def new_york_time(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    """Moments -> what clocks in New York show then; null from 2038 on, where Arrow knows no summer time."""
    unit = moments.type.unit
    known = pc.less(moments.cast(pa.int64()), constant(_SECONDS_UNTIL_2038 * PARTS_OF_SECOND[unit]))
    return pc.local_timestamp(only(moments, known).cast(pa.timestamp(unit, _NEW_YORK)))


def _moments(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """What the clock shows (null: no real time), and the zone's offset in minutes (null: none given)."""
    iso = pc.extract_regex(texts, pattern=_ISO)
    american = pc.extract_regex(texts, pattern=_AMERICAN)
    parts = {
        name: pc.coalesce(*(pc.struct_field(found, name) for found in (iso, american)))
        for name in ("year", "month", "day", "hour", "minute", "second", "fraction", "half", "zone")
    }
    month, day = (pc.utf8_lpad(parts[name], 2, "0") for name in ("month", "day"))
    dates = pc.binary_join_element_wise(parts["year"], month, day, constant("-"))
    days = pc.strptime(dates, "%Y-%m-%d", "us", error_is_null=True)
    # strptime takes 31 February for 3 March; what comes out otherwise than it went in is no date.
    days = only(days, pc.equal(pc.strftime(days.cast(pa.timestamp("s")), "%Y-%m-%d"), dates))
    moments = pc.add(days, _microseconds(parts).cast(pa.duration("us")))
    return moments, _offset(parts["zone"])


def _microseconds(parts: "pa.ChunkedArray | dict[str, pa.ChunkedArray]") -> pa.ChunkedArray:
    """Microseconds since midnight; null for what no clock shows, or what needs a finer one."""

    def text(name: str) -> pa.ChunkedArray:
        return parts[name] if isinstance(parts, dict) else pc.struct_field(parts, name)

    def number(name: str) -> pa.ChunkedArray:
        return pc.utf8_lpad(text(name), 1, "0").cast(pa.int64())

    hour, minute, second = map(number, ("hour", "minute", "second"))
    half = pc.utf8_lower(text("half"))
    by_half = pc.not_equal(half, constant(""))
    possible = pc.if_else(
        by_half,
        pc.and_(pc.greater(hour, _ZERO), pc.less_equal(hour, _TWELVE)),
        pc.less(hour, constant(24)),
    )
    hour = pc.if_else(pc.and_(by_half, pc.equal(hour, _TWELVE)), _ZERO, hour)
    hour = pc.add(hour, pc.if_else(pc.equal(half, constant("pm")), _TWELVE, _ZERO))
    nanoseconds = pc.utf8_rpad(text("fraction"), 9, "0").cast(pa.int64())
    microseconds = pc.divide(nanoseconds, _THOUSAND)
    for fits in (
        pc.less(minute, _SIXTY),
        pc.less(second, _SIXTY),
        pc.equal(pc.multiply(microseconds, _THOUSAND), nanoseconds),
    ):
        possible = pc.and_(possible, fits)
    seconds = pc.add(pc.multiply(pc.add(pc.multiply(hour, _SIXTY), minute), _SIXTY), second)
    return only(pc.add(pc.multiply(seconds, constant(1_000_000)), microseconds), possible)


def _offset(zone: pa.ChunkedArray) -> pa.ChunkedArray:
    """Minutes east of Greenwich; null where no zone is given."""
    zone = only(zone, pc.not_equal(zone, constant("")))
    zone = pc.replace_substring_regex(zone, r"^(Z|z|UTC|GMT)$", "+00")
    digits = pc.utf8_rpad(pc.replace_substring(pc.utf8_slice_codeunits(zone, 1), ":", ""), 4, "0")
    hours, minutes = (pc.utf8_slice_codeunits(digits, start, start + 2).cast(pa.int64()) for start in (0, 2))
    east = pc.add(pc.multiply(hours, _SIXTY), minutes)
    return pc.if_else(pc.starts_with(zone, "-"), pc.negate(east), east)


_READERS: tuple[
    tuple[
        Callable[[pa.DataType], bool],
        Callable[[pa.ChunkedArray, pa.DataType, Origin], pa.ChunkedArray],
    ],
    ...,
] = (
    (pa.types.is_integer, _integers),
    (pa.types.is_floating, _doubles),
    (pa.types.is_decimal, _decimals),
    (pa.types.is_boolean, _booleans),
    (pa.types.is_date, _dates),
    (pa.types.is_time, _times_of_day),
    (pa.types.is_timestamp, _timestamps),
    (pa.types.is_binary, lambda texts, type, _: pa.chunked_array([pa.nulls(len(texts), type)])),
)
