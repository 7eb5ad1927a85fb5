"""The logs of the resident servers, which run for months: each at most two files of a bounded size."""

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taxi_ingest.stack.residents import open_private, write_private

LONGEST_BYTES = 5_000_000
_WATCH_SECONDS = 60


def earlier(log: Path) -> Path:
    """Where what a log held before lies."""
    return log.with_name(f"{log.name}.1")


def shorten(log: Path, longest_bytes: int = LONGEST_BYTES) -> None:
    """Move what a log holds to `earlier(log)`, in the place of what is there, once it has grown too long.

    Its server, which has opened it to append, goes on to write at the new end.
    """
    if not log.is_file() or log.stat().st_size <= longest_bytes:
        return
    with os.fdopen(open_private(log, os.O_RDWR), "r+b") as file:
        file.seek(-longest_bytes, os.SEEK_END)
        write_private(earlier(log), file.read().decode(errors="replace"))
        file.truncate(0)


def keep_short(logs: Iterable[Path]) -> None:
    """Shorten them from now on, as long as this process runs."""

    def watch() -> None:
        while True:
            time.sleep(_WATCH_SECONDS)
            for log in logs:
                # A full disk, or a folder that was just removed: the next time may do.
                with suppress(OSError):
                    shorten(log)

    threading.Thread(target=watch, name="logs", daemon=True).start()
