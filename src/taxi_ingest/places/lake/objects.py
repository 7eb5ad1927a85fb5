"""Where a lake's objects lie: in a folder or in a bucket. Each is there whole, or not at all."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from taxi_ingest.errors import BusyError, DatabaseError, TransientDatabaseError
from taxi_ingest.settings.environment import BucketLogin
from taxi_ingest.sources.buckets import BucketAddress, BucketFailure, open_bucket, told
from taxi_ingest.sources.file_lock import locked

if TYPE_CHECKING:
    from taxi_ingest.sources.buckets import BucketStore

_DRAFTS = ".taxi-ingest"
"""A hidden folder for files that are being written: no reader looks into it."""


@dataclass(frozen=True)
class Draft:
    """An object that is being written."""

    file: IO[bytes]
    publish: Callable[[], None]
    """Make what was written the object, in the place of the one before; in one moment, and for good."""


class Objects(ABC):
    """Objects by their keys, `a/b/c`. What goes wrong is a DatabaseError."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where they are."""

    @abstractmethod
    def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin so, with a whole part of a key or with all."""

    @abstractmethod
    def tail(self, key: str, length: int) -> bytes | None:
        """The last bytes of an object, where Parquet says what it is; None where there is no object."""

    @abstractmethod
    def draft(self, key: str, wait: bool) -> AbstractContextManager[Draft]:
        """A file to write the object to; unless it is published, nothing is left of it.

        Raises BusyError where another run on this machine writes the same and we are not to `wait`.
        """

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""

    def free_bytes(self) -> int | None:
        """How much room there is; None where that is no question."""
        return None


@dataclass(frozen=True)
class Folder(Objects):
    """Files in a folder of this machine."""

    path: Path

    @property
    def address(self) -> str:
        """The folder."""
        return str(self.path)

    def keys(self, prefix: str = "") -> list[str]:
        """By walking through it."""
        with _explained(self.path):
            found = (self.path / prefix).rglob("*")
            return sorted(str(path.relative_to(self.path)) for path in found if path.is_file())

    def tail(self, key: str, length: int) -> bytes | None:
        """Of the file."""
        path = self.path / key
        with _explained(path), suppress(FileNotFoundError), path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - length))
            return file.read()
        return None

    @contextmanager
    def draft(self, key: str, wait: bool) -> Iterator[Draft]:
        """A file beside, locked, which is renamed in the end."""
        path = self.path / _DRAFTS / key.replace("/", "~")

        def opened() -> int:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

        with _explained(path):
            lock = locked(path, opened, float("inf") if wait else 0)
            if lock is None:
                raise BusyError(f"Another run is writing {key} of {self.path}.")
            with lock, path.open("w+b") as file:
                try:
                    yield Draft(file, lambda: _renamed(file, path, self.path / key))
                finally:
                    path.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """The file."""
        with suppress(OSError):
            (self.path / key).unlink()

    def free_bytes(self) -> int | None:
        """Of the disk."""
        found = next((each for each in (self.path, *self.path.parents) if each.exists()), self.path)
        with suppress(OSError):
            status = os.statvfs(found)
            return status.f_bavail * status.f_frsize
        return None


def _renamed(file: IO[bytes], draft: Path, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(path)
    # The name, too, survives a loss of power.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise DatabaseError(
            f"{where}: {error.strerror or error}.", "Check the folder's permissions and its disk."
        ) from error


@dataclass(frozen=True)
class Bucket(Objects):
    """Objects in a bucket, below a prefix."""

    root: BucketAddress
    login: BucketLogin | None = field(default=None, repr=False)
    """None for the usual credentials."""

    @property
    def address(self) -> str:
        """Its URL."""
        return self.root.url.rstrip("/")

    def keys(self, prefix: str = "") -> list[str]:
        """By listing them."""
        begin = self._key("")
        with self._store() as store:
            return [
                str(found["path"]).removeprefix(begin)
                for page in store.list(prefix=self._key(prefix).rstrip("/") or None)
                for found in page
            ]

    def tail(self, key: str, length: int) -> bytes | None:
        """By one request; by two in Azure, which has to be told where the end begins."""
        path = self._key(key)
        with suppress(_Missing), self._store() as store:
            if self.root.scheme == "az":
                # HEAD would not tell a container that is missing; this body is not waited for.
                size = store.get(path).meta["size"]
                return bytes(store.get_range(path, start=max(0, size - length), end=size))
            return bytes(store.get(path, options={"range": {"suffix": length}}).bytes())
        return None

    @contextmanager
    def draft(self, key: str, wait: bool) -> Iterator[Draft]:
        """A local file, which is sent in the end: what was sent in part is never seen."""
        del wait
        with _explained(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
            yield Draft(file, lambda: self._put(key, file))

    def _put(self, key: str, file: IO[bytes]) -> None:
        file.seek(0)
        with self._store() as store:
            store.put(self._key(key), file)

    def remove(self, key: str) -> None:
        """The object."""
        with suppress(DatabaseError), self._store() as store:
            store.delete(self._key(key))

    def _key(self, key: str) -> str:
        prefix = self.root.key.strip("/")
        return f"{prefix}/{key}" if prefix else key

    @contextmanager
    def _store(self) -> Iterator["BucketStore"]:
        with told(self.root, _refused):
            yield open_bucket(self.root, self.login)


class _Missing(DatabaseError):
    """There is no such object, but a bucket."""


def _refused(why: BucketFailure) -> DatabaseError:
    kind = TransientDatabaseError if why.can_pass else _Missing if why.is_missing else DatabaseError
    return kind(why.message, why.hint)
