"""The folder of downloads: whole ones and partial ones, each under its URL, the oldest removed first.

A run gets a file by a hard link in a folder of its own, so that whatever becomes of the cache
meanwhile, the run keeps what it has begun to read.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from taxi_ingest.errors import SourceError
from taxi_ingest.fetch.source import Validators

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """A version of a file at a URL, as its server described it."""

    url: str
    validators: Validators
    total: int | None
    """Its length in bytes, where the server says it."""
    sha256: str | None = None
    """What its content hashed to when it was whole; None for a partial download."""


@dataclass(frozen=True)
class Entry:
    """What the cache has of one URL. Only for whom `Cache.entry` lets in."""

    folder: Path

    @property
    def content(self) -> Path:
        """The whole file, if it is there."""
        return self.folder / "content"

    @property
    def partial(self) -> Path:
        """The beginning of a file whose download broke off."""
        return self.folder / "partial"

    def version(self, of: Path) -> Version | None:
        """What is known of `content` or `partial`; None where there is no such file."""
        try:
            known = json.loads(_description(of).read_text())
            validators = Validators(**known.pop("validators"))
            return Version(**known, validators=validators) if of.exists() else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def describe(self, of: Path, version: Version) -> None:
        """Write down what `content` or `partial` is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / "description.new"
        unfinished.write_text(json.dumps(asdict(version)))
        unfinished.replace(_description(of))

    def complete(self, version: Version) -> None:
        """The partial file is whole: make it the content."""
        # In this order a crash in between leaves a content whose sha256 is not the described one.
        self.partial.replace(self.content)
        self.describe(self.content, version)
        _description(self.partial).unlink(missing_ok=True)

    def drop(self, path: Path) -> None:
        """Remove `content` or `partial`."""
        for file in (_description(path), path):
            file.unlink(missing_ok=True)


def _description(of: Path) -> Path:
    return of.with_suffix(".json")


@dataclass(frozen=True)
class Cache:
    """Downloads in a folder, at most `max_bytes` of them but for those being used."""

    folder: Path
    max_bytes: int

    @contextmanager
    def entry(self, url: str) -> Iterator[Entry]:
        """What there is of `url`, for one run at a time; others wait. Raises SourceError if unwritable."""
        entry = self.folder / "files" / hashlib.sha256(url.encode()).hexdigest()[:32]
        with _writable(self.folder):
            entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock(entry.name, wait=True):
            yield Entry(entry)

    def trim(self) -> None:
        """Remove what was not used for longest until the rest fits; never what a run is downloading."""
        entries = sorted((_last_use(entry), entry) for entry in (self.folder / "files").iterdir())
        surplus = sum(_size(entry) for _, entry in entries) - self.max_bytes
        for _, entry in entries:
            if surplus <= 0:
                return
            with self._lock(entry.name, wait=False) as mine:
                if mine:
                    surplus -= _size(entry)
                    shutil.rmtree(entry, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str, wait: bool) -> Iterator[bool]:
        """Hold an entry's lock, and say whether we do; not in its folder, which may be removed."""
        locks = self.folder / "locks"
        with _writable(self.folder):
            locks.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = (locks / name).open("wb")
        with file:
            # flock, unlike lockf, also keeps apart the threads of one process.
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                _logger.warning("Another run is downloading this file: waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield True


@contextmanager
def run_folder(cache_folder: Path) -> Iterator[Path]:
    """A folder for one run's files, removed at its end, inside the cache's (for hard links).

    So are the folders of runs that were killed; each bears its process's number.
    """
    parent = cache_folder / "runs"
    with _writable(cache_folder):
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in parent.iterdir():
        if not psutil.pid_exists(int(left.name.partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    ) as place:
        yield Path(place)


def linked(content: Path, folder: Path) -> Path:
    """The same file in another folder; copied where the file system knows no hard links."""
    link = folder / "content"
    link.unlink(missing_ok=True)
    try:
        os.link(content, link)
    except OSError:
        shutil.copy2(content, link)
    return link


def _last_use(entry: Path) -> float:
    return max((file.stat().st_mtime for file in entry.iterdir()), default=0.0)


def _size(entry: Path) -> int:
    with suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in entry.iterdir())
    return 0


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"The cache {folder} can't be written: {error.strerror}.",
            "Set TAXI_INGEST_CACHE_DIR to a folder that you can write to.",
        ) from error
