"""What a file really is, by its first and last bytes."""

from enum import StrEnum
from pathlib import Path

from taxi_ingest.errors import SourceError

_DOWNLOAD_AGAIN = "Download it again, and look at what the address really serves."


class Format(StrEnum):
    CSV = "csv"
    CSV_GZ = "csv.gz"
    PARQUET = "parquet"


_NOT_DATA = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the data itself",
        "Fetch the data with `git lfs pull`.",
    ),
    (b"<<<<<<<", "has Git's conflict markers in it", "Resolve the conflict, or fetch the file anew."),
    (b"<", "is an HTML or XML page, not data", _DOWNLOAD_AGAIN),
    (b"PK\x03\x04", "is a zip archive", "Unpack it and load the file inside."),
    (b"BZh", "is packed with bzip2", "Unpack it and load the file inside."),
    (b"\xfd7zXZ", "is packed with xz", "Unpack it and load the file inside."),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd", "Unpack it and load the file inside."),
    (b"{", "looks like JSON, not CSV", "Load CSV, CSV.gz or Parquet."),
)


def detect_format(path: Path) -> Format:
    """CSV, CSV.gz or Parquet.

    Raises SourceError for an empty file, for what is no table, and for a Parquet file whose end is
    missing: https://parquet.apache.org/docs/file-format/ puts `PAR1` at both ends.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(max(path.stat().st_size - 4, 0))
        end = file.read(4)
    if not start.strip():
        raise SourceError(f"{path.name} is empty.", _DOWNLOAD_AGAIN)
    if start.startswith(b"PAR1"):
        _check_footer(path, end)
        return Format.PARQUET
    if start.startswith(b"\x1f\x8b"):
        return Format.CSV_GZ
    _check_text(path, start)
    return Format.CSV


def _check_footer(path: Path, end: bytes) -> None:
    if end != b"PAR1" or path.stat().st_size < 12:
        raise SourceError(
            f"{path.name} is a Parquet file without its footer: the download was cut short.", _DOWNLOAD_AGAIN
        )


def _check_text(path: Path, start: bytes) -> None:
    for prefix, what, hint in _NOT_DATA:
        if start.lstrip().startswith(prefix):
            raise SourceError(f"{path.name} {what}.", hint)
    if path.suffix == ".parquet":
        raise SourceError(f"{path.name} is not a Parquet file, whatever its name says.", _DOWNLOAD_AGAIN)
    if b"\0" in start.partition(b"\n")[0]:
        raise SourceError(f"{path.name} is neither CSV nor Parquet.", _DOWNLOAD_AGAIN)
