"""What the local stack keeps in its home folder, and how to take that away, and nothing else.

The home may be anybody's folder, for TAXI_INGEST_HOME names it. So only names that we or our servers give
are taken, in folders that show our sign, and only what belongs to us or to the database's account.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from taxi_ingest.errors import DatabaseError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack.account import opened_folder, server_owner
from taxi_ingest.stack.residents import home_folder, lock


@dataclass(frozen=True)
class _Folder:
    """A folder of ours in the home."""

    sign: str
    """What lies in it if it is ours, from it on."""
    names: tuple[str, ...]
    """What we or the servers put there."""


_FOLDERS = {
    "postgres": _Folder("data/taxi_ingest.conf", ("data", "data.new", "log", ".s.PGSQL.*")),
    "prefect": _Folder(
        "key",
        (
            *("key", "server.json", "server.log", "login.html", "dashboard", "prefect.db", "prefect.db-*"),
            *("memo_store.toml", "profiles.toml", "concurrency_leases", "dlq", "storage", ".sdk_telemetry"),
        ),
    ),
    "loads": _Folder("lock", ("lock", "*.running", "*.ended")),
}
_FILES = ("postgres.lock", "prefect.lock", "postgres.port", "postgres.password", "bug.log")
"""Those in the home itself, which are ours where one of our folders is."""


@dataclass(frozen=True)
class Part:
    """A file or a folder, with all that is in it."""

    path: Path
    bytes: int
    """What it takes on the disk."""


@dataclass(frozen=True)
class Removal:
    """What would be taken away, and what stays that lies beside it."""

    home: Path
    parts: tuple[Part, ...]
    left: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


def planned_removal(settings: Settings) -> Removal:
    """Look what there is of the local stack; changes nothing."""
    home = home_folder(settings)
    folders = [home / name for name, folder in _FOLDERS.items() if (home / name / folder.sign).exists()]
    if not folders:
        return Removal(home, (), ())
    owners = {os.geteuid(), server_owner()[0]}
    known: list[Part] = []
    left: list[Path] = []
    for folder, names in [*((each, _FOLDERS[each.name].names) for each in folders), (home, _FILES)]:
        for path in sorted(folder.resolve().iterdir()):
            if path.name in _FOLDERS and path in folders:
                continue
            if any(fnmatch(path.name, name) for name in names) and path.lstat().st_uid in owners:
                ours = _with_moved_data(path)
                known += [Part(each, _size(each)) for each in ours]
                left += [linked for each in ours for linked in _linked(each) if linked not in ours]
            else:
                left.append(path)
    return Removal(home, tuple(known), tuple(left))


def remove(settings: Settings, runs: Callable[[], bool]) -> Removal:
    """Take it away for good, and return what that was; no server may run.

    Raises DatabaseError where one was started again meanwhile.
    """
    home = home_folder(settings)
    with lock(home / "postgres.lock", DatabaseError), lock(home / "prefect.lock", DatabaseError):
        if runs():
            raise DatabaseError(
                "The local stack was started again meanwhile; nothing was deleted.", "Run the same again."
            )
        planned = planned_removal(settings)
        for part in planned.parts:
            _remove(part.path)
        for folder in (*(home / name for name in _FOLDERS), settings.home.expanduser()):
            # What else is in it stays, and so does a link of the user's own.
            with suppress(OSError):
                folder.rmdir()
    return planned


def _remove(path: Path) -> None:
    """Remove a file, a folder or a link; nothing that a link names."""
    with opened_folder(path.parent) as descriptor, suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(path.name, dir_fd=descriptor, follow_symlinks=False).st_mode):
            shutil.rmtree(path.name, dir_fd=descriptor)
        else:
            os.unlink(path.name, dir_fd=descriptor)


def _with_moved_data(path: Path) -> list[Path]:
    """A path, and of the database's data that the user has moved to another disk what the link names.

    As root the link may be the database account's own, and is not followed.
    """
    moved = path.name == "data" and path.is_symlink() and os.geteuid() != 0
    return [path.resolve(), path] if moved else [path]


def _size(path: Path) -> int:
    inside = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(map(_blocks, (path, *inside)))


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:  # the server works meanwhile
        return 0


def _linked(path: Path) -> Iterator[Path]:
    """What is named by a link, or by links to folders in a folder, such as tablespaces: that stays."""
    if path.is_symlink():
        yield path.resolve()
        return
    for folder, folders, _ in os.walk(path):
        yield from (Path(folder, name).resolve() for name in folders if Path(folder, name).is_symlink())
