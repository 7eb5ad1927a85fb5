"""What the two resident servers share: their status, a lock, private files, processes, a log's tail."""

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from taxi_ingest.errors import TaxiIngestError, UsageError
from taxi_ingest.settings.environment import Settings

# An allow-list, because a resident process outlives the shell whose secrets it would keep.
_KEPT_VARIABLES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"),
        *("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)
_LOCK_SECONDS = 300


@dataclass(frozen=True)
class ServiceStatus:
    """One server: where it is or would be, whether it answers, its process, and what is odd about it."""

    address: str
    """What its clients connect to: a libpq URL, or the URL of an API."""
    running: bool
    pid: int | None = None
    note: str = ""
    port: int | None = None
    """The port of 127.0.0.1 that the database listens on; None where its socket is the only way."""


def environment() -> dict[str, str]:
    """Our variables that a resident process may inherit: no secret, no TAXI_INGEST_*, no PREFECT_*."""
    kept = {name for name in os.environ if name in _KEPT_VARIABLES or name.startswith("LC_")}
    return {name: os.environ[name] for name in kept}


def private_folder(path: Path, error: type[TaxiIngestError]) -> Path:
    """Make a folder, and those above it, for their owner only; raise `error` if it can't be written.

    Folders that are there already stay as they are.
    """
    try:
        for part in reversed([part for part in (path, *path.parents) if not part.exists()]):
            part.mkdir(exist_ok=True)
            part.chmod(0o700)  # whatever the umask has made of it
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory")
        reason = "" if os.access(path, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as problem:
        reason = problem.strerror or str(problem)
    if reason:
        raise error(
            f"The folder {path} can't be written: {reason}.",
            "Set TAXI_INGEST_HOME to a folder that you can write to.",
        )
    return path


def open_private(path: Path, flags: int, owner: tuple[int, int] | None = None) -> int:
    """A file descriptor of a file that only its owner may read, whatever the umask; made if need be.

    Neither the file nor its folder may be a link, nor the file have further names: as root we also work in
    folders of the database's account. `owner` (user, group) becomes the file's.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _opened(folder, path.name, flags, owner)
    finally:
        os.close(folder)


def _opened(folder: int, name: str, flags: int, owner: tuple[int, int] | None) -> int:
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no plain file of its own", name)
    if owner and found.st_uid != owner[0]:
        os.fchown(descriptor, *owner)
    if stat.S_IMODE(found.st_mode) != 0o600:
        os.fchmod(descriptor, 0o600)  # whatever the umask has made of it
    return descriptor


def write_private(path: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """Make a file that only its owner may read, whole or not at all."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    unfinished = f"{path.name}.new"
    try:
        with suppress(FileNotFoundError):
            os.unlink(unfinished, dir_fd=folder)
        with os.fdopen(_opened(folder, unfinished, os.O_WRONLY | os.O_EXCL, owner), "w") as file:
            file.write(text)
        os.replace(unfinished, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def read_unfollowed(path: Path) -> bytes:
    """What a file holds; a link is not followed. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read()


def read_secret(path: Path) -> str | None:
    """A secret that a file holds; None where there is none, or one that others can have written or read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            found = os.fstat(file.fileno())
            private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
            return (file.read().strip() or None) if private else None
    except OSError:
        return None


def make_secret(path: Path) -> str:
    """A new secret, in a file that only we can read."""
    secret = secrets.token_hex(32)
    write_private(path, f"{secret}\n")
    return secret


def home_folder(settings: Settings) -> Path:
    """The folder of the local stack. Raises UsageError where there is none."""
    try:
        return settings.home.expanduser().resolve()
    except RuntimeError:
        raise UsageError(
            "There is no home folder for the local stack's data.", "Set TAXI_INGEST_HOME to a folder for it."
        ) from None


@contextmanager
def lock(path: Path, error: type[TaxiIngestError]) -> Iterator[None]:
    """Let one process at a time start or stop a server; raise `error` if another takes minutes over it."""
    # It brings httpx along, which those who only look at the servers need not wait for.
    from taxi_ingest.sources.file_lock import locked

    private_folder(path.parent, error)
    try:
        held = locked(path, lambda: open_private(path, os.O_RDWR), _LOCK_SECONDS)
    except OSError as problem:
        raise error(
            f"The lock {path} can't be opened: {problem.strerror}.",
            "Set TAXI_INGEST_HOME to a folder that you can write to.",
        ) from problem
    if held is None:
        raise error(
            f"Another process has held the lock {path} for {_LOCK_SECONDS} seconds.",
            "End the other taxi-ingest that is starting or stopping the local stack.",
        )
    with held:
        yield


def process(pid: int) -> psutil.Process | None:
    """The live process with this pid, or None if there is none (a zombie counts as none)."""
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else found
    except (psutil.Error, ValueError, OverflowError):
        return None


def await_end(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; those that have not. A zombie has: PID 1 may never reap it."""
    deadline, alive = time.monotonic() + seconds, list(processes)
    while True:
        ended = [found for found in alive if not (found.is_running() and process(found.pid))]
        for found in ended:
            with suppress(OSError):
                os.waitpid(found.pid, os.WNOHANG)  # it may be a child of ours
        alive = [found for found in alive if found not in ended]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.01)


def command_line(found: psutil.Process) -> list[str]:
    """The arguments that a process was started with; empty where we may not read them or it is gone."""
    try:
        return found.cmdline()
    except psutil.Error:
        return []


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log; empty if it can't be read."""
    try:
        text = read_unfollowed(log)[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
