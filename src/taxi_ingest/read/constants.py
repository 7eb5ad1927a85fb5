"""A few of Python's and numpy's values as Arrow's, and back, without pandas.

`pa.scalar` and `pa.array` import pandas, for 0.2 s and 30 MB, to learn whether what they are given is one of
its things; so does a function of `pc` with a number of Python's, and `to_numpy`.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_TYPES: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
}


def text_array(values: Sequence[str | None]) -> pa.StringArray:
    """Texts as an array."""
    encoded = [(value or "").encode() for value in values]
    ends = np.array([0, *accumulate(map(len, encoded))], np.int32)
    valid = np.packbits(np.array([value is not None for value in values], np.bool_), bitorder="little")
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)), pa.py_buffer(valid)
    )


def constant(value: bool | int | float | str, type: pa.DataType | None = None) -> pa.Scalar:
    """A value as a scalar of a type, by default that which Arrow has for Python's own."""
    return text_array((str(value),))[0].cast(type or _TYPES[value.__class__])


def from_numpy(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers, or truths, as an array."""
    if values.dtype == np.bool_:
        return from_numpy(values.view(np.uint8)).cast(pa.bool_())
    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, content])


def to_numpy(values: pa.ChunkedArray, null: float) -> npt.NDArray[Any]:
    """Numbers, with this one where they are null."""
    filled: npt.NDArray[Any] = np.from_dlpack(
        pc.fill_null(values, constant(null, values.type)).combine_chunks()
    )
    return filled
