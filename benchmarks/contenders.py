"""Who runs: each contender is a command that fills the table `trips` from a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.place import TABLE, Place

_HERE = Path(__file__).parent
_COPY = r"\copy trips from {} with csv header"


@dataclass(frozen=True)
class Contender:
    """A way to load a file."""

    command: Callable[[Place, Path], Sequence[str]]
    typed: bool = False
    """Whether it needs an empty table with types."""
    own_clock: bool = False


def _psql(place: Place, path: Path) -> Sequence[str]:
    return ["psql", place.database, "-qX", "-c", _COPY.format(f"'{path}'")]


def _psql_unzipped(place: Place, path: Path) -> Sequence[str]:
    copy = _COPY.format("pstdin")
    return ["sh", "-c", 'zcat "$1" | psql "$2" -qX -c "$3"', "sh", str(path), place.database, copy]


def _load_stage(place: Place, path: Path) -> Sequence[str]:
    paths = sorted(path.glob("*/*.csv")) if path.is_dir() else [path]
    python = str(Path(place.tool).with_name("python"))
    return [python, str(_HERE / "load_stage.py"), place.database, TABLE, *map(str, paths)]


def _ingest(place: Place, path: Path) -> Sequence[str]:
    return [place.tool, "ingest", "--url", str(path), "--table", TABLE, "--quiet"]


def _peer(name: str) -> Callable[[Place, Path], Sequence[str]]:
    def command(place: Place, path: Path) -> Sequence[str]:
        script = _HERE / "peers" / f"{name}_peer.py"
        return [str(place.peers_python), str(script), str(path), place.database, TABLE]

    return command


CONTENDERS = {
    "psql": Contender(_psql, typed=True),
    "zcat | psql": Contender(_psql_unzipped, typed=True),
    "load stage": Contender(_load_stage, own_clock=True),
    "ingest": Contender(_ingest),
    "DuckDB": Contender(_peer("duckdb")),
    "ADBC": Contender(_peer("adbc")),
    "dlt": Contender(_peer("dlt")),
    "pandas": Contender(_peer("pandas")),
}
