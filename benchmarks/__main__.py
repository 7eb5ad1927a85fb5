"""The command line of the benchmark: python -m benchmarks [--quick] [--only PART] [--rounds N]"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contenders import CONTENDERS
from benchmarks.data import (
    FEW_MONTHS,
    MANY_FILES,
    MANY_MONTHS,
    MONTH,
    MONTH_ROWS,
    SMALL,
    SMALL_FILE_ROWS,
    TENTH,
    YEAR,
    Inputs,
)
from benchmarks.machine import machine
from benchmarks.peers_environment import make_peers
from benchmarks.place import Place, running_place
from benchmarks.report import Report, target_text
from benchmarks.scale import MODELLED, fit
from benchmarks.targets import GUARD, TARGETS, judge, was_run
from benchmarks.turns import Turns

_HERE = Path(__file__).resolve().parent
_RESULT = _HERE / "results" / "latest.json"


def main() -> int:
    """Run it all, or the quick guard; 1 where the guard's limit is broken."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="only the load stage against psql, as a guard")
    parser.add_argument("--only", choices=_PARTS, help="only this part; the kept result stays as it is")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = _HERE.parent / "build" / "bench"
    inputs = Inputs(folder / "data")
    with running_place(folder, inputs.csv("csv", MONTH).paths[0]) as place:
        if options.quick:
            return _guard(place, inputs)
        return _measure(place, inputs, [options.only] if options.only else list(_PARTS), options.rounds)


def _guard(place: Place, inputs: Inputs) -> int:
    turns, csv = Turns(place), inputs.csv("csv", MONTH)
    turns.alternate(5, ("psql", csv), ("load stage", csv))
    verdict = judge(GUARD, turns.results)
    print(f"{'ok' if verdict.met else 'FAILED, slower than before'}: {GUARD.what}: {target_text(verdict)}")
    return int(not verdict.met)


def _measure(place: Place, inputs: Inputs, parts: Sequence[str], rounds: int) -> int:
    peers = make_peers(place.peers)
    date, about, turns = datetime.now(UTC).isoformat(timespec="seconds"), machine(place), Turns(place)
    for part in parts:
        _PARTS[part](turns, inputs, rounds)
    verdicts = [judge(target, turns.results) for target in TARGETS if was_run(target, turns.results)]
    whole = len(parts) == len(_PARTS)
    models = [fit(contender, turns.results, turns.inputs) for contender in MODELLED] if whole else []
    report = Report(date, about, turns.inputs, turns.results, turns.unavailable, verdicts, models)
    print(f"\n{report.tables()}")
    if whole:
        report.write(_RESULT)
        subprocess.run([peers, _HERE / "plot.py", _RESULT], check=False)
    return 0


def _month(turns: Turns, inputs: Inputs, rounds: int) -> None:
    """A month's file in each format, against all others."""
    csv, gzipped = inputs.csv("csv", MONTH), inputs.gzipped("csv.gz", MONTH)
    turns.alternate(
        rounds,
        ("psql", csv),
        ("load stage", csv),
        ("load stage, one connection", csv),
        ("load stage, no index", csv),
        ("ingest", csv),
        ("load stage", inputs.parquet("parquet", MONTH)),
        ("load stage, one connection", inputs.parquet("parquet", MONTH)),
        ("zcat | psql", gzipped),
        ("load stage", gzipped),
        ("DuckDB", csv),
        ("ADBC", csv),
        ("dlt", csv),
        ("pandas", csv),
    )


def _year(turns: Turns, inputs: Inputs, rounds: int) -> None:
    year = inputs.csv("13.7 M", YEAR)
    turns.alternate(min(rounds, 3), ("psql", year), ("ingest", year), ("load stage", year))


def _small(turns: Turns, inputs: Inputs, rounds: int) -> None:
    """What doesn't depend on rows: a start, a skip, the help."""
    place, small, tenth = turns.place, inputs.csv("100 rows", SMALL), inputs.csv("0.1 M", TENTH)
    ingest = CONTENDERS["ingest"].command(place, small)
    turns.alternate(
        rounds,
        ("load stage", tenth),
        ("load stage, one connection", tenth),
        ("ingest", tenth),
        ("load stage", small),
        ("ingest", small),
    )
    for _ in range(rounds):
        turns.time("nothing new", ingest)
        turns.prove("nothing new", small)
        turns.time("--help", [place.tool, "--help"])
    for _ in range(3):
        place.begin(typed=False)
        place.stop()
        turns.time("ingest, stack down", ingest)
        turns.prove("ingest, stack down", small)


def _many(turns: Turns, inputs: Inputs, rounds: int) -> None:
    """Many small files; `ingest` starts anew for each, which takes long enough once."""
    many = inputs.months("many files", MANY_FILES, SMALL_FILE_ROWS)
    turns.alternate(1, ("ingest", many))
    turns.alternate(min(rounds, 3), ("load stage", many))


def _backfill(turns: Turns, inputs: Inputs, rounds: int) -> None:
    """Months side by side: a year against all others, and many small ones, where Prefect is most of it."""
    year = inputs.months_as_parquet("12 months", FEW_MONTHS, MONTH_ROWS)
    turns.alternate(
        min(rounds, 3),
        ("backfill, 2 jobs", year),
        ("DuckDB", year),
        ("psql", inputs.months("12 months as CSV", FEW_MONTHS, MONTH_ROWS)),
        ("ingest", year),
    )
    small = inputs.small_months("40 small months", MANY_FILES)
    turns.alternate(
        min(rounds, 3),
        ("backfill, 2 jobs", small),
        ("load stage", small),
        ("backfill, 1 job", small),
        ("backfill, 4 jobs", small),
    )
    few = inputs.small_months("12 small months", FEW_MONTHS)
    turns.alternate(
        1,
        ("backfill, 2 jobs", few),
        ("backfill, 2 jobs", inputs.small_months("100 small months", MANY_MONTHS)),
    )


def _lake(turns: Turns, inputs: Inputs, rounds: int) -> None:
    """A month's file as sorted Parquet."""
    csv, parquet = inputs.csv("csv", MONTH), inputs.parquet("parquet", MONTH)
    turns.alternate(
        rounds,
        ("lake stage", parquet),
        ("DuckDB COPY", parquet),
        ("lake stage", csv),
        ("DuckDB COPY", csv),
        ("ingest --to lake", csv),
    )
    turns.alternate(1, ("ingest --to lake", inputs.csv("13.7 M", YEAR)))


_PARTS: Mapping[str, Callable[[Turns, Inputs, int], None]] = {
    "month": _month,
    "year": _year,
    "small": _small,
    "many": _many,
    "backfill": _backfill,
    "lake": _lake,
}


if __name__ == "__main__":
    sys.exit(main())
