"""CSV files, plain or gzipped: quoted or not, CRLF or LF, with blank lines and trailing commas.

A piece is parsed by Arrow with the types asked for. Only a piece that doesn't fit is parsed again as
text, and only one whose rows have the wrong shape is taken apart row by row.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
from isal.igzip import GzipFile
from isal.isal_zlib import IsalError

from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.read.batch import Batch, Layout, Piece, Reject
from taxi_ingest.read.expansion import check_expansion
from taxi_ingest.read.format import Format
from taxi_ingest.read.infer import infer_schema
from taxi_ingest.read.texts import spelled_by_arrow

_SAMPLE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_LONGEST_ROW_BYTES = 64 << 20
_TRAILING = "\0trailing"
_DOWNLOAD_AGAIN = "Download it again."


def inspect_csv(path: Path, format: Format) -> Layout:
    """Header, types that the first megabyte's values suggest, and where the data begins."""
    with _open(path, format) as (file, _):
        sample = file.read(_SAMPLE_BYTES)
        whole = len(sample) < _SAMPLE_BYTES
    header_end = _header_end(sample)
    names = _header_names(sample[:header_end], path)
    data_start = header_end + _blank_prefix(sample[header_end:])
    data = sample[data_start:] if whole else sample[data_start : sample.rfind(b"\n") + 1]
    trailing = _trailing_fields(data, len(names))
    return Layout(
        format=format,
        schema=_infer(data, names, trailing),
        rows=None,
        data_starts_at_line=1 + sample.count(b"\n", 0, data_start),
        data_starts_at_byte=data_start,
        trailing_fields=trailing,
        is_empty=whole and not data.strip(),
    )


def _header_end(sample: bytes) -> int:
    """Bytes of the header: up to the first line end that is not inside quotes."""
    end = sample.find(b"\n") + 1
    while end and sample.count(b'"', 0, end) % 2:
        end = sample.find(b"\n", end) + 1
    return end or len(sample)


def _header_names(line: bytes, path: Path) -> list[str]:
    """The names of a header line, unique and never empty."""
    try:
        fields = next(csv.reader([line.decode("utf-8-sig")]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path.name} has no readable header: {error}.", "Load a CSV in UTF-8, with LF or CRLF line ends."
        ) from error
    names: list[str] = []
    for position, field in enumerate(fields, start=1):
        name = wanted = field.strip() or f"column_{position}"
        while name.lower() in (other.lower() for other in names):
            name = f"{wanted}_{position}"
        names.append(name)
    return names


def _blank_prefix(data: bytes) -> int:
    """Bytes of the blank lines that TLC put behind the header from 2009 to 2018."""
    return len(data) - len(data.lstrip(b"\r\n"))


def _trailing_fields(data: bytes, columns: int) -> int:
    """Fields that the first row has beyond the header's names; 2 in TLC's files of 2013 to 2016."""
    first = data[: data.find(b"\n") + 1 or len(data)].decode("utf-8", "replace")
    try:
        surplus = next(csv.reader([first]), [])[columns:]
    except csv.Error:
        # A damaged row, such as one with a lone carriage return.
        return 0
    return 0 if any(surplus) else len(surplus)


def _infer(data: bytes, names: list[str], trailing: int) -> pa.Schema:
    columns = [*names, *_trailing_names(trailing)]
    try:
        # Not yet as text: what is not UTF-8 makes text of its own column only.
        sample = _arrow_read(data, columns, dict.fromkeys(names, pa.binary()), include=names)
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return pa.schema([(name, pa.string()) for name in names])
    return infer_schema(sample)


def _trailing_names(count: int) -> list[str]:
    return [f"{_TRAILING}{position}" for position in range(count)]


class CsvReader:
    def __init__(
        self, path: Path, layout: Layout, types: Mapping[str, pa.DataType], quoted_newlines: bool
    ) -> None:
        self._path = path
        self._layout = layout
        self._types = dict(types)
        self._quoted_newlines = quoted_newlines

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        line = self._layout.data_starts_at_line
        with _open(self._path, self._layout.format) as (file, position):
            file.read(self._layout.data_starts_at_byte)
            for content in _cut(file, chunk_size, self._quoted_newlines):
                yield Piece(content, first_number=line, position=position())
                line += _newlines(content)

    def parse(self, piece: Piece) -> Batch:
        assert isinstance(piece.content, bytes)
        text = dict.fromkeys(self._types, pa.string())
        # Small blocks stay in the processor's cache; a row that none of them holds makes the piece text.
        for types, block_bytes in ((self._types, _BLOCK_BYTES), (text, len(piece.content) + 1)):
            rows = self._parse_as(piece.content, types, block_bytes)
            if rows is not None:
                return Batch(rows, (), self._locator(piece), piece.position)
        return self._take_apart(piece)

    def _parse_as(self, content: bytes, types: dict[str, pa.DataType], block_bytes: int) -> pa.Table | None:
        """The rows with these types, or None where they don't fit or a row would be lost."""
        if b"\0" in content:
            return None
        trailing = _trailing_names(self._layout.trailing_fields)
        columns = [*self._layout.header, *trailing]
        # A trailing field of type null makes Arrow refuse a row that has a value there.
        types = {**types, **dict.fromkeys(trailing, pa.null())}
        try:
            include = [*self._types, *trailing]
            table = _arrow_read(content, columns, types, include, self._quoted_newlines, block_bytes)
        except pa.ArrowInvalid:
            return None
        lines = _newlines(content) + (not content.endswith(b"\n"))
        if table.num_rows != lines and table.num_rows != len(self._records(content)):
            return None
        if not spelled_by_arrow(content, table):
            return None
        return table.select(list(self._types))

    def _records(self, content: bytes) -> list[tuple[int, int, int]]:
        """Start, end and line (from 0) of each row of a piece; blank lines are none."""
        ends = _row_ends(content, self._quoted_newlines)
        if not len(ends) or ends[-1] != len(content) - 1:
            ends = np.append(ends, len(content))
        starts = np.concatenate(([0], ends[:-1] + 1))
        newlines = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n"))
        lines = np.searchsorted(newlines, starts)
        return [
            (start, end, line)
            for start, end, line in zip(starts.tolist(), ends.tolist(), lines.tolist(), strict=True)
            if content[start:end].strip(b"\r")
        ]

    def _locator(self, piece: Piece) -> Callable[[int], tuple[int, str]]:
        content = piece.content
        records: list[tuple[int, int, int]] = []

        def locate(index: int) -> tuple[int, str]:
            if not records:
                records.extend(self._records(content))
            start, end, line = records[index]
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
            name: pa.array(values, pa.string())
            for name, values in zip(self._layout.header, columns, strict=True)
            if name in self._types
        }
        return Batch(pa.table(texts), tuple(rejects), places.__getitem__, piece.position)

    def _fields(self, raw: bytes) -> list[str | None] | str:
        """A row's values, None for empty ones; or the reason why it is no row."""
        expected = len(self._layout.header)
        if b"\0" in raw:
            return "a NUL byte, which Postgres can't store"
        try:
            fields = next(csv.reader([raw.decode()], strict=True), [])
        except UnicodeDecodeError:
            return "not UTF-8"
        except csv.Error as error:
            return str(error)
        if len(fields) < expected or any(fields[expected:]):
            return f"{len(fields)} fields instead of {expected}"
        return [field or None for field in fields[:expected]]


def _readable(raw: bytes) -> str:
    """A row's text as Postgres can store it: bytes that it can't are shown as escapes."""
    return raw.removesuffix(b"\r").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _arrow_read(
    data: bytes,
    columns: list[str],
    types: Mapping[str, pa.DataType],
    include: list[str],
    quoted_newlines: bool = True,
    block_bytes: int = _BLOCK_BYTES,
) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(data),
        # No threads: pieces are parsed in parallel, not parts of them.
        pacsv.ReadOptions(column_names=columns, use_threads=False, block_size=block_bytes),
        pacsv.ParseOptions(newlines_in_values=quoted_newlines and b'"' in data),
        pacsv.ConvertOptions(
            column_types=dict(types),
            include_columns=include,
            # Only an empty field is null: "N/A" is a borough of TLC's, "NA " one of its payment types.
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _cut(file: BinaryIO, rows: int, quoted_newlines: bool) -> Iterator[bytes]:
    """The rest of a file in pieces of `rows` rows, each cut behind a row's end."""
    pending: list[bytes] = []
    missing = rows
    while block := file.read(_BLOCK_BYTES):
        if quoted_newlines and any(b'"' in part for part in (*pending, block)):
            # Which line ends count depends on all quotes since the piece began.
            block, pending, missing = b"".join([*pending, block]), [], rows
        newlines = _newlines(block)
        while newlines >= missing:
            ends = _row_ends(block, quoted_newlines)
            if len(ends) < missing:
                break
            cut = int(ends[missing - 1]) + 1
            yield b"".join([*pending, block[:cut]])
            pending, block = [], block[cut:]
            newlines, missing = _newlines(block), rows
        pending.append(block)
        missing -= newlines
        if sum(map(len, pending)) > _LONGEST_ROW_BYTES and not any(b"\n" in part for part in pending):
            raise DataError("A row is longer than 64 MB.", "Is this really a CSV file?")
    rest = b"".join(pending)
    if rest.strip(b"\r\n"):
        yield rest


def _newlines(content: bytes) -> int:
    """As `content.count(b"\\n")`, in a quarter of the time."""
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


def _row_ends(content: bytes, quoted_newlines: bool) -> npt.NDArray[np.int64]:
    """Where rows end: each newline, unless it stands inside quotes and those count."""
    array = np.frombuffer(content, np.uint8)
    newlines = np.flatnonzero(array == ord("\n"))
    if quoted_newlines and b'"' in content:
        quotes = np.flatnonzero(array == ord('"'))
        newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
    return newlines


class _Unzipped(GzipFile):
    """A gzipped file that may not expand without measure."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw)  # type: ignore[no-untyped-call]
        self._path = path
        self._stored_bytes = path.stat().st_size
        self._expanded_bytes = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self._expanded_bytes += count
        check_expansion(self._path.name, self._stored_bytes, self._expanded_bytes)
        return count


@contextmanager
def _open(path: Path, format: Format) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The uncompressed bytes, and a function that tells how far into the file on disk they reach."""
    with path.open("rb") as raw:
        if format is Format.CSV:
            yield raw, raw.tell
            return
        try:
            with _Unzipped(path, raw) as unzipped:
                yield io.BufferedReader(unzipped, _BLOCK_BYTES), raw.tell
        except (EOFError, OSError, IsalError) as error:  # type: ignore[misc]  # isal's stub errs
            raise SourceError(f"{path.name} is cut short or damaged: {error}.", _DOWNLOAD_AGAIN) from error
