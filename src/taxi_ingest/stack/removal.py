"""What the local stack keeps in its home folder, and how to take that away, and nothing else.

With `everything` also what lies elsewhere: downloads, and Postgres' programs where they had to be copied.
The home may be anybody's folder, for TAXI_INGEST_HOME names it. So only names that we or our servers give
are taken, in folders that show our sign, and only what belongs to us or to the database's account.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from taxi_ingest.errors import DatabaseError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack.account import opened_folder, server_owner, unused_programs
from taxi_ingest.stack.residents import home_folder, lock


@dataclass(frozen=True)
class _Folder:
    """A folder of ours in the home."""

    signs: tuple[str, ...]
    """What lies in it if it is ours, from it on."""
    names: tuple[str, ...]
    """What we or the servers put there."""

    def is_at(self, path: Path) -> bool:
        return all((path / sign).exists() for sign in self.signs)


_FOLDERS = {
    "postgres": _Folder(("data/taxi_ingest.conf",), ("data", "data.new", "log", "log.1", ".s.PGSQL.*")),
    "prefect": _Folder(
        ("key", "server.log"),
        (
            *("key", "server.json", "server.log", "server.log.1", "login.html", "dashboard"),
            *("prefect.db", "prefect.db-*", "memo_store.toml", "profiles.toml", "concurrency_leases", "dlq"),
            *("storage", ".sdk_telemetry"),
        ),
    ),
    "loads": _Folder(("lock",), ("lock", "*.running", "*.ended")),
}
_FILES = (
    *("postgres.lock", "prefect.lock", "postgres.port", "postgres.password", "prefect.keep_days"),
    "bug.log",
)
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
        """What its parts take on the disk."""
        return sum(part.bytes for part in self.parts)


def planned_removal(settings: Settings, everything: bool = False) -> Removal:
    """Look what there is; changes nothing."""
    planned = _planned_at_home(settings)
    return replace(planned, parts=(*planned.parts, *_elsewhere(settings))) if everything else planned


def _elsewhere(settings: Settings) -> Iterator[Part]:
    from taxi_ingest.sources import kept_bytes  # which brings httpx along

    if (size := kept_bytes(settings.cache_dir)) is not None:
        yield Part(settings.cache_dir, size)
    yield from (Part(copy, _size(copy)) for copy in unused_programs())


def _planned_at_home(settings: Settings) -> Removal:
    home = home_folder(settings)
    folders = {home / name: folder.names for name, folder in _FOLDERS.items() if folder.is_at(home / name)}
    if not folders:
        return Removal(home, (), ())
    owners = {os.geteuid(), server_owner()[0]}
    ours: list[Path] = []
    left: list[Path] = []
    for folder, names in {**folders, home: _FILES}.items():
        for path in sorted(set(folder.resolve().iterdir()) - folders.keys()):
            known = path.lstat().st_uid in owners and any(fnmatch(path.name, name) for name in names)
            (ours if known else left).append(path)
    ours += [path.resolve() for path in ours if _is_moved_data(path)]
    left += [linked for path in ours for linked in _linked(path)]
    parts = tuple(Part(path, _size(path)) for path in sorted(ours, key=lambda path: _is_sign(path.name)))
    return Removal(home, parts, tuple(path for path in left if path not in ours))


def remove(settings: Settings, runs: Callable[[], bool], everything: bool = False) -> Removal:
    """Take it away for good, and return what that was; no server may run.

    Raises DatabaseError where one was started again meanwhile.
    """
    planned = planned_removal(settings, everything)
    if _planned_at_home(settings).parts:
        _remove_home(settings, runs)
    if everything:
        _remove_elsewhere(settings)
    return planned


def _remove_elsewhere(settings: Settings) -> None:
    from taxi_ingest.sources import remove_cache

    remove_cache(settings.cache_dir)
    for copy in unused_programs():
        shutil.rmtree(copy, ignore_errors=True)
    with suppress(OSError, RuntimeError):
        # Prefect makes this folder, and of us nothing gets into it.
        Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser().rmdir()


def _remove_home(settings: Settings, runs: Callable[[], bool]) -> None:
    home = home_folder(settings)
    with lock(home / "postgres.lock", DatabaseError), lock(home / "prefect.lock", DatabaseError):
        if runs():
            raise DatabaseError(
                "The local stack was started again meanwhile; nothing was deleted.", "Run the same again."
            )
        for part in _planned_at_home(settings).parts:
            _remove(part.path)
        for folder in (*(home / name for name in _FOLDERS), settings.home.expanduser()):
            # What else is in it stays, and so does a link of the user's own.
            with suppress(OSError):
                folder.rmdir()


def _remove(path: Path) -> None:
    """Remove a file, a folder or a link; nothing that a link names."""
    with opened_folder(path.parent) as folder, suppress(FileNotFoundError):
        if _is_folder(path.name, folder):
            with opened_folder(path) as inside:
                for name in sorted(os.listdir(inside), key=_is_sign):  # noqa: PTH208
                    _remove_at(name, inside)
        _remove_at(path.name, folder)


def _remove_at(name: str, folder: int) -> None:
    if _is_folder(name, folder):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def _is_folder(name: str, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _is_sign(name: str) -> bool:
    """Whether a folder shows by it that it is ours: it goes last, so that a removal can be gone on with."""
    return any(name == Path(sign).name for folder in _FOLDERS.values() for sign in folder.signs)


def _is_moved_data(path: Path) -> bool:
    """Whether it is a link to the database's data, which the user has moved to another disk.

    As root the link may be the database account's own, and is not followed.
    """
    return path.name == "data" and path.is_symlink() and os.geteuid() != 0


def _size(path: Path) -> int:
    folders = () if path.is_symlink() else os.walk(path)
    inside = (Path(folder, name) for folder, _, names in folders for name in names)
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
