"""The input: yellow trips with the distributions of TLC's files, the same at each run."""

import subprocess
import sys
from pathlib import Path

SMALL, TENTH, MONTH, YEAR = 100, 100_000, 1_369_765, 13_697_650
"""Rows. `MONTH` is what TLC's file of 2021-01 has."""

_NAME = "yellow_tripdata_2021-01"

_WRITE = """
import sys
from pathlib import Path
from taxi_ingest.sample import write_sample
path, rows, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
write_sample("yellow", "2021-01", path, rows=rows, seed=seed)
"""

_TO_PARQUET = """
import sys
import pyarrow.csv, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.csv.read_csv(sys.argv[1]), sys.argv[2], row_group_size=2**40)
"""


def csv(folder: Path, rows: int, seed: int = 0) -> Path:
    """A CSV of that many rows; made if it is missing."""
    path = folder / f"{rows}-{seed}" / f"{_NAME}.csv"
    return path if path.exists() else _made(path, _WRITE, path, rows, seed)


def gzipped(csv_path: Path) -> Path:
    """The same, gzipped."""
    path = csv_path.with_suffix(".csv.gz")
    if not path.exists():
        with path.with_suffix(".new").open("wb") as file:
            subprocess.run(["gzip", "--no-name", "--stdout", csv_path], stdout=file, check=True)
        path.with_suffix(".new").rename(path)
    return path


def parquet(csv_path: Path) -> Path:
    """The same rows as Parquet, in one row group as in TLC's files."""
    path = csv_path.with_suffix(".parquet")
    return path if path.exists() else _made(path, _TO_PARQUET, csv_path, path)


def _made(path: Path, code: str, *arguments: object) -> Path:
    # In a process of its own: this one stays small, as its children's peak memory begins with ours.
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
