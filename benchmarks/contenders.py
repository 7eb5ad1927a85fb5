"""Who runs: each contender is a command that fills the table `trips` from files."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Input
from benchmarks.place import TABLE, Place

_HERE = Path(__file__).parent
_COPY = r"\copy trips from {} with csv header"
_EACH_FILE = (
    'tool=$1 table=$2; shift 2; for file; do "$tool" ingest --url "$file" --table "$table" --quiet; done'
)
_COPY_EACH_FILE = """
tool=$1 database=$2; shift 2
for file; do "$tool" "$database" -qX -c "\\\\copy trips from '$file' with csv header"; done
"""


@dataclass(frozen=True)
class Contender:
    """A way to load files."""

    command: Callable[[Place, Input], Sequence[str]]
    typed: bool = False
    """Whether it needs an empty table with types."""
    own_clock: bool = False
    """Whether it tells its seconds itself."""
    is_peer: bool = False
    """Whether the benchmark goes on without it."""
    into_lake: bool = False
    """Whether it fills a lake, and no table."""
    by_prefect: bool = False
    """Whether the CPU of Prefect's server is measured with it, for which it is waited."""
    most_rounds: int = sys.maxsize


def _psql(place: Place, input: Input) -> Sequence[str]:
    if len(input.paths) > 1:
        return ["sh", "-ec", _COPY_EACH_FILE, "sh", place.psql, place.database, *map(str, input.paths)]
    [path] = input.paths
    return [place.psql, place.database, "-qX", "-c", _COPY.format(f"'{path}'")]


def _psql_unzipped(place: Place, input: Input) -> Sequence[str]:
    script = 'zcat "$1" | "$2" "$3" -qX -c "$4"'
    [path] = input.paths
    return ["sh", "-c", script, "sh", str(path), place.psql, place.database, _COPY.format("pstdin")]


def _load_stage(script: str) -> Callable[[Place, Input], Sequence[str]]:
    def command(place: Place, input: Input) -> Sequence[str]:
        return [sys.executable, str(_HERE / script), place.database, TABLE, *map(str, input.paths)]

    return command


def _ingest(place: Place, input: Input) -> Sequence[str]:
    if len(input.paths) > 1:
        return ["sh", "-ec", _EACH_FILE, "sh", place.tool, TABLE, *map(str, input.paths)]
    return [place.tool, "ingest", "--url", str(input.paths[0]), "--table", TABLE, "--quiet"]


def _backfill(jobs: int) -> Contender:
    def command(place: Place, input: Input) -> Sequence[str]:
        mirror = f"TAXI_INGEST_TLC_URL={input.paths[0].parent}"
        backfill = ["backfill", "yellow", input.range, "--table", TABLE, "--jobs", str(jobs), "--quiet"]
        return ["env", mirror, place.tool, *backfill]

    return Contender(command, by_prefect=True)


def _peer(name: str, most_rounds: int = sys.maxsize) -> Contender:
    def command(place: Place, input: Input) -> Sequence[str]:
        script = str(_HERE / "peers" / f"{name}_peer.py")
        python = str(place.peers / "bin" / "python")
        return [python, script, *map(str, input.paths), place.database, TABLE]

    return Contender(command, is_peer=True, most_rounds=most_rounds)


def _lake_stage(place: Place, input: Input) -> Sequence[str]:
    return [sys.executable, str(_HERE / "lake_stage.py"), str(place.lake), *map(str, input.paths)]


def _duckdb_copy(place: Place, input: Input) -> Sequence[str]:
    script = str(_HERE / "peers" / "duckdb_lake_peer.py")
    return [str(place.peers / "bin" / "python"), script, *map(str, input.paths), str(place.lake)]


def _ingest_to_lake(place: Place, input: Input) -> Sequence[str]:
    return [*_ingest(place, input), "--to", str(place.lake)]


CONTENDERS = {
    "psql": Contender(_psql, typed=True),
    "zcat | psql": Contender(_psql_unzipped, typed=True),
    "load stage": Contender(_load_stage("load_stage.py"), own_clock=True),
    "load stage, one connection": Contender(_load_stage("load_stage_single.py"), own_clock=True),
    "load stage, no index": Contender(_load_stage("load_stage_unindexed.py"), own_clock=True),
    "ingest": Contender(_ingest),
    "backfill, 1 job": _backfill(1),
    "backfill, 2 jobs": _backfill(2),
    "backfill, 4 jobs": _backfill(4),
    "lake stage": Contender(_lake_stage, own_clock=True, into_lake=True),
    "DuckDB COPY": Contender(_duckdb_copy, own_clock=True, is_peer=True, into_lake=True),
    "ingest --to lake": Contender(_ingest_to_lake, into_lake=True),
    "DuckDB": _peer("duckdb"),
    "ADBC": _peer("adbc"),
    # A second round of these would take as long as all others do together.
    "dlt": _peer("dlt", most_rounds=1),
    "pandas": _peer("pandas", most_rounds=1),
}
