"""The bytes of a CSV file, unpacked while they are read: nothing is written to disk.

What an archive made to fill memory or disk (a "bomb") could endanger is bounded where it is held: a row
and a piece in rows.py, xz's dictionary here. How far real data expands is nobody's business: ten million
rows of zeros are rows.
"""

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
from isal.igzip import GzipFile
from isal.isal_zlib import IsalError

from taxi_ingest.errors import SourceError
from taxi_ingest.read.format import Format

_BUFFER_BYTES = 1 << 20
_XZ_MEMORY_BYTES = 512 << 20
"""`xz -9` needs 65 MB to unpack; its manual page lists what each level does."""
_DAMAGE = (EOFError, OSError, IsalError, lzma.LZMAError, zlib.error, zipfile.BadZipFile)
_NAMES_SHOWN = 5


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
