"""The types that a CSV's first rows suggest."""

import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest import tlc
from taxi_ingest.read.texts import NUMERIC, parse, without_null_words

_CANDIDATES = (
    pa.int64(),
    pa.float64(),
    NUMERIC,
    pa.bool_(),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
)
"""From the narrowest; what is none of them is text."""

_FEW = 50


def infer_schema(sample: pa.Table) -> pa.Schema:
    """The types that the first rows suggest; text for the columns of a TLC file, as theirs are known."""
    header = frozenset(map(tlc.normalise, sample.schema.names))
    dataset = tlc.recognise(header)
    return pa.schema(
        [
            (
                name,
                pa.string()
                if dataset and dataset.column_of(tlc.normalise(name), header)
                else _type_of(bytes),
            )
            for name, bytes in zip(sample.schema.names, sample.columns, strict=True)
        ]
    )


def _type_of(content: pa.ChunkedArray) -> pa.DataType:
    try:
        return infer(content.cast(pa.string()))
    except pa.ArrowInvalid:
        # Not UTF-8: text, whose bad rows are rejected.
        return pa.string()


def infer(texts: pa.ChunkedArray) -> pa.DataType:
    """The narrowest type that holds each of these values exactly; text where none does, or all are null."""
    values = without_null_words(texts)
    few = values.filter(pc.is_valid(values)).slice(0, _FEW)
    if not len(few):
        return pa.string()
    for type in _CANDIDATES:
        if all(parse(some, type, "guess")[1] is None for some in (few, texts)) and _looks_like(texts, type):
            return type
    return pa.string()


def _looks_like(texts: pa.ChunkedArray, type: pa.DataType) -> bool:
    """`1.0` is no integer by its looks; and without a point or a signed exponent anywhere, `1e5` is rather
    a code than a number."""
    if pa.types.is_integer(type):
        return not _any(texts, r"\.")
    return not pa.types.is_floating(type) or _any(texts, r"\.|[eE][+-]|(?i)inf")


def _any(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())
