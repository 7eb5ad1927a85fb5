"""One run of a program, measured."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from threading import Timer

_PATIENCE = 900
"""Seconds after which a program is taken to hang, and killed."""


class Failed(Exception):
    """A program ended with an error; the text is its last words."""


@dataclass(frozen=True)
class Measurement:
    """What a run took."""

    seconds: float
    """Of the whole process, or what the program says of itself."""
    cpu_seconds: float
    """Of the process and its children: user and system."""
    peak_mb: float
    """Resident memory at its peak, in MB (10^6 bytes), of the largest process."""
    server_cpu_seconds: float = 0.0
    """Of Prefect's server meanwhile, and a while longer; 0 where that is not measured."""

    @property
    def whole_cpu_seconds(self) -> float:
        """Of the process and of Prefect's server."""
        return self.cpu_seconds + self.server_cpu_seconds


def measured(
    command: Sequence[str], env: Mapping[str, str], folder: Path, own_clock: bool = False
) -> Measurement:
    """Run a program in a folder to its end. With `own_clock` its last line is JSON with its `seconds`.

    Raises Failed where it ends with an error, or not at all.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        status, usage = _waited(process)
        seconds = time.perf_counter() - began
        output.seek(0)
        said = output.read().strip()
    if status:
        raise Failed(f"exit code {status}: {said[-2000:]}")
    if own_clock:
        seconds = float(json.loads(said.splitlines()[-1])["seconds"])
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def _waited(process: subprocess.Popen[bytes]) -> tuple[int, struct_rusage]:
    """Its exit code and what it used; `wait4` tells of this process alone, as `getrusage` does not."""
    timer = Timer(_PATIENCE, process.kill)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage
