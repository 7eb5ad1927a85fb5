"""The command line: python -m benchmarks.queries [--months N] [--rows N] [--rounds N]"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import psycopg2

from benchmarks.data import FEW_MONTHS, MONTH_ROWS, Inputs
from benchmarks.machine import machine
from benchmarks.place import Place, running_place
from benchmarks.queries.data import INDEXED, PLAIN, ZONES, fill_duckdb, fill_ours, fill_plain, ordered
from benchmarks.queries.questions import QUESTIONS, Question

_ROOT = Path(__file__).resolve().parents[2]
_RESULT = _ROOT / "benchmarks" / "results" / "queries.json"
_LEAST_GAIN = 5.0
"""How many times faster a question about a day or a month is to be than in the plain table."""

Ask = Callable[[str], list[tuple[Any, ...]]]


@dataclass
class Answer:
    """What a question took in each place, in seconds, a value a round."""

    question: Question
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def took(self, place: str) -> float:
        return median(self.seconds[place])

    @property
    def gain(self) -> float:
        """How many times faster ours is than the plain table: the median of the rounds' ratios."""
        pairs = zip(self.seconds["plain"], self.seconds["ours"], strict=True)
        return median(plain / ours for plain, ours in pairs)

    @property
    def target(self) -> float:
        return _LEAST_GAIN if self.question.by_time else 1.0


def main() -> int:
    """Fill the places, ask, print; 1 where a target is missed. Only a whole run is kept in results/."""
    parser = argparse.ArgumentParser(prog="make bench-queries")
    parser.add_argument("--months", type=int, default=FEW_MONTHS)
    parser.add_argument("--rows", type=int, default=MONTH_ROWS, help="of a month")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = _ROOT / "build" / "bench"
    months = Inputs(folder / "data").months("months", options.months, options.rows).paths
    paths = [ordered(month) for month in months]
    with running_place(folder, months[-1]) as place:
        about = machine(place)
        fill_ours(place, paths)
        fill_plain(place, paths)
        answers = _asked(place, fill_duckdb(place, paths), options.rounds)
    print(_table(answers, about))
    if (options.months, options.rows) == (FEW_MONTHS, MONTH_ROWS):
        _RESULT.write_text(_json(answers, about))
    return int(any(answer.gain < answer.target for answer in answers))


def _asked(place: Place, file: Path, rounds: int) -> list[Answer]:
    answers = [Answer(question) for question in QUESTIONS]
    with closing(psycopg2.connect(place.database)) as connection, duckdb.connect(str(file)) as own:
        connection.autocommit = True
        cursor = connection.cursor()

        def postgres(text: str) -> list[tuple[Any, ...]]:
            cursor.execute(text)
            return cursor.fetchall()

        # Once unmeasured, so that each finds what it reads in memory, as far as that goes.
        for number in range(rounds + 1):
            for answer in answers:
                _ask(answer, postgres, lambda text: own.execute(text).fetchall(), keep=number > 0)
    return answers


def _ask(answer: Answer, postgres: Ask, own: Ask, keep: bool) -> None:
    """Ask all places in turn. Raises RuntimeError where one answers otherwise."""
    question, answered = answer.question, {}
    for place, ask, text in (
        ("ours", postgres, question.ours),
        ("plain", postgres, question.plain.format(trips=PLAIN, zones=ZONES)),
        ("indexed", postgres, question.plain.format(trips=INDEXED, zones=ZONES)),
        ("DuckDB", own, question.plain.format(trips=PLAIN, zones=ZONES)),
    ):
        began = time.perf_counter()
        rows = ask(text)
        seconds = time.perf_counter() - began
        answered[place] = [tuple(map(_rounded, row)) for row in rows]
        if answered[place] != answered["ours"]:
            raise RuntimeError(f"{question.name}: {place} answers otherwise than ours.")
        if keep:
            answer.seconds.setdefault(place, []).append(seconds)


def _rounded(value: Any) -> Any:
    """What is the same in whatever order numbers are added, and of whatever type they are."""
    try:
        return float(f"{float(value):.9g}")
    except (TypeError, ValueError):
        return str(value)


def _table(answers: Sequence[Answer], about: dict[str, Any]) -> str:
    """As Markdown."""
    places = ("ours", "plain", "indexed", "DuckDB")
    lines = [
        f"{about['cpu']}, {about['cores']} cores; load average before: {about['load_average_before']}",
        "",
        f"| milliseconds (median) | {' | '.join(places)} | times faster than plain | at least | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for answer in answers:
        took = " | ".join(f"{answer.took(place) * 1000:,.1f}" for place in places)
        met = "yes" if answer.gain >= answer.target else "**no**"
        lines.append(f"| {answer.question.name} | {took} | {answer.gain:.2f} | {answer.target:g} | {met} |")
    return "\n".join(lines)


def _json(answers: Sequence[Answer], about: dict[str, Any]) -> str:
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "seconds": {answer.question.name: answer.seconds for answer in answers},
        "gain": {answer.question.name: answer.gain for answer in answers},
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
