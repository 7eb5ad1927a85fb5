"""The types that a CSV's first rows suggest."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest import tlc
from taxi_ingest.read.texts import DECIMAL, SLASHED, parse, without_null_words

_CANDIDATES = (
    pa.int64(),
    pa.float64(),
    DECIMAL,
    pa.bool_(),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
)
"""From the narrowest; what is none of them is text."""

_FEW = 50

_DAY_FIRST = r"^\s*(1[3-9]|2\d|3[01])/(0?[1-9]|1[0-2])/\d{4}"
_DECIMAL_COMMA = r"^\s*[+-]?(\d+,(\d{1,2}|\d{4,})|\d{1,3}(\.\d{3})+,\d+)\s*$"
_THOUSANDS = r"^\s*[+-]?\d{1,3}(\.\d{3})+\s*$"


@dataclass(frozen=True)
class Guess:
    """What the first rows suggest."""

    schema: pa.Schema
    day_first: bool = False
    """Whether 03/01/2019 is the third of January, as 31/12/2019 stands somewhere."""
    notes: tuple[str, ...] = ()
    thousands: tuple[str, ...] = ()
    """Columns of texts each of which could be a number, but most likely another one than it seems."""


def guess(sample: pa.Table) -> Guess:
    """What rows of texts suggest; text for the columns of a TLC file, as their types are known."""
    header = frozenset(map(tlc.normalise, sample.schema.names))
    dataset = tlc.recognise(header)
    types = {
        name: pa.string()
        if dataset and dataset.column_of(tlc.normalise(name), header)
        else infer(sample.column(name))
        for name in sample.schema.names
    }
    texts = [] if dataset else [sample.column(name) for name, type in types.items() if type == pa.string()]
    day_first, decimal_comma = any(map(shows_day_first, texts)), any(map(shows_decimal_comma, texts))
    notes, thousands = [], []
    for name, type in types.items():
        values = sample.column(name)
        if pa.types.is_temporal(type) and (date := slashed_date(values)):
            if day_first:
                types[name] = pa.string()
            else:
                notes.append(f"Dates such as {date!r} in column {name!r} are read month first.")
        if decimal_comma and not pa.types.is_string(type) and are_thousands(values):
            types[name] = pa.string()
            thousands.append(name)
            notes.append(f"Numbers such as 1.234 in column {name!r} are loaded as text: is that a thousand?")
    return Guess(pa.schema(types), day_first, tuple(notes), tuple(thousands))


def infer(texts: pa.ChunkedArray) -> pa.DataType:
    """The narrowest type that holds each of these values exactly; text where none does, or all are null."""
    values = without_null_words(texts)
    few = values.filter(pc.is_valid(values)).slice(0, _FEW)
    if not len(few):
        return pa.string()
    for type in _CANDIDATES:
        fits = all(parse(some, type, "guess")[1] is None for some in (few, texts))
        if fits and _looks_like(texts, type):
            return type
    return pa.string()


def _looks_like(texts: pa.ChunkedArray, type: pa.DataType) -> bool:
    """`1.0` is no integer by its looks; and without a point or a signed exponent anywhere, `1e5` is rather
    a code than a number."""
    if pa.types.is_integer(type):
        return not _any(texts, r"\.")
    return not pa.types.is_floating(type) or _any(texts, r"\.|[eE][+-]|(?i)inf")


def shows_decimal_comma(texts: pa.ChunkedArray) -> bool:
    """Whether a number such as 12,50 or 1.234,56 is among them, so that 1.234 is rather a thousand."""
    return _any(texts, _DECIMAL_COMMA)


def are_thousands(texts: pa.ChunkedArray) -> bool:
    """Whether each number with a point has three digits behind it."""
    pointed = texts.filter(pc.match_substring(texts, "."))
    return len(pointed) > 0 and not pc.any(pc.invert(pc.match_substring_regex(pointed, _THOUSANDS))).as_py()


def shows_day_first(texts: pa.ChunkedArray) -> bool:
    """Whether a date such as 31/12/2019 is among them, so that 03/01/2019 is the third of January."""
    return _any(texts, _DAY_FIRST)


def slashed_date(texts: pa.ChunkedArray) -> str | None:
    """The first that begins with a date such as 03/01/2019."""
    found = texts.filter(pc.match_substring_regex(texts, SLASHED))
    return found[0].as_py() if len(found) else None


def _any(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())
