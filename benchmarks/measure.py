"""One run of a program, measured."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """What a run took."""

    seconds: float
    """Of the whole process, or what the program says of itself."""
    cpu_seconds: float
    """Of the process and its children: user and system."""
    peak_mb: float
    """Resident memory at its peak, in MB (10^6 bytes)."""


def measured(command: Sequence[str], env: Mapping[str, str], own_clock: bool = False) -> Measurement:
    """Run a program to its end. With `own_clock` its output is JSON that holds its `seconds`.

    Raises RuntimeError with its last words where it fails.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command), env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {said[-2000:]}")
    if own_clock:
        seconds = float(json.loads(said.splitlines()[-1])["seconds"])
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)
