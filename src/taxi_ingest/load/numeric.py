"""Decimals as Postgres' binary numeric, whole columns at a time.

pgpq does not do it: the one that runs on Linux on ARM encodes no decimals, the other only those of one scale.
What it makes of bytes, their length and themselves, is what COPY wants of any value that is encoded already.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.read.constants import constant
from taxi_ingest.read.texts import DECIMAL, only

_BASE = 10_000
_PLACES = 4
"""A digit of a numeric stands for four decimal places; the point is always between two digits."""
_NEGATIVE = 0x4000
_LIMB_BITS = 32
"""Decimals are divided in steps of 32 bits, as a remainder and a step then fit into 64."""

_Numbers = npt.NDArray[np.integer[Any]]


def binary_numeric(decimals: pa.Array) -> pa.Array:
    """Each decimal, exactly, as the bytes that COPY BINARY takes for a numeric; null stays null.

    They show the digits behind the point that their type has; of DECIMAL, those that one of them needs.
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
