"""The command line of the benchmark: python -m benchmarks [--quick]"""

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import data
from benchmarks.contenders import CONTENDERS
from benchmarks.measure import Measurement, measured
from benchmarks.place import Place, make_peers, make_place
from benchmarks.report import table, write_json
from benchmarks.scale import FILES, MANY, ROWS_EACH, fit
from benchmarks.targets import judge

_ROOT = Path(__file__).parent.parent
_RESULTS = Path(__file__).parent / "results" / "latest.json"
_QUICK_LIMIT = 1.1
"""Of the load stage's ratio to psql, above which `make bench-quick` fails."""


class Bench:
    """Runs contenders by turns, and keeps what each run took."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.results: dict[str, list[Measurement]] = defaultdict(list)
        self._proofs: dict[str, str] = {}

    def alternate(self, rounds: int, cases: Sequence[str], paths: Mapping[str, Path], rows: str) -> None:
        """Run the cases (`contender, input`) A B A B; all must have loaded the same `rows`."""
        for _ in range(rounds):
            for case in cases:
                self._load(case, paths[case.partition(", ")[2]], rows)

    def time(self, case: str, command: Sequence[str]) -> None:
        """Run a command of ours that loads nothing new."""
        self.results[case].append(measured(command, self.place.env))
        self._tell(case)

    def _load(self, case: str, path: Path, rows: str) -> None:
        contender = CONTENDERS[case.partition(", ")[0]]
        self.place.begin(contender.typed)
        command = contender.command(self.place, path)
        self.results[case].append(measured(command, self.place.env, contender.own_clock))
        proof = self.place.proof()
        if self._proofs.setdefault(rows, proof) != proof:
            raise RuntimeError(f"{case} has loaded {proof}, others {self._proofs[rows]}")
        self._tell(case)

    def _tell(self, case: str) -> None:
        last = self.results[case][-1]
        print(f"{last.seconds:8.2f} s  {last.peak_mb:5.0f} MB  {case}", flush=True)


def main() -> int:
    """Run it all, or the quick guard; 1 where the guard's limit is broken."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="only the load stage against psql, as a guard")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    place = make_place(_ROOT / "build" / "bench")
    try:
        bench = Bench(place)
        return _guard(bench) if options.quick else _everything(bench, options.rounds)
    finally:
        place.begin(typed=False)
        place.stop()


def _guard(bench: Bench) -> int:
    month = data.csv(bench.place.folder / "data", data.MONTH)
    bench.alternate(5, ["psql, csv", "load stage, csv"], {"csv": month}, "month")
    reached = judge(bench.results)[0].reached
    print(f"load stage / psql: {reached:.2f}, at most {_QUICK_LIMIT}")
    return int(reached > _QUICK_LIMIT)


def _everything(bench: Bench, rounds: int) -> int:
    make_peers(bench.place)
    folder = bench.place.folder / "data"
    month, year = data.csv(folder, data.MONTH), data.csv(folder, data.YEAR)
    inputs = {"csv": month, "csv.gz": data.gzipped(month), "parquet": data.parquet(month)}
    stages = ["psql, csv", "load stage, csv", "ingest, csv", "load stage, parquet"]
    bench.alternate(rounds, [*stages, "zcat | psql, csv.gz", "load stage, csv.gz"], inputs, "month")
    bench.alternate(3, ["psql, 13.7 M", "ingest, 13.7 M"], {"13.7 M": year}, "year")
    bench.alternate(3, ["DuckDB, csv", "ADBC, csv"], inputs, "month")
    bench.alternate(1, ["dlt, csv", "pandas, csv"], inputs, "month")
    _small(bench, rounds)
    _many(bench)
    verdicts, model = judge(bench.results), fit(bench.results)
    print(f"\n{table(bench.results, verdicts)}\n\n{model}")
    write_json(_RESULTS, bench.place, bench.results, verdicts, model)
    subprocess.run([bench.place.peers_python, Path(__file__).with_name("plot.py"), _RESULTS], check=True)
    return 0


def _small(bench: Bench, rounds: int) -> None:
    """What doesn't depend on rows: a start, a skip, the help."""
    place, folder = bench.place, bench.place.folder / "data"
    small, tenth = data.csv(folder, data.SMALL), data.csv(folder, data.TENTH)
    bench.alternate(rounds, ["ingest, 100 rows"], {"100 rows": small}, "small")
    bench.alternate(3, ["ingest, 0.1 M"], {"0.1 M": tenth}, "tenth")
    for _ in range(rounds):
        bench.time("nothing new", CONTENDERS["ingest"].command(place, tenth))
        bench.time("--help", [place.tool, "--help"])
    for _ in range(3):
        place.begin(typed=False)
        place.stop()
        bench.time("ingest, stack down", CONTENDERS["ingest"].command(place, small))


def _many(bench: Bench) -> None:
    folder = bench.place.folder / "data" / "many"
    for seed in range(1, FILES + 1):
        data.csv(folder, ROWS_EACH, seed)
    contender, _, name = MANY.partition(", ")
    bench.alternate(3, [f"{contender}, {name}"], {name: folder}, "many")


if __name__ == "__main__":
    sys.exit(main())
