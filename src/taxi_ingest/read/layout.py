"""The values that travel out of a reader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from taxi_ingest.read.format import Format


@dataclass(frozen=True)
class Layout:
    """What a first look at a file tells."""

    format: Format
    schema: pa.Schema
    """The columns in the file's order: a Parquet file's types, or those a CSV's first rows suggest."""
    rows: int | None
    """Rows in the file where its footer says so (Parquet)."""
    data_starts_at_line: int = 1
    """The number of the first row's line (CSV)."""
    data_starts_at_byte: int = 0
    """Uncompressed bytes before that line (CSV)."""
    blank_lines: int = 0
    """Blank lines behind the header (CSV)."""
    trailing_fields: int = 0
    """Empty fields at the end of each row for which the header has no name (CSV)."""
    is_empty: bool = False
    """Whether there are no rows behind the header."""
    delimiter: str = ","
    line_end: bytes = b"\n"
    """LF, or CR in a CSV that has no LF."""
    day_first: bool = False
    """Whether 03/01/2019 is the third of January in this file (CSV)."""
    thousands: tuple[str, ...] = ()
    """Columns whose texts stay texts, though each could be a number (CSV)."""
    notes: tuple[str, ...] = ()
    """What was found out about a CSV that its reader should know."""

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(map(str, self.schema.names))


@dataclass(frozen=True)
class Reject:
    """A row that can't be represented, kept whole."""

    number: int
    """Its line in a CSV (from 1), its row in a Parquet file (from 1)."""
    column: str | None
    reason: str
    raw: str


def readable(value: pa.Scalar) -> object:
    """A value as Python has it, or what can be shown of it: Python has no years beyond 9999, and no text
    that isn't UTF-8."""
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        if isinstance(value, pa.StringScalar | pa.LargeStringScalar | pa.StringViewScalar):
            return value.as_buffer().to_pybytes().decode("utf-8", "backslashreplace")
        return f"{getattr(value, 'value', '?')} as {value.type}"


@dataclass(frozen=True)
class Piece:
    """A part of a file, cut off but not yet parsed."""

    content: bytes | pa.RecordBatch
    first_number: int
    """The number (see Reject) of its first line or row."""
    position: int
    """Bytes of the file (as it lies on disk) read so far."""


@dataclass(frozen=True)
class Batch:
    """A parsed piece: its rows, and those that were not even rows."""

    rows: pa.Table
    rejects: tuple[Reject, ...]
    locate: Callable[[int], tuple[int, str]]
    """From the index of a row in `rows` to its number and raw text, for a reject."""

    @property
    def rows_read(self) -> int:
        return int(self.rows.num_rows) + len(self.rejects)


class Reader(Protocol):
    """What reads a file of one format."""

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        """The file from its start, in order, at most `chunk_size` rows each. For one thread."""

    def parse(self, piece: Piece) -> Batch:
        """A piece's rows. For any number of threads."""
