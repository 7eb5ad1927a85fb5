"""What this machine has itself: files, which are read where they lie, and pipes, which are read once."""

import errno
import glob
import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, unquote_to_bytes

from taxi_ingest import tlc
from taxi_ingest.errors import SourceError, UsageError, without_login
from taxi_ingest.sources.address import HINT, Logins, scheme_of
from taxi_ingest.sources.cache import Cache, Validators, storing
from taxi_ingest.sources.source import Found, Source, SourceFile, look_at

_STDIN = "-"
"""As a source: standard input."""

_PIPE = "pipe:"
"""What can be read only once has no address but its content: `pipe:` and the content's sha256."""

_STDIN_URL = f"{_PIPE}{_STDIN}"

_BLOCK_BYTES = 1 << 20

DATA_NAME = re.compile(r"^[^._].*\.(parquet|csv|tsv|zip)(\.(gz|zst|xz|bz2|zip))?$", re.IGNORECASE)
"""What a CSV or a Parquet file is called."""


@dataclass(frozen=True)
class LocalFile(Source):
    """A file of this machine. Its address is that of the file behind all links, as a file:// URL."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(_path_in(self.url))

    def look(self) -> SourceFile:
        """The file as it is now. Raises SourceError where it can't be read."""
        return look_at(self.path, self.url, self.name)

    def fetch(self, folder: Path, cache: Cache, **how: Any) -> SourceFile:
        """The file, where it lies."""
        del folder, cache, how
        return self.look()

    def is_unchanged(self, sha256: str, validators: Validators) -> bool:
        """Whether its content still hashes to this."""
        del validators
        return self.look().sha256 == sha256

    def is_changed(self, sha256: str, validators: Validators) -> bool:
        """Whether its content hashes to something else now."""
        return not self.is_unchanged(sha256, validators)

    def find(self) -> Found | None:
        """Whether there is anything of its name, and its length."""
        try:
            return Found(self.path.stat().st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return Found()

    def peek(self, length: int) -> bytes:
        """The first bytes of what lies there."""
        try:
            with self.path.open("rb") as file:
                return file.read(length)
        except OSError as error:
            raise SourceError(f"{self.path} can't be read: {error.strerror}.", "Check the path.") from error


@dataclass(frozen=True)
class Pipe(Source):
    """Standard input or another pipe, which can be read only once."""

    path: Path | None
    """Where it lies; None for standard input, and for what was read already."""

    def fetch(self, folder: Path, cache: Cache, **how: Any) -> SourceFile:
        """Keep in `folder` what comes, until its end. Its address is what it contains.

        Raises SourceError where it is empty, can't be read, or the disk has no room for it.
        """
        del how
        content = folder / "content"
        with storing(folder), content.open("wb", buffering=0) as file:
            content.chmod(0o600)
            sha256 = _copied(self._opened(), file, cache)
        size = content.stat().st_size
        if size == 0:
            raise SourceError(f"{self.name} is empty.", "What was to write into the pipe may have failed.")
        return SourceFile(f"{_PIPE}{sha256}", self.name, content, size, sha256, content.stat().st_mtime_ns)

    def is_unchanged(self, sha256: str, validators: Validators) -> bool:
        """Never: what comes is not known before it is read."""
        del sha256, validators
        return False

    def is_changed(self, sha256: str, validators: Validators) -> bool:
        """Nobody can tell before it is read."""
        del sha256, validators
        return False

    def find(self) -> Found:
        """Nobody can tell before it is read."""
        return Found()

    def check(self) -> None:
        """Raise UsageError if it is standard input, and nothing can come from there."""
        if self.url != _STDIN_URL:
            return
        # Python has none if it was closed.
        if sys.stdin is None:
            raise UsageError("--url - reads standard input, which is closed.", "Pipe the file into it.")
        if sys.stdin.isatty():
            raise UsageError(
                "--url - reads standard input, which is a terminal.",
                "Pipe the file into it: … | taxi-ingest …",
            )

    def _opened(self) -> BinaryIO:
        if self.path is None and self.url != _STDIN_URL:
            raise SourceError("What came from a pipe can't be read again.", "Pipe it into --url - once more.")
        try:
            return self.path.open("rb") if self.path else os.fdopen(os.dup(0), "rb")
        except OSError as error:
            raise SourceError(
                f"{self.path or 'stdin'} can't be read: {error.strerror}.", "Check the pipe."
            ) from error


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


def parse_file_url(url: str, logins: Logins) -> Source:
    """What a file URL of any spelling names: `file:/x`, `file://localhost/x`, `FILE:///x`.

    Raises SourceError for a file of another machine.
    """
    del logins
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise SourceError(
                f"{without_login(url)} is on another machine ({without_login('://' + host)[3:]}).",
                "Write file:///path, or use http.",
            )
        rest = slash + path
    literal = _decoded(rest)
    return _at(literal if os.path.lexists(literal) else _decoded(re.split("[?#]", rest, maxsplit=1)[0]))


def parse_path(text: str) -> Source:
    """What a path names; `-` is standard input. Raises UsageError for what is meant for something else."""
    if text == _STDIN:
        return Pipe(_STDIN_URL, _STDIN_URL, "stdin", None)
    if os.path.lexists(text):
        return _at(text)
    if text.startswith(_PIPE):
        return Pipe(text, text, "stdin", None)
    _check_is_path(text)
    # Unlike pathlib's, this leaves a name like ~tilde.csv alone if there is no such user.
    return _at(os.path.expanduser(text.strip()))  # noqa: PTH111


def files_at(text: str) -> list[str]:
    """The files that a path, a folder or a pattern of this machine names, in their order; at least one.

    Of a folder those that are called like a CSV or Parquet file.
    """
    if not text.strip():
        # To Python it would be the current folder.
        return [text]
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if path.is_dir():
        found = [file for file in path.iterdir() if DATA_NAME.search(file.name) and file.is_file()]
        if not found:
            raise SourceError(
                f"The folder {text} has no CSV or Parquet files in it.",
                "Name files, or a pattern: 'data/*.txt'.",
            )
        return sorted(map(str, found))
    if not glob.has_magic(text) or os.path.lexists(path):
        return [text]
    matching = sorted(file for file in glob.glob(str(path)) if not os.path.isdir(file))  # noqa: PTH112, PTH207
    if not matching:
        raise UsageError(f"No file matches {text}.", "Check the pattern, and the folder that you are in.")
    return matching


def _at(path: str) -> Source:
    url, named_url = _file_url(path, os.path.realpath), _file_url(path, _in_real_folder)
    if _is_pipe(_path_in(named_url)):
        # What is behind a pipe's name has none of its own.
        return Pipe(named_url, named_url, _name_in(named_url), Path(_path_in(named_url)))
    # Of a link's name and that of the file behind it, the one that tells the month.
    names = [_name_in(named_url), _name_in(url)]
    name = next((name for name in names if tlc.parse_file_name(name).month), names[0])
    return LocalFile(url, named_url, name)


def _check_is_path(text: str) -> None:
    scheme = scheme_of(text.strip())
    if not text.strip():
        raise UsageError("The file's address is empty.", HINT)
    if re.match(r"[A-Za-z]:[\\/]", text):
        raise UsageError(
            f"{text} is a path of Windows.", "Write it as this system does; in WSL, C: is /mnt/c."
        )
    if scheme and (len(scheme) > 1 or "://" in text):
        raise UsageError(
            f"A source can't be {scheme}://, and there is no file of that name.",
            "Give --url a path or an http, https or file URL.",
        )


def _file_url(path: str, resolve: Callable[[str], str]) -> str:
    try:
        resolved = resolve(path)
    except OSError as error:
        raise SourceError(
            f"The current folder can't be used: {error.strerror}.", "Go to one that exists."
        ) from None
    if not os.path.lexists(resolved):
        # What /dev/fd/63 or /dev/stdin links to has no path of its own.
        resolved = os.path.abspath(path)  # noqa: PTH100
    return f"file:///{quote(os.fsencode(resolved).lstrip(b'/'), safe='/~')}"


def _in_real_folder(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name) if name.strip(".") else os.path.realpath(path)  # noqa: PTH118


def _path_in(url: str) -> str:
    return _decoded(url.removeprefix("file://"))


def _name_in(url: str) -> str:
    return unquote(url.rpartition("/")[2], errors="backslashreplace") or "download"


def _decoded(path: str) -> str:
    name = unquote_to_bytes(path.encode(errors="surrogateescape"))
    if b"\0" in name:
        raise UsageError("An address can't hold a NUL character.", HINT)
    return os.fsdecode(name)


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except OSError:
        return False
