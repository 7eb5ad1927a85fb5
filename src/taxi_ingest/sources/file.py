"""A file of this machine that is to be loaded, and which version of it a server has given."""

import hashlib
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from taxi_ingest.errors import SourceError


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
    validators: Validators = Validators()

    def check_unchanged(self) -> None:
        """Raise SourceError if the file is not the one that was looked at first."""
        now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.bytes, self.modified_ns):
            raise SourceError(
                f"{self.name} was changed while it was loaded; nothing was loaded.",
                "Wait until it is complete, and run the same command again.",
            )


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
        f'Load each: for part in {shlex.quote(str(path))}/*.parquet; do taxi-ingest ingest --url "$part" '
        "--table TABLE; done",
    )
