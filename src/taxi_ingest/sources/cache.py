"""The folder of downloads: whole ones and partial ones, each under its URL, the oldest removed first.

A run gets a file by a hard link in a folder of its own, so that whatever becomes of the cache
meanwhile, the run keeps what it has begun to read.
"""

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import psutil

from taxi_ingest.errors import BusyError, SourceError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources.file_lock import locked

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ENTRY = re.compile("[0-9a-f]{32}")
_RUN = re.compile("([1-9][0-9]{0,8})-.+")
"""How our folders are called; whatever else lies beside them is left alone."""

_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)
_LONGEST_NAME = 100
"""Of a file's name, which errors tell."""

_logger = logging.getLogger(__name__)


class DiskFull(SourceError):
    """The disk of the cache has no room, or no inode, left."""


@dataclass(frozen=True)
class Validators:
    """What a server calls this version of a file
    (https://www.rfc-editor.org/rfc/rfc9110#name-validator-fields)."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)

    def unless_same(self) -> dict[str, str]:
        """The headers that ask for the file only if it is no longer this version."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.last_modified} if self.last_modified else {}


@dataclass(frozen=True)
class Version:
    """A version of a file at a URL, as its server described it."""

    url: str
    validators: Validators
    total: int | None
    """Its length in bytes, where the server says it."""
    sha256: str | None = None
    """What its content hashed to when it was whole; None for a partial download."""
    strong: str | None = None
    """The validator that holds for every byte of it, if there is one: what a download is resumed by."""


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
            version = Version(**{**known, "validators": Validators(**known["validators"])})
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return version if _is_plain(of) and isinstance(version.total, int | None) else None

    def describe(self, of: Path, version: Version) -> None:
        """Write down what `content` or `partial` is."""
        if not self.folder.is_dir() or self.folder.is_symlink():
            _remove(self.folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        unfinished = self.folder / "description.new"
        _remove(unfinished)
        with _opened(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
            file.write(json.dumps(asdict(version)).encode())
        _put(unfinished, _description(of))

    def append(self) -> BinaryIO:
        """The partial file, to be written on."""
        return _opened(self.partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def complete(self, version: Version) -> None:
        """The partial file is whole: make it the content."""
        # In this order a crash in between leaves a content whose sha256 is not the described one.
        _put(self.partial, self.content)
        self.describe(self.content, version)
        _description(self.partial).unlink(missing_ok=True)

    def drop(self, path: Path) -> None:
        """Remove `content` or `partial`."""
        for file in (_description(path), path):
            _remove(file)


def _description(of: Path) -> Path:
    return of.with_suffix(".json")


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _opened(path: Path, flags: int) -> BinaryIO:
    """A file of ours alone, whatever the umask; never one behind a link."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "wb")


def _remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def _put(file: Path, place: Path) -> None:
    """Move a file to where another may lie, or a link, or a folder."""
    if place.is_dir():
        _remove(place)
    file.replace(place)


@dataclass(frozen=True)
class Cache:
    """Downloads in a folder, at most `max_bytes` of them but for those being used."""

    folder: Path
    max_bytes: int
    waits: bool = True
    """Whether a run waits for another that downloads the same."""

    @contextmanager
    def entry(self, url: str) -> Iterator[Entry]:
        """What there is of `url`, for one run at a time; others wait.

        Raises SourceError if the cache can't be written, DiskFull where that is why, BusyError where another
        has it and we are not to wait.
        """
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        with storing(self.folder):
            files = _private(self.folder / "files")
        with self._lock(name, self.waits) as mine:
            if not mine:
                raise BusyError("Another run is downloading this file.")
            yield Entry(files / name)

    def trim(self) -> None:
        """Remove what was not used for longest until the rest fits; never what a run is downloading."""
        entries = sorted((_last_use(entry), entry) for entry in self.entries())
        surplus = sum(_size(entry) for _, entry in entries) - self.max_bytes
        for _, entry in entries:
            if surplus <= 0:
                return
            surplus -= self._removed(entry)

    def make_room(self, keep: str | None = None) -> bool:
        """Remove all that no run is downloading, but for the URL `keep`; whether there was any."""
        kept = keep and hashlib.sha256(keep.encode()).hexdigest()[:32]
        return sum(self._removed(entry) for entry in self.entries() if entry.name != kept) > 0

    def entries(self) -> list[Path]:
        """The folders of all URLs of which there is something, be it only a lock."""
        files, locks = self.folder / "files", self.folder / "locks"
        names: set[str] = set()
        for place in (files, locks):
            with suppress(OSError):
                names |= {path.name for path in place.iterdir() if _ENTRY.fullmatch(path.name)}
        return [files / name for name in names if not files.is_symlink()]

    def _removed(self, entry: Path) -> int:
        """Remove an entry that nobody uses; how many bytes it had, at least one."""
        with self._lock(entry.name, wait=False) as mine:
            if not mine:
                return 0
            size = _size(entry)
            _remove(entry)
            _remove(self.folder / "locks" / entry.name)
            return max(size, 1)

    @contextmanager
    def _lock(self, name: str, wait: bool) -> Iterator[bool]:
        """Hold an entry's lock, and say whether we do; not in its folder, which may be removed."""
        with storing(self.folder):
            path = _private(self.folder / "locks") / name
            seconds = math.inf if wait else 0
            file = locked(path, partial(_lock_opened, path), seconds, _say_that_another_downloads)
        if file is None:
            yield False
            return
        with file:
            yield True


def chosen_cache(settings: Settings, folder: Path, keep: bool, waits: bool = True) -> Cache:
    """Where a run's downloads go through: those that are not to be kept go with the run's own folder."""
    return Cache(settings.cache_dir if keep else folder, settings.cache_bytes, waits)


@contextmanager
def run_folder(cache_folder: Path) -> Iterator[Path]:
    """A folder for one run's files, removed at its end, inside the cache's (for hard links).

    So are the folders of runs that were killed; each bears its process's number. Raises SourceError.
    """
    with storing(cache_folder):
        parent = _private(cache_folder / "runs")
        for left in _left_runs(parent):
            shutil.rmtree(left, ignore_errors=True)
        place = _made_in(parent)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _left_runs(parent: Path) -> list[Path]:
    """The folders of runs that were killed."""
    runs = ((path, _RUN.fullmatch(path.name)) for path in parent.iterdir())
    return [path for path, run in runs if run and not psutil.pid_exists(int(run[1]))]


_FOLDERS = ("files", "locks", "runs")


def kept_bytes(cache_folder: Path) -> int | None:
    """How much of ours lies in a cache; None where there is none."""
    if not any((cache_folder / name).is_dir() for name in _FOLDERS):
        return None
    return sum(_size(entry) for entry in Cache(cache_folder, 0).entries())


def remove_cache(cache_folder: Path) -> None:
    """Take away all of ours in it that no run uses, and the folders that are empty then."""
    Cache(cache_folder, 0).make_room()
    with suppress(OSError):
        for left in _left_runs(cache_folder / "runs"):
            shutil.rmtree(left, ignore_errors=True)
    for folder in (*(cache_folder / name for name in _FOLDERS), cache_folder):
        with suppress(OSError):
            folder.rmdir()


def _made_in(parent: Path) -> Path:
    """A new folder; on a full disk in the room of downloads that were kept."""
    try:
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
    except OSError as error:
        if error.errno not in _FULL or not Cache(parent.parent, 0).make_room():
            raise
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))


def _lock_opened(path: Path) -> int:
    """A descriptor of a lock's file, whatever stands in its place."""
    if path.is_dir() or path.is_symlink():
        _remove(path)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _say_that_another_downloads() -> None:
    _logger.warning("Another run is downloading this file: waiting for it.")


def linked(content: Path, folder: Path, name: str) -> Path:
    """The same file in another folder, by a name like this; copied where there are no hard links.

    On a full disk it is moved there.
    """
    link = folder / (_UNSAFE.sub("_", name).strip(".")[-_LONGEST_NAME:] or "content")
    link.unlink(missing_ok=True)
    try:
        os.link(content, link)
    except OSError:
        try:
            shutil.copy2(content, link)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            link.unlink(missing_ok=True)
            content.rename(link)
    return link


def _last_use(entry: Path) -> float:
    with suppress(OSError):
        return max((file.stat().st_mtime for file in entry.iterdir()), default=0.0)
    return 0.0


def _size(entry: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in entry.iterdir())
    return 0


def _private(folder: Path) -> Path:
    """Make a folder for our eyes only; refuse one through which another account could lead us astray."""
    for part in reversed([part for part in folder.parents if not part.exists()]):
        part.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        # The umask may have taken rights from us.
        folder.chmod(0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SourceError(
            f"{folder} of the cache is no folder that only we can write to.",
            "Remove it, or set TAXI_INGEST_CACHE_DIR to a folder of your own.",
        )
    return folder


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Say what is wrong where something can't be stored under a folder. Raises SourceError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"{folder} has no room left: {error.strerror}.",
                "Free disk space, or set TAXI_INGEST_CACHE_DIR to a folder with more.",
            ) from error
        raise SourceError(
            f"The cache {folder} can't be written: {error.strerror or error}.",
            "Set TAXI_INGEST_CACHE_DIR to a folder that you can write to.",
        ) from error
