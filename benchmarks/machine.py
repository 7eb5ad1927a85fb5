"""What the benchmark ran on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers_environment import pins
from benchmarks.place import Place


def machine(place: Place) -> dict[str, Any]:
    """Hardware, load before the benchmark's own, and versions."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        # What else the machine does: absolute seconds mean little where this is not near zero.
        "load_average_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": place.sql("SHOW server_version"),
        "psql": place.run(place.psql, "--version"),
        "taxi_ingest": version("taxi-ingest"),
        "commit": place.run("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "peers": pins(),
    }


def _cpu() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
