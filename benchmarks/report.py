"""What a run of the benchmark leaves: tables, a JSON file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.data import Input
from benchmarks.measure import Measurement
from benchmarks.scale import Model
from benchmarks.targets import Verdict
from benchmarks.turns import Results


@dataclass(frozen=True)
class Report:
    """All that is known at the end."""

    date: str
    machine: Mapping[str, Any]
    inputs: Mapping[str, Input]
    results: Results
    unavailable: Mapping[str, str]
    """Case -> why it was not run."""
    verdicts: Sequence[Verdict]
    models: Sequence[Model]

    def tables(self) -> str:
        """As Markdown, which reads well in a terminal too."""
        parts = (self._conditions(), self._cases(), self._targets(), self._scale())
        return "\n\n".join("\n".join(lines) for lines in parts)

    def json(self) -> str:
        """Every measurement, and what follows from them."""
        content = {
            "date": self.date,
            "machine": self.machine,
            "inputs": {
                name: {"rows": input.rows, "files": len(input.paths), "bytes": input.bytes}
                for name, input in self.inputs.items()
            },
            "cases": {case: _case(runs) for case, runs in self.results.items()},
            "unavailable": self.unavailable,
            "targets": [{**asdict(verdict), "met": verdict.met} for verdict in self.verdicts],
            "models": [asdict(model) for model in self.models],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.json())

    def _conditions(self) -> list[str]:
        machine = self.machine
        load = f"load average before: {machine['load_average_before']}"
        busy = machine["load_average_before"] > machine["cores"] / 4
        verdict = "; BUSY: ratios and seconds are not to be relied on" if busy else ""
        return [f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; {load}{verdict}"]

    def _cases(self) -> list[str]:
        head = [
            "| case | rounds | seconds (median) | min-max | CPU s | peak MB | server's CPU s |",
            "|---|---|---|---|---|---|---|",
        ]
        reasons = [
            f"| {_cell(case)} | – | not available: {_cell(why)} | | | | |"
            for case, why in self.unavailable.items()
        ]
        return head + [_case_line(case, runs) for case, runs in self.results.items()] + reasons

    def _targets(self) -> list[str]:
        head = ["| measure | target | reached (median) | min-max | |", "|---|---|---|---|---|"]
        return head + [_target_line(verdict) for verdict in self.verdicts]

    def _scale(self) -> list[str]:
        head = ["| model | fixed | a million rows | a file |", "|---|---|---|---|"]
        return head + [
            f"| {model.contender} | {model.fixed_seconds:.2f} s | {model.seconds_per_million_rows:.2f} s "
            f"| {model.seconds_per_file:.3f} s |"
            for model in self.models
        ]


def target_text(verdict: Verdict) -> str:
    """`1.02 (0.95-1.10), at most 0.9`, with units."""
    unit = f" {verdict.target.unit}".rstrip()
    limit, reached, low, high = _numbers(verdict)
    return f"{reached}{unit} ({low}-{high}), at most {limit}{unit}"


def _target_line(verdict: Verdict) -> str:
    unit = f" {verdict.target.unit}".rstrip()
    limit, reached, low, high = _numbers(verdict)
    met = "met" if verdict.met else "NOT MET"
    return f"| {_cell(verdict.target.what)} | <= {limit}{unit} | {reached}{unit} | {low}-{high} | {met} |"


def _cell(text: str) -> str:
    """Text in which a `|` doesn't end the table's cell."""
    return text.replace("|", r"\|")


def _numbers(verdict: Verdict) -> list[str]:
    digits = 0 if verdict.target.unit == "MB" else 2
    numbers = (verdict.target.limit, verdict.reached, verdict.lowest, verdict.highest)
    return [f"{number:.{digits}f}" for number in numbers]


def _case(runs: Sequence[Measurement]) -> dict[str, Any]:
    """Each measure's median and spread, and the single runs."""
    return {name.name: _spread(runs, name.name) for name in fields(Measurement)} | {
        "runs": [asdict(run) for run in runs]
    }


def _spread(runs: Sequence[Measurement], field: str) -> dict[str, float]:
    values = [getattr(run, field) for run in runs]
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def _case_line(case: str, runs: Sequence[Measurement]) -> str:
    seconds, cpu, peak, server = (_spread(runs, field.name) for field in fields(Measurement))
    return (
        f"| {_cell(case)} | {len(runs)} | {seconds['median']:.2f} "
        f"| {seconds['lowest']:.2f}-{seconds['highest']:.2f} "
        f"| {cpu['median']:.2f} | {peak['median']:.0f} "
        f"| {server['median'] or '':.4} |"
    )
