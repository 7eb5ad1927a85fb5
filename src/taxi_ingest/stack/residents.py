"""What the two resident servers share: their status, a lock, a clean environment, a log's tail."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from fasteners import InterProcessLock  # type: ignore[import-untyped]

from taxi_ingest.errors import TaxiIngestError

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
    running: bool
    pid: int | None = None
    note: str = ""


def environment() -> dict[str, str]:
    """Our variables that a resident process may inherit: no secret, no TAXI_INGEST_*, no PREFECT_*."""
    kept = {name for name in os.environ if name in _KEPT_VARIABLES or name.startswith("LC_")}
    return {name: os.environ[name] for name in kept}


def private_folder(path: Path, error: type[TaxiIngestError]) -> Path:
    """Make a folder, and those above it, for their owner only; raise `error` if it can't be written."""
    try:
        for part in reversed([part for part in (path, *path.parents) if not part.exists()]):
            part.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            reason = "Not a directory"
        else:
            reason = "" if os.access(path, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as problem:
        reason = problem.strerror or str(problem)
    if reason:
        raise error(
            f"The folder {path} can't be written: {reason}.",
            "Set TAXI_INGEST_HOME to a folder that you can write to.",
        )
    return path


@contextmanager
def lock(path: Path, error: type[TaxiIngestError]) -> Iterator[None]:
    """Let one process at a time start or stop a server; raise `error` if another takes minutes over it."""
    private_folder(path.parent, error)
    guard = InterProcessLock(path)
    try:
        entered = guard.acquire(timeout=_LOCK_SECONDS, delay=0.02, max_delay=0.02)
    except OSError as problem:
        raise error(
            f"The lock {path} can't be opened: {problem.strerror}.",
            "Set TAXI_INGEST_HOME to a folder that you can write to.",
        ) from problem
    if not entered:
        raise error(
            f"Another process has held the lock {path} for {_LOCK_SECONDS} seconds.",
            "End the other taxi-ingest that is starting or stopping the local stack.",
        )
    try:
        yield
    finally:
        guard.release()


def process(pid: int) -> psutil.Process | None:
    """The live process with this pid, or None if there is none (a zombie counts as none)."""
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else found
    except (psutil.Error, ValueError, OverflowError):
        return None


def ends(found: psutil.Process, within_seconds: float) -> bool:
    """Wait for a process to end; a zombie has ended, as its parent may never ask for it."""
    deadline = time.monotonic() + within_seconds
    while found.is_running() and process(found.pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    with suppress(ChildProcessError):
        os.waitpid(found.pid, os.WNOHANG)  # where we are its parent, so that it is gone
    return True


def command_line(found: psutil.Process) -> list[str]:
    """The arguments that a process was started with; empty where we may not read them or it is gone."""
    try:
        return found.cmdline()
    except psutil.Error:
        return []


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log; empty if it can't be read."""
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
