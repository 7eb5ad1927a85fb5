"""Standard input and other pipes, which can be read only once: kept in a file."""

import errno
import hashlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.sources.address import STDIN, file_name, local_path, named_url, pipe_url
from taxi_ingest.sources.cache import Cache, storing
from taxi_ingest.sources.source import SourceFile

_BLOCK_BYTES = 1 << 20


def check_stdin(source: str) -> None:
    """Raise UsageError if standard input is the source, and nothing can come from there."""
    if named_url(source) != pipe_url(STDIN):
        return
    # Python has none if it was closed.
    if sys.stdin is None:
        raise UsageError("--url - reads standard input, which is closed.", "Pipe the file into it.")
    if sys.stdin.isatty():
        raise UsageError(
            "--url - reads standard input, which is a terminal.", "Pipe the file into it: … | taxi-ingest …"
        )


def spooled(source: str, folder: Path, cache: Cache) -> SourceFile:
    """Keep what comes from a pipe in `folder`, until its end. Its address is what it contains.

    Raises SourceError where it is empty, can't be read, or the disk has no room for it.
    """
    url = named_url(source)
    content = folder / "content"
    path = local_path(url)
    name = file_name(url) if path else "stdin"
    with storing(folder), content.open("wb", buffering=0) as file:
        content.chmod(0o600)
        sha256 = _copied(_opened(path), file, cache)
    size = content.stat().st_size
    if size == 0:
        raise SourceError(f"{name} is empty.", "What was to write into the pipe may have failed.")
    return SourceFile(pipe_url(sha256), name, content, size, sha256, content.stat().st_mtime_ns)


def _opened(path: Path | None) -> BinaryIO:
    try:
        return path.open("rb") if path else os.fdopen(os.dup(0), "rb")
    except OSError as error:
        raise SourceError(f"{path or 'stdin'} can't be read: {error.strerror}.", "Check the pipe.") from error


def _copied(pipe: BinaryIO, file: BinaryIO, cache: Cache) -> str:
    """Copy all of it, and return its sha256."""
    digest = hashlib.sha256()
    with pipe:
        while block := pipe.read(_BLOCK_BYTES):
            digest.update(block)
            _write(file, memoryview(block), cache)
    return digest.hexdigest()


def _write(file: BinaryIO, block: memoryview, cache: Cache) -> None:
    """Write a block; on a full disk in the room of downloads that were kept."""
    while block:
        try:
            block = block[file.write(block) :]
        except OSError as error:
            if error.errno != errno.ENOSPC or not cache.make_room():
                raise
