"""Where a file comes from, as a value that can fetch it; and the file that was fetched."""

import hashlib
import os
import shlex
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from taxi_ingest.errors import SourceError
from taxi_ingest.settings.environment import DOWNLOAD_TRIES
from taxi_ingest.sources.cache import Cache, Validators


@dataclass(frozen=True)
class SourceFile:
    """A file to load, on this machine."""

    url: str
    """Where it came from, without credentials: what the ledger knows it by."""
    name: str
    """Its name there."""
    path: Path
    """Where it lies now."""
    bytes: int
    sha256: str
    modified_ns: int
    """When its content was last changed, as its file system says; to notice a change meanwhile."""
    validators: Validators = field(default_factory=Validators)

    def check_unchanged(self) -> None:
        """Raise SourceError if the file is not the one that was looked at first."""
        now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.bytes, self.modified_ns):
            raise SourceError(
                f"{self.name} was changed while it was loaded; nothing was loaded.",
                "Wait until it is complete, and run the same command again.",
            )


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download has come; `total` is None where the server does not say."""

    bytes: int
    total: int | None


@dataclass(frozen=True)
class Found:
    """A file that is there."""

    bytes: int | None = None
    """Its length, where that is told."""


@dataclass(frozen=True)
class Source(ABC):
    """Where a file comes from: parsed once, it knows how to say "unchanged" and how to fetch itself.

    Each kind of source is a subclass in a module of its own. The login that one needs is never shown.
    """

    url: str
    """Its one address, however it was spelled, without login and fragment: what the ledger knows it by."""
    named_url: str
    """The same, but that links are not followed. Parsed again, it is this source; Prefect may store it."""
    name: str
    """The file's name, a hint for its month."""

    is_remote: ClassVar[bool] = False
    """Whether to fetch it takes a network."""

    @abstractmethod
    def fetch(
        self,
        folder: Path,
        cache: Cache,
        *,
        known: Validators | None = None,
        tries: int = DOWNLOAD_TRIES,
        on_progress: Callable[[DownloadProgress], None] = lambda _: None,
    ) -> SourceFile | None:
        """The file, whole, with its sha256; what is not this machine's own is put into `folder`.

        With the validators `known` from an earlier download the answer may be None: the file is the same
        still. A download goes through `cache`; one that fails is tried again, `tries` times in a row without
        getting any further. Raises SourceError where the file can't be had whole.
        """

    @abstractmethod
    def is_unchanged(self, sha256: str, validators: Validators) -> bool:
        """Whether the file surely is the one that had this sha256 and these validators.

        Raises SourceError where it can't be had.
        """

    @abstractmethod
    def is_changed(self, sha256: str, validators: Validators) -> bool:
        """Whether the file surely is another now; not where that can't be told. Raises SourceError."""

    @abstractmethod
    def find(self) -> Found | None:
        """What is known of the file before it is fetched; None where there is no such file.

        Nothing is known, too, where that can't be found out: fetching it says why.
        """

    def peek(self, length: int) -> bytes:
        """The file's first bytes, without fetching the rest. Raises SourceError where it can't be had."""
        del length
        raise SourceError(f"{self.name} can be read only once.", "Load it, or name a file.")

    def check(self) -> None:  # noqa: B027
        """Raise UsageError for what can be told to be in vain before anything is fetched."""


_KINDS = {
    stat.S_ISCHR: "device",
    stat.S_ISBLK: "device",
    stat.S_ISFIFO: "pipe",
    stat.S_ISSOCK: "socket",
}


def look_at(path: Path, url: str, name: str, validators: Validators | None = None) -> SourceFile:
    """Read a file once, for its sha256. Raises SourceError where it can't be read or is no plain file."""
    try:
        # Opening a pipe would wait for its other end.
        _check_plain(path, path.stat())
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise SourceError(f"There is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.", "Check its permissions.") from error
    return SourceFile(url, name, path, found.st_size, digest, found.st_mtime_ns, validators or Validators())


def _check_plain(path: Path, found: os.stat_result) -> None:
    """Raise SourceError for what is no plain file."""
    if stat.S_ISDIR(found.st_mode):
        raise _a_folder(path)
    for is_one, kind in _KINDS.items():
        if is_one(found.st_mode):
            raise SourceError(f"{path} is a {kind}.", "Name a file.")


def _a_folder(path: Path) -> SourceError:
    """What to do with a folder: Spark and others write one of Parquet parts where a file is meant."""
    parts = sorted(part.name for part in path.glob("*.parquet"))
    if not parts:
        return SourceError(f"{path} is a folder.", "Name a file in it.")
    shown = ", ".join(map(repr, parts[:3])) + (", …" if len(parts) > 3 else "")
    return SourceError(
        f"{path} is a folder of {len(parts)} Parquet files ({shown}).",
        f"Load each: taxi-ingest ingest {shlex.quote(str(path))} --table TABLE",
    )
