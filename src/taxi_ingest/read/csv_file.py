"""CSV files, also packed: quoted or not, CRLF or LF, with blank lines and trailing commas.

The types of the columns are those that the first rows suggest. A piece is parsed by Arrow with the types
asked for. Only a piece that doesn't fit is parsed again as text, and only one whose rows have the wrong
shape is taken apart row by row.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from taxi_ingest import tlc
from taxi_ingest.read.constants import text_array
from taxi_ingest.read.csv_header import Header, read_header, whole_rows
from taxi_ingest.read.csv_rows import BLOCK_BYTES, LONGEST_ROW_BYTES, RowRules, cut, row_ends
from taxi_ingest.read.file import (
    Batch,
    Format,
    Layout,
    Piece,
    Reject,
    check_text,
    check_unpacked,
    check_width,
    open_unpacked,
)
from taxi_ingest.read.texts import DECIMAL, SLASHED, parse, spelled_by_arrow, without_null_words

_SAMPLE_BYTES = 1 << 20
_LAST_FIELD = "end"
NOT_UTF8 = "not UTF-8"
"""Why a row is rejected whose bytes are no text."""
_TRAILING = "\0trailing"

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

# Python's csv else refuses fields of 128 KB.
csv.field_size_limit(LONGEST_ROW_BYTES)


@dataclass(frozen=True)
class _Guess:
    """What the first rows suggest."""

    schema: pa.Schema
    day_first: bool = False
    """Whether 03/01/2019 is the third of January, as 31/12/2019 stands somewhere."""
    notes: tuple[str, ...] = ()
    thousands: tuple[str, ...] = ()
    """Columns of texts each of which could be a number, but most likely another one than it seems."""


def inspect_csv(
    path: Path, format: Format, delimiter: str | None = None, has_header: bool | None = None
) -> Layout:
    """What the first megabyte tells: the header, how the file is written, the types of its values."""
    with open_unpacked(path, format) as (file, _):
        sample = file.read(_SAMPLE_BYTES)
        whole = len(sample) < _SAMPLE_BYTES
    (check_text if format is Format.CSV else check_unpacked)(path.name, sample[:4096])
    header = read_header(sample, whole, path.name, delimiter, has_header)
    check_width(path.name, len(header.names))
    start, line_end = header.data_starts_at_byte, header.rules.line_end
    rows = whole_rows(sample[start:], whole, header.rules)
    guessed = _guess(rows, header)
    return Layout(
        format=format,
        schema=guessed.schema,
        rows=None,
        data_starts_at_line=1 + sample.count(line_end, 0, start),
        data_starts_at_byte=start,
        blank_lines=header.blank_lines,
        trailing_fields=header.trailing_fields,
        is_empty=whole and not rows.strip(),
        delimiter=header.rules.delimiter,
        line_end=line_end,
        day_first=guessed.day_first,
        thousands=guessed.thousands,
        notes=(*header.notes, *guessed.notes),
    )


def _guess(data: bytes, header: Header) -> _Guess:
    names, rules = list(header.names), header.rules
    columns = [*names, *_trailing_names(header.trailing_fields)]
    texts = dict.fromkeys(names, pa.string())
    # What is not UTF-8 is text whose bad rows are rejected.
    sound = _sound(data, rules).decode("utf-8", "replace").encode()
    try:
        rows = _arrow_read(sound, columns, texts, names, rules, on_ragged=_left_out)
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return _Guess(pa.schema(texts))
    return _guess_types(rows)


def _sound(data: bytes, rules: RowRules) -> bytes:
    """Without the rows whose quotes are unsound: they are rejected, and say nothing about types."""
    found = row_ends(data, rules)
    if not found.damaged:
        return data
    ends = found.ends.tolist()
    if not ends or ends[-1] != len(data) - 1:
        ends.append(len(data))
    rows = zip([0, *(end + 1 for end in ends)], ends, strict=False)
    damaged = set(found.damaged)
    return b"".join(data[start : end + 1] for start, end in rows if end not in damaged)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _left_out(_: pacsv.InvalidRow) -> str:
    return "skip"


def _guess_types(sample: pa.Table) -> _Guess:
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
    day_first, decimal_comma = any(map(shows_day_first, texts)), any(map(_shows_decimal_comma, texts))
    notes, thousands = [], []
    for name, type in types.items():
        values = sample.column(name)
        if pa.types.is_temporal(type) and (date := _slashed_date(values)):
            if day_first:
                types[name] = pa.string()
            else:
                notes.append(f"Dates such as {date!r} in column {name!r} are read month first.")
        if decimal_comma and not pa.types.is_string(type) and _are_thousands(values):
            types[name] = pa.string()
            thousands.append(name)
            notes.append(f"Numbers such as 1.234 in column {name!r} are loaded as text: is that a thousand?")
    return _Guess(pa.schema(types), day_first, tuple(notes), tuple(thousands))


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


def _shows_decimal_comma(texts: pa.ChunkedArray) -> bool:
    """Whether a number such as 12,50 or 1.234,56 is among them, so that 1.234 is rather a thousand."""
    return _any(texts, _DECIMAL_COMMA)


def _are_thousands(texts: pa.ChunkedArray) -> bool:
    """Whether each number with a point has three digits behind it."""
    pointed = texts.filter(pc.match_substring(texts, "."))
    return len(pointed) > 0 and not pc.any(pc.invert(pc.match_substring_regex(pointed, _THOUSANDS))).as_py()


def shows_day_first(texts: pa.ChunkedArray) -> bool:
    """Whether a date such as 31/12/2019 is among them, so that 03/01/2019 is the third of January."""
    return _any(texts, _DAY_FIRST)


def _slashed_date(texts: pa.ChunkedArray) -> str | None:
    """The first that begins with a date such as 03/01/2019."""
    found = texts.filter(pc.match_substring_regex(texts, SLASHED))
    return found[0].as_py() if len(found) else None


def _any(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _trailing_names(count: int) -> list[str]:
    return [f"{_TRAILING}{position}" for position in range(count)]


def ends_within_a_line(path: Path, layout: Layout) -> bool:
    """Whether the last line has no end."""
    last = b""
    with open_unpacked(path, layout.format) as (file, _):
        if layout.format is Format.CSV:
            file.seek(-1, os.SEEK_END)
        while block := file.read(BLOCK_BYTES):
            last = block
    return not last.endswith(layout.line_end)


class CsvReader:
    """Reads the rows of a CSV with the types that they are taken to have.

    `types` has all columns in the file's order; with `quoted_newlines` a quoted value may hold line ends.
    """

    def __init__(
        self, path: Path, layout: Layout, types: Mapping[str, pa.DataType], quoted_newlines: bool
    ) -> None:
        self._path = path
        self._layout = layout
        self._types = dict(types)
        self._rules = RowRules(layout.delimiter, layout.line_end, quoted_newlines)

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        """The file unpacked and cut, about `chunk_size` whole rows at a time."""
        line = self._layout.data_starts_at_line
        with open_unpacked(self._path, self._layout.format) as (file, position):
            file.read(self._layout.data_starts_at_byte)
            for rows in cut(file, chunk_size, self._rules):
                yield Piece(rows.content, first_number=line, position=position(), lines=rows.lines)
                line += rows.lines

    def parse(self, piece: Piece) -> Batch:
        """The rows of a piece, by Arrow where it can; those that it can't represent are rejects."""
        assert isinstance(piece.content, bytes)
        if self._is_for_arrow(piece.content):
            text = dict.fromkeys(self._types, pa.string())
            # Small blocks stay in the processor's cache; a row that none of them holds makes the piece text.
            for types, block_bytes, may_be_ragged in (
                (self._types, BLOCK_BYTES, False),
                (self._types, BLOCK_BYTES, True),
                (text, len(piece.content) + 1, True),
            ):
                batch = self._parse_as(piece, types, block_bytes, may_be_ragged)
                if batch is not None:
                    return batch
        return self._take_apart(piece)

    def _is_for_arrow(self, content: bytes) -> bool:
        """Whether the number of rows can tell if Arrow sees the same rows as we.

        Arrow ends a row at a lone CR too; beside a stray quote, which makes one row of two, the number
        would be right and the rows wrong.
        """
        if b"\0" in content:
            return False
        if b'"' not in content or b"\r" not in content or self._rules.line_end == b"\r":
            return True
        array = np.frombuffer(content, np.uint8)
        newlines = np.flatnonzero(array == ord("\n"))
        behind_cr = np.count_nonzero(array[newlines[newlines > 0] - 1] == ord("\r"))
        return bool(np.count_nonzero(array == ord("\r")) == behind_cr)

    def _parse_as(
        self, piece: Piece, types: dict[str, pa.DataType], block_bytes: int, may_be_ragged: bool
    ) -> Batch | None:
        """The rows with these types, or None where they don't fit or a row would be lost."""
        content = piece.content
        trailing = _trailing_names(self._layout.trailing_fields)
        columns = [*self._layout.header, *trailing]
        # A trailing field of type null makes Arrow refuse a row that has a value there.
        types = {**types, **dict.fromkeys(trailing, pa.null())}
        ragged: list[pacsv.InvalidRow] = []

        def leave_out(row: pacsv.InvalidRow) -> str:
            ragged.append(row)
            return "skip"

        try:
            include = [*self._types, *trailing]
            # Arrow can't hand over a row that is not UTF-8.
            on_ragged = leave_out if may_be_ragged and _is_utf8(content) else None
            table = _arrow_read(content, columns, types, include, self._rules, block_bytes, on_ragged)
        except pa.ArrowInvalid:
            return None
        table = table.select(list(self._types))
        if not spelled_by_arrow(content, table):
            return None
        if ragged:
            return self._without(ragged, table, piece)
        lines = piece.lines + (not content.endswith(self._rules.line_end))
        if table.num_rows != lines and table.num_rows != len(self._records(content)):
            return None
        return Batch(table, (), self._locator(piece))

    def _without(self, ragged: list[pacsv.InvalidRow], table: pa.Table, piece: Piece) -> Batch | None:
        """The rows but for those that have another number of fields; None where that is not sure."""
        records = self._records(piece.content)
        if table.num_rows + len(ragged) != len(records):
            return None
        rejects = []
        for row in ragged:
            start, end, line = records[row.number - 1]
            raw = piece.content[start:end].removesuffix(b"\r")
            reason = self._fields(raw)
            if not isinstance(reason, str):
                return None
            rejects.append(Reject(piece.first_number + line, None, reason, _readable(raw)))
        left_out = {row.number - 1 for row in ragged}
        kept = [record for index, record in enumerate(records) if index not in left_out]
        return Batch(table, tuple(rejects), self._locator(piece, kept))

    def _records(self, content: bytes) -> list[tuple[int, int, int]]:
        """Start, end and line (from 0) of each row of a piece; blank lines are none."""
        ends = row_ends(content, self._rules).ends
        if not len(ends) or ends[-1] != len(content) - 1:
            ends = np.append(ends, len(content))
        starts = np.concatenate(([0], ends[:-1] + 1))
        newlines = np.flatnonzero(np.frombuffer(content, np.uint8) == self._rules.line_end[0])
        lines = np.searchsorted(newlines, starts)
        return [
            (start, end, line)
            for start, end, line in zip(starts.tolist(), ends.tolist(), lines.tolist(), strict=True)
            if content[start:end].strip(b"\r")
        ]

    def _locator(
        self, piece: Piece, records: list[tuple[int, int, int]] | None = None
    ) -> Callable[[int], tuple[int, str]]:
        content = piece.content
        known = list(records or ())

        def locate(index: int) -> tuple[int, str]:
            if not known:
                known.extend(self._records(content))
            start, end, line = known[index]
            return piece.first_number + line, _readable(content[start:end])

        return locate

    def _take_apart(self, piece: Piece) -> Batch:
        """A piece row by row: what has the header's number of fields is a row, all else is rejected."""
        rows: list[list[str | None]] = []
        places: list[tuple[int, str]] = []
        rejects: list[Reject] = []
        for start, end, line in self._records(piece.content):
            raw = piece.content[start:end].removesuffix(b"\r")
            number = piece.first_number + line
            fields = self._fields(raw)
            if isinstance(fields, str):
                rejects.append(Reject(number, None, fields, _readable(raw)))
            else:
                rows.append(fields)
                places.append((number, _readable(raw)))
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(self._layout.header)
        texts = {
            name: text_array(values)
            for name, values in zip(self._layout.header, columns, strict=True)
            if name in self._types
        }
        return Batch(pa.table(texts), tuple(rejects), places.__getitem__)

    def _fields(self, raw: bytes) -> list[str | None] | str:
        """A row's values, None for empty ones; or the reason why it is no row."""
        expected, delimiter = len(self._layout.header), self._rules.delimiter
        if b"\0" in raw:
            return "a NUL byte, which is no text"
        try:
            # Not strict, as Arrow isn't: `"a"b` is ab. A quote that stays open swallows the last field.
            *fields, last = next(csv.reader([raw.decode() + delimiter + _LAST_FIELD], delimiter=delimiter))
        except UnicodeDecodeError:
            return NOT_UTF8
        except csv.Error as error:
            return str(error)
        if last != _LAST_FIELD:
            return "a quote that is not closed"
        if len(fields) < expected or any(fields[expected:]):
            return f"{len(fields)} fields instead of {expected}"
        return [field or None for field in fields[:expected]]


def _readable(raw: bytes) -> str:
    """A row's text; bytes that are none are shown as escapes."""
    return raw.removesuffix(b"\r").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _arrow_read(
    data: bytes,
    columns: list[str],
    types: Mapping[str, pa.DataType],
    include: list[str],
    rules: RowRules,
    block_bytes: int = BLOCK_BYTES,
    on_ragged: Callable[[pacsv.InvalidRow], str] | None = None,
) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(data),
        # No threads: pieces are parsed in parallel, not parts of them.
        pacsv.ReadOptions(column_names=columns, use_threads=False, block_size=block_bytes),
        pacsv.ParseOptions(
            delimiter=rules.delimiter,
            newlines_in_values=rules.quoted_newlines and b'"' in data,
            invalid_row_handler=on_ragged,
        ),
        pacsv.ConvertOptions(
            column_types=dict(types),
            include_columns=include,
            # Only an empty field is null: "N/A" is a borough of TLC's, "NA " one of its payment types.
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
