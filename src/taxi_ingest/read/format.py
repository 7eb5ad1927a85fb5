"""What a file really is, by its first and last bytes."""

from enum import StrEnum
from pathlib import Path

from taxi_ingest.errors import DataError, SourceError

_DOWNLOAD_AGAIN = "Download it again, and look at what the address really serves."
_UNPACK = "Unpack it and load the file inside."
_EXPORT = "Export it as CSV, and load that."

_MOST_COLUMNS = 2_000
"""What is wider is hardly meant as a table; to look at the values of each column would take minutes."""


class Format(StrEnum):
    """What is read: a CSV, also packed, or Parquet. `csv.gz` is one whatever its name says."""

    CSV = "csv"
    CSV_GZ = "csv.gz"
    CSV_ZST = "csv.zst"
    CSV_XZ = "csv.xz"
    CSV_BZ2 = "csv.bz2"
    CSV_ZIP = "csv.zip"
    PARQUET = "parquet"


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
    """CSV, a packed CSV or Parquet.

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
            return format
    check_text(path.name, start)
    if path.suffix == ".parquet":
        raise SourceError(f"{path.name} is not a Parquet file, whatever its name says.", _DOWNLOAD_AGAIN)
    return Format.CSV


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
            f"{name} has {columns:,} columns, which is more than a table holds.",
            "Leave columns out, or make rows of them.",
        )
