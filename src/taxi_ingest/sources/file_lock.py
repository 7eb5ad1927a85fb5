"""A lock on a file: between processes, and between the threads of one."""

import fcntl
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

_PAUSE_SECONDS = 0.02


def locked(
    path: Path,
    opened: Callable[[], int],
    seconds: float = math.inf,
    on_wait: Callable[[], None] = lambda: None,
) -> IO[bytes] | None:
    """The file of a lock that we hold until it is closed; None if others have held it for so long.

    `opened` makes a descriptor of the file, and the file where there is none. Raises its OSError.
    """
    deadline = time.monotonic() + seconds
    while True:
        file = os.fdopen(opened(), "rb")
        if not _held(file, deadline, on_wait):
            file.close()
            return None
        # Who had it may have removed it: then others hold another file of this name.
        with suppress(FileNotFoundError):
            if os.path.samestat(path.lstat(), os.fstat(file.fileno())):
                return file
        file.close()


def _held(file: IO[bytes], deadline: float, on_wait: Callable[[], None]) -> bool:
    if _tried(file):
        return True
    if time.monotonic() < deadline:
        on_wait()
    while time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        if _tried(file):
            return True
    return False


def _tried(file: IO[bytes]) -> bool:
    # flock, unlike lockf, also keeps apart the threads of one process.
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
