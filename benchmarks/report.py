"""What a run of the benchmark leaves: a table, a JSON file."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.place import Place
from benchmarks.scale import Model
from benchmarks.targets import Results, Verdict


def table(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Both tables as Markdown, which reads well in a terminal too."""
    lines = ["| case | rounds | seconds (median) | min-max | CPU s | peak MB |", "|---|---|---|---|---|---|"]
    lines += [_case_line(case, results) for case in results]
    lines += ["", "| measure | target | reached | rounds' min-max | |", "|---|---|---|---|---|"]
    lines += [_target_line(verdict) for verdict in verdicts]
    return "\n".join(lines)


def _case_line(case: str, results: Results) -> str:
    seconds = [one.seconds for one in results[case]]
    cpu, peak = (median(getattr(one, name) for one in results[case]) for name in ("cpu_seconds", "peak_mb"))
    spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
    return f"| {case} | {len(seconds)} | {median(seconds):.2f} | {spread} | {cpu:.2f} | {peak:.0f} |"


def _target_line(verdict: Verdict) -> str:
    target = verdict.target
    digits = 0 if target.unit == "MB" else 2
    limit, reached, low, high = (
        f"{value:.{digits}f}" for value in (target.limit, verdict.reached, verdict.lowest, verdict.highest)
    )
    unit = f" {target.unit}".rstrip()
    met = "met" if verdict.met else "NOT MET"
    return f"| {target.what} | <= {limit}{unit} | {reached}{unit} | {low}-{high} | {met} |"


def write_json(
    path: Path, place: Place, results: Results, verdicts: Sequence[Verdict], model: Model | None
) -> None:
    """Everything that was measured, and on which machine."""
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(place),
        "cases": {case: [asdict(one) for one in runs] for case, runs in results.items()},
        "targets": [{**asdict(one), "met": one.met} for one in verdicts],
        "model": asdict(model) if model else None,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def machine(place: Place) -> dict[str, str | int]:
    """What it ran on."""
    about = Path("/proc/cpuinfo")
    models = [line for line in about.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgres": place.sql("SHOW server_version"),
    }
