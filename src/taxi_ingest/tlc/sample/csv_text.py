"""Rows as TLC's CSVs spell them, made column by column."""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.tlc.sample.eras import Era, Field


def header(era: Era) -> bytes:
    """The first line, and what lies between it and the first row."""
    quote = '"' if era.quoted else ""
    return (",".join(f"{quote}{field.name}{quote}" for field in era.fields) + era.header_end).encode()


def lines(era: Era, rows: pa.Table) -> memoryview:
    """The text of some rows."""
    columns = [_texts(era, *pair) for pair in zip(era.fields, rows.columns, strict=True)]
    rest = "," * (era.width - len(era.fields)) + era.row_end
    # A null is no text between two commas.
    joined = pc.binary_join_element_wise(*columns, ",", null_handling="replace")
    ended = pc.binary_join_element_wise(joined, rest, "")
    # Arrow keeps an array's texts one behind the other, which is what a file needs.
    _, offsets, text = ended.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return memoryview(text)[ends[0] : ends[len(ended)]]


def _texts(era: Era, field: Field, values: pa.ChunkedArray) -> pa.Array:
    """A column as text, null where a field stays empty."""
    array = values.combine_chunks()
    if pa.types.is_floating(array.type):
        array = _spelled(array, STYLES[era.style][_kind(field)])
    elif pa.types.is_timestamp(array.type):
        # Without the fraction that a cast writes for microseconds.
        array = array.cast(pa.timestamp("s"))
    texts = array.cast(pa.string())
    if era.quoted == "all" or era.quoted == field.column.type:
        return pc.binary_join_element_wise('"', texts, '"', "", null_handling="replace")
    return texts


def _spelled(values: pa.Array, spell: Callable[[float], str]) -> pa.Array:
    """Numbers as text; each different one is spelled once."""
    different = values.dictionary_encode()
    texts = [spell(value) for value in different.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(different.indices)


def _kind(field: Field) -> str:
    if field.column.snake.endswith("itude"):
        return "degrees"
    return "miles" if field.column.snake in ("trip_distance", "trip_miles") else "others"


def _all_digits(value: float) -> str:
    """`2.63` as `2.6299999999999999`: what the double is, as far as it matters."""
    return f"{value:.17g}"


def _single(value: float) -> str:
    """The double that is nearest among the singles: `-73.993896484375`."""
    return f"{float(np.float32(value)):.17g}"


def _no_zero(value: float) -> str:
    """`.95` and `2.10`."""
    return f"{value:.2f}".removeprefix("0")


def _short(value: float) -> str:
    """`9`, `0.5` and `12.35`."""
    return f"{value:.10g}"


STYLES: Mapping[str, Mapping[str, Callable[[float], str]]] = {
    "doubles": {"degrees": _all_digits, "miles": _all_digits, "others": _all_digits},
    "decimals": {"degrees": _single, "miles": _no_zero, "others": _short},
    "exports": {"degrees": repr, "miles": repr, "others": repr},
}
"""How an era writes numbers: 2009-2014 as doubles, then as decimals; `exports` is how pandas does."""
