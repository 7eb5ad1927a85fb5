"""What files of all formats share: how their format is found, their bytes, and what a reader gives of them.

A format is found by the first and last bytes. A CSV is unpacked while it is read: nothing is written to disk.
What an archive made to fill memory or disk (a "bomb") could endanger is bounded where it is held: a row and a
piece in csv_rows.py, xz's dictionary here. How far real data expands is nobody's business: ten million rows
of zeros are rows.
"""

import bz2
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
from isal.igzip import GzipFile
from isal.isal_zlib import IsalError

from taxi_ingest.errors import DataError, SourceError

_BUFFER_BYTES = 1 << 20
_XZ_MEMORY_BYTES = 512 << 20
"""`xz -9` needs 65 MB to unpack; its manual page lists what each level does."""
_DAMAGE = (EOFError, OSError, IsalError, lzma.LZMAError, zlib.error, zipfile.BadZipFile)
_NAMES_SHOWN = 5

_DOWNLOAD_AGAIN = "Download it again, and look at what the address really serves."
_UNPACK = "Unpack it and load the file inside."
_EXPORT = "Export it as CSV, and load that."

_MOST_COLUMNS = 2_000
"""What is wider is hardly meant as a table; to look at the values of each column would take minutes."""


class Format(StrEnum):
    """What is read: a CSV, also packed, Parquet, or outlines. `csv.gz` is one whatever its name says."""

    CSV = "csv"
    CSV_GZ = "csv.gz"
    CSV_ZST = "csv.zst"
    CSV_XZ = "csv.xz"
    CSV_BZ2 = "csv.bz2"
    CSV_ZIP = "csv.zip"
    PARQUET = "parquet"
    SHAPEFILE = "shapefile"
    GEOJSON = "geojson"

    @property
    def is_csv(self) -> bool:
        """Whether it is a CSV, packed or not."""
        return self.startswith(Format.CSV)


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
        """The names of the columns, in the file's order."""
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
    lines: int = 0
    """How many line ends a CSV has in this part."""


@dataclass(frozen=True)
class Batch:
    """A parsed piece: its rows, and those that were not even rows."""

    rows: pa.Table
    rejects: tuple[Reject, ...]
    locate: Callable[[int], tuple[int, str]]
    """From the index of a row in `rows` to its number and raw text, for a reject."""

    @property
    def rows_read(self) -> int:
        """The rows of the piece: those that can be represented and the rejects."""
        return int(self.rows.num_rows) + len(self.rejects)


def batch_of(piece: Piece) -> Batch:
    """The rows of a piece that is parsed already."""
    table = pa.Table.from_batches([piece.content])

    def locate(index: int) -> tuple[int, str]:
        row = {name: readable(table.column(name)[index]) for name in table.schema.names}
        return piece.first_number + index, json.dumps(row, default=str)

    return Batch(table, (), locate)


class Reader(Protocol):
    """What reads a file of one format."""

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        """The file from its start, in order, at most `chunk_size` rows each. For one thread."""

    def parse(self, piece: Piece) -> Batch:
        """A piece's rows. For any number of threads."""


_PACKED = (
    (b"\x1f\x8b", Format.CSV_GZ),
    (b"\x28\xb5\x2f\xfd", Format.CSV_ZST),
    (b"\xfd7zXZ\x00", Format.CSV_XZ),
    (b"BZh", Format.CSV_BZ2),
    (b"PK\x03\x04", Format.CSV_ZIP),
    (b"PK\x05\x06", Format.CSV_ZIP),
)

_NOT_DATA = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the data itself",
        "Fetch the data with `git lfs pull`.",
    ),
    (b"<<<<<<<", "has Git's conflict markers in it", "Resolve the conflict, or fetch the file anew."),
    (b"<", "is an HTML or XML page, not data", _DOWNLOAD_AGAIN),
    (b"{", "looks like JSON, not CSV", "Load CSV or Parquet."),
    (b"[{", "looks like JSON, not CSV", "Load CSV or Parquet."),
    (b"%PDF", "is a PDF document", _DOWNLOAD_AGAIN),
    (b"\xd0\xcf\x11\xe0", "is an old Excel workbook", _EXPORT),
    (b"SQLite format 3", "is an SQLite database", _EXPORT),
    (b"ARROW1", "is an Arrow file", "Write it as Parquet, and load that."),
    (b"ORC", "is an ORC file", "Write it as Parquet, and load that."),
    (b"Obj\x01", "is an Avro file", "Write it as Parquet, and load that."),
    (b"7z\xbc\xaf\x27\x1c", "is packed with 7-Zip", _UNPACK),
    (b"Rar!\x1a\x07", "is packed with RAR", _UNPACK),
    (b"\x04\x22\x4d\x18", "is packed with lz4", _UNPACK),
    (b"\x1f\x9d", "is packed with compress", _UNPACK),
)
"""Beginnings that no CSV has (https://en.wikipedia.org/wiki/List_of_file_signatures)."""


def detect_format(path: Path) -> Format:
    """CSV, a packed CSV, Parquet, a zipped shapefile or GeoJSON.

    Raises SourceError for an empty file, for what is no table, and for a Parquet file whose end is
    missing: https://parquet.apache.org/docs/file-format/ puts `PAR1` at both ends.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(max(path.stat().st_size - 4, 0))
        end = file.read(4)
    if start.startswith(b"PAR1"):
        _check_footer(path, end)
        return Format.PARQUET
    for prefix, format in _PACKED:
        if start.startswith(prefix):
            return Format.SHAPEFILE if format is Format.CSV_ZIP and _holds_shapes(path) else format
    if start.lstrip().startswith(b"{") and b'"FeatureCollection"' in start:
        return Format.GEOJSON
    check_text(path.name, start)
    if path.suffix == ".parquet":
        raise SourceError(f"{path.name} is not a Parquet file, whatever its name says.", _DOWNLOAD_AGAIN)
    return Format.CSV


def _holds_shapes(path: Path) -> bool:
    """Whether a zip archive holds a shapefile; what is wrong with one that can't be read is found later."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.lower().endswith(".shp") for name in archive.namelist())
    except _DAMAGE:  # type: ignore[misc]  # isal's stub errs
        return False


def _check_footer(path: Path, end: bytes) -> None:
    if end != b"PAR1" or path.stat().st_size < 12:
        raise SourceError(
            f"{path.name} is a Parquet file without its footer: the download was cut short.", _DOWNLOAD_AGAIN
        )


def check_unpacked(name: str, start: bytes) -> None:
    """Raise SourceError where the bytes that came out of a packed file don't begin like a CSV."""
    if start.startswith((b"PAR1", *(prefix for prefix, _ in _PACKED))):
        raise SourceError(f"{name} holds a file that is itself Parquet or packed.", _UNPACK)
    check_text(name, start)


def check_text(name: str, start: bytes) -> None:
    """Raise SourceError where a file doesn't begin like a CSV, DataError where it is not UTF-8's kind."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or _zeros_alternate(start):
        raise DataError(
            f"{name} is UTF-16 text; taxi-ingest reads UTF-8.",
            "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE.",
        )
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise SourceError(f"{name} is empty.", _DOWNLOAD_AGAIN)
    for prefix, what, hint in _NOT_DATA:
        if text.startswith(prefix):
            raise SourceError(f"{name} {what}.", hint)
    if b"\0" in text.partition(b"\n")[0]:
        raise SourceError(f"{name} is neither CSV nor Parquet.", _DOWNLOAD_AGAIN)


def _zeros_alternate(start: bytes) -> bool:
    """Whether every second byte is zero, as in UTF-16 text of a European language without its mark."""
    pairs = start[: len(start) & ~1][:64]
    return len(pairs) >= 4 and (
        (not any(pairs[1::2]) and all(pairs[::2])) or (not any(pairs[::2]) and all(pairs[1::2]))
    )


def check_width(name: str, columns: int) -> None:
    """Raise DataError for more columns than are looked at."""
    if columns > _MOST_COLUMNS:
        raise DataError(
            f"{name} has {columns:,} columns, which is more than any table holds.",
            "Leave columns out, or make rows of them.",
        )


@contextmanager
def open_unpacked(path: Path, format: Format) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The unpacked bytes, and a function that tells how far into the file on disk they reach.

    Raises SourceError, also while they are read, for what is damaged, cut short or not one file.
    """
    with path.open("rb") as raw:
        if format is Format.CSV:
            yield raw, raw.tell
            return
        try:
            with _UNPACKERS[format](raw, path.name) as unpacked:
                yield unpacked, raw.tell
        except _DAMAGE as error:  # type: ignore[misc]  # isal's stub errs
            raise SourceError(
                f"{path.name} is cut short or damaged: {error}.", "Download it again."
            ) from error


class _Streams(io.RawIOBase):
    """Packed streams one after the other, with nothing else between or behind them but zeros.

    bz2's and lzma's own files silently end where a second stream is damaged.
    """

    def __init__(self, raw: BinaryIO, decompressor: Callable[[], Any]) -> None:
        self._raw = raw
        self._new = decompressor
        self._stream = decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._next_stream()
                if not packed:
                    return 0
                self._stream = self._new()
            elif self._stream.needs_input:
                packed = self._raw.read(_BUFFER_BYTES)
                if not packed:
                    raise EOFError("its end is missing")
            if content := self._stream.decompress(packed, len(buffer)):
                buffer[: len(content)] = content
                return len(content)

    def _next_stream(self) -> bytes:
        """The first bytes behind a stream's end and the padding that xz allows there."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed and (block := self._raw.read(_BUFFER_BYTES)):
            packed = block.lstrip(b"\0")
        return cast(bytes, packed)


def _gzip(raw: BinaryIO, _: str) -> BinaryIO:
    return cast(BinaryIO, GzipFile(fileobj=raw))  # type: ignore[no-untyped-call]


def _zstd(raw: BinaryIO, _: str) -> BinaryIO:
    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))


def _xz(raw: BinaryIO, _: str) -> BinaryIO:
    return cast(BinaryIO, _Streams(raw, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)))


def _bzip2(raw: BinaryIO, _: str) -> BinaryIO:
    return cast(BinaryIO, _Streams(raw, bz2.BZ2Decompressor))


def _zip(raw: BinaryIO, name: str) -> BinaryIO:
    """The one file in a zip archive; what macOS adds to those that it makes does not count."""
    archive = zipfile.ZipFile(raw)
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    names = [member.filename for member in members]
    if "[Content_Types].xml" in names:
        raise SourceError(f"{name} is an Excel workbook.", "Export it as CSV, and load that.")
    if len(members) != 1:
        shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) + (", …" if len(names) > _NAMES_SHOWN else "")
        raise SourceError(
            f"{name} is a zip archive of {len(members)} files{': ' * bool(names)}{shown}.",
            "Unpack it and load the files one by one.",
        )
    if members[0].flag_bits & 1:
        raise SourceError(f"{name} is encrypted.", "Unpack it and load the file inside.")
    try:
        return cast(BinaryIO, archive.open(members[0]))
    except NotImplementedError as error:
        raise SourceError(
            f"{name} is packed in a way that Python can't unpack: {error}.",
            "Unpack it and load the file inside.",
        ) from error


_UNPACKERS: dict[Format, Callable[[BinaryIO, str], BinaryIO]] = {
    Format.CSV_GZ: lambda raw, name: _buffered(_gzip(raw, name)),
    Format.CSV_ZST: lambda raw, name: _buffered(_zstd(raw, name)),
    Format.CSV_XZ: lambda raw, name: _buffered(_xz(raw, name)),
    Format.CSV_BZ2: lambda raw, name: _buffered(_bzip2(raw, name)),
    Format.CSV_ZIP: _zip,
}


def _buffered(unpacked: BinaryIO) -> BinaryIO:
    """With reads that are short only at the end."""
    return cast(BinaryIO, io.BufferedReader(unpacked, _BUFFER_BYTES))
