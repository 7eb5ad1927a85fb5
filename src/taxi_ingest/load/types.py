"""Arrow's types and decimals as Postgres', and what Postgres can hold: translated here, and nowhere else."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.errors import DataError
from taxi_ingest.read.constants import constant
from taxi_ingest.read.texts import DECIMAL, only
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


_BASE = 10_000
_PLACES = 4
"""A digit of a numeric stands for four decimal places; the point is always between two digits."""
_NEGATIVE = 0x4000
"""A numeric's sign."""
_LIMB_BITS = 32
"""Decimals are divided in steps of 32 bits, as a remainder and a step then fit into 64."""

_Numbers = npt.NDArray[np.integer[Any]]


def binary_numeric(decimals: pa.Array) -> pa.Array:
    """Each decimal of a column, exactly, as the bytes that COPY BINARY takes for a numeric; null stays null.

    pgpq does not do it: the one that runs on Linux on ARM encodes no decimals, the other only those of one
    scale. What it makes of bytes, their length and themselves, is what COPY wants of any value that is
    encoded already.

    The bytes show the digits behind the point that the type has; of DECIMAL, those that one value needs.
    For the layout see numeric_recv in Postgres' src/backend/utils/adt/numeric.c: it drops zeros on both
    sides, so that all values can be sent with the same digits.
    """
    filled = pc.fill_null(decimals, constant(0, decimals.type)) if decimals.null_count else decimals
    digits, exponent = _digits(pc.abs(filled))
    words = np.empty((len(filled), 4 + len(digits)), ">i2")
    words[:, 0] = len(digits)
    words[:, 1] = exponent + len(digits) - 1
    words[:, 2] = _NEGATIVE * (_steps(filled)[:, -1] >> (_LIMB_BITS - 1))
    words[:, 3] = _scale_needed(digits, exponent) if filled.type == DECIMAL else filled.type.scale
    for place, digit in enumerate(reversed(digits), 4):
        words[:, place] = digit
    encoded = _contents(words)
    return only(encoded, decimals.is_valid()) if decimals.null_count else encoded


def _digits(decimals: pa.Array) -> tuple[list[_Numbers], int]:
    """The digits of numbers without a sign, the last place first; and that place's power of the base."""
    scale = decimals.type.scale
    limbs = _limbs(decimals)
    digits: list[_Numbers] = []
    # The last decimal places may be fewer than a digit stands for.
    divisor = 10 ** (scale % _PLACES or _PLACES)
    while limbs:
        digits.append(_divide(limbs, divisor) * (_BASE // divisor))
        divisor = _BASE
    return digits, -scale // _PLACES + _strip(digits, 0)


def _limbs(decimals: pa.Array) -> list[_Numbers]:
    """The digits of base 2^32, the last place first."""
    limbs = list(_steps(decimals).T.astype(np.uint64))
    _strip(limbs, -1)
    return limbs


def _steps(decimals: pa.Array) -> _Numbers:
    """The bits of each number in steps of 32, the lowest first. The highest of all is the sign."""
    content = np.frombuffer(decimals.buffers()[1], np.uint32)
    return content.reshape(-1, decimals.type.bit_width // _LIMB_BITS)[decimals.offset :][: len(decimals)]


def _divide(limbs: list[_Numbers], divisor: int) -> _Numbers:
    """Divide the numbers in place; what remains of them."""
    remainder = np.zeros_like(limbs[0])
    for place in reversed(range(len(limbs))):
        whole = (remainder << _LIMB_BITS) + limbs[place]
        limbs[place] = whole // divisor
        remainder = whole - limbs[place] * divisor
    _strip(limbs, -1)
    return remainder


def _strip(places: list[_Numbers], end: int) -> int:
    """Drop the places at this end that are zero in all numbers; how many those were."""
    before = len(places)
    while places and not places[end].any():
        del places[end]
    return before - len(places)


def _scale_needed(digits: list[_Numbers], exponent: int) -> int:
    """How many decimal places behind the point the numbers need."""
    if not digits:
        return 0
    zeros = sum(not (digits[0] % 10**places).any() for places in range(1, _PLACES))
    return max(0, -exponent * _PLACES - zeros)


def _contents(rows: npt.NDArray[np.int16]) -> pa.Array:
    """Each row's bytes."""
    ends = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.strides[0])
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(ends), pa.py_buffer(rows)])
