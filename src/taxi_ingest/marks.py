"""The mark by which a flow run's process is found again: Prefect keeps it with the run.

Nothing here imports Prefect.
"""

import os
import socket

import psutil

from taxi_ingest.stack.residents import birth

_MARK = f"taxi-ingest@{socket.gethostname()}:"


def own_mark() -> str:
    """This process's mark: machine, pid, and when it began, as pids are used again."""
    return _mark(psutil.Process())


def may_be_left(mark: str | None) -> bool:
    """Whether a run that seems to run may have been left: its process is dead, or goes on without it."""
    return mark == own_mark() or is_dead(mark)


def is_dead(mark: str | None) -> bool:
    """Whether a run of ours, on this machine, has lost its process."""
    if mark is None or not mark.startswith(_MARK):
        return False
    pid = int(mark.split(":")[1])
    if pid == os.getpid():
        return mark != own_mark()
    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return True
        # Older versions wrote seconds, which move with the clock.
        return "-" in mark.rpartition(":")[2] and mark != _mark(found)
    except psutil.NoSuchProcess:
        return True


def _mark(process: psutil.Process) -> str:
    return f"{_MARK}{process.pid}:{birth(process)}"
