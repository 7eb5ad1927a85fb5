"""The input: yellow trips with the distributions of TLC's files, the same at each run."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SMALL, TENTH, MONTH, YEAR = 100, 100_000, 1_369_765, 13_697_650
"""Rows. `MONTH` is what TLC's file of 2021-01 has."""
MANY_FILES, SMALL_FILE_ROWS = 40, 10_000
"""Many small files, and the rows of each."""
FEW_MONTHS, MANY_MONTHS, MONTH_ROWS = 12, 100, 700_000
"""A year and many of them, and the rows of a month of TLC's usual size."""

_MONTHS = [f"{year}-{month:02}" for year in range(2009, 2022) for month in range(1, 13)]
_MONTHS = _MONTHS[: _MONTHS.index("2021-07") + 1]
"""The CSVs of the last 40 have nearly the same columns, those of the last 12 the same."""

_WRITE = """
import sys
from pathlib import Path
from taxi_ingest.tlc.sample import write_sample
write_sample("yellow", sys.argv[3], Path(sys.argv[1]), rows=int(sys.argv[2]))
"""

_TO_PARQUET = """
import sys
import pyarrow.csv, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.csv.read_csv(sys.argv[2]), sys.argv[1], row_group_size=2**40)
"""

_TO_GZIP = """
import subprocess, sys
with open(sys.argv[1], "wb") as file:
    subprocess.run(["gzip", "--no-name", "--stdout", sys.argv[2]], stdout=file, check=True)
"""


@dataclass(frozen=True)
class Input:
    """Files that are loaded into one table, one after the other."""

    name: str
    paths: tuple[Path, ...]
    rows: int
    """Of all files. Inputs with as many rows hold the same rows."""

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    @property
    def range(self) -> str:
        """The months of its files, as `backfill` takes them."""
        return f"{self.paths[0].stem[-7:]}..{self.paths[-1].stem[-7:]}"


@dataclass(frozen=True)
class Inputs:
    """Makes the inputs, each when it is first asked for; they are kept in `folder`."""

    folder: Path

    def csv(self, name: str, rows: int) -> Input:
        """One CSV."""
        return Input(name, (self._csv(rows),), rows)

    def gzipped(self, name: str, rows: int) -> Input:
        """The same, gzipped."""
        csv = self._csv(rows)
        return Input(name, (_made(csv.with_suffix(".csv.gz"), _TO_GZIP, csv),), rows)

    def parquet(self, name: str, rows: int) -> Input:
        """The same rows as Parquet, in one row group as in TLC's files."""
        return Input(name, (self._parquet(rows),), rows)

    def months(self, name: str, files: int, rows: int) -> Input:
        """So many months of so many rows each, as CSV."""
        return Input(name, tuple(self._csv(rows, month) for month in _MONTHS[-files:]), files * rows)

    def months_as_parquet(self, name: str, files: int, rows: int) -> Input:
        """The same rows as Parquet."""
        return Input(name, tuple(self._parquet(rows, month) for month in _MONTHS[-files:]), files * rows)

    def small_months(self, name: str, files: int) -> Input:
        """So many months as TLC's Parquet files of their time, with few rows each."""
        folder = self.folder / f"{SMALL_FILE_ROWS}-parquet"
        paths = tuple(
            _made(folder / f"yellow_tripdata_{month}.parquet", _WRITE, SMALL_FILE_ROWS, month)
            for month in _MONTHS[-files:]
        )
        return Input(name, paths, files * SMALL_FILE_ROWS)

    def _parquet(self, rows: int, month: str = "2021-01") -> Path:
        csv = self._csv(rows, month)
        return _made(csv.with_suffix(".parquet"), _TO_PARQUET, csv)

    def _csv(self, rows: int, month: str = "2021-01") -> Path:
        return _made(self.folder / str(rows) / f"yellow_tripdata_{month}.csv", _WRITE, rows, month)


def _made(path: Path, code: str, *arguments: object) -> Path:
    """The path, where `code` has written the file, unless an earlier run has."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole, so that an interrupt leaves no shorter file behind.
    part = path.with_name(f"part-{path.name}")
    # In a process of its own: this one stays small, as its children's peak memory begins with ours.
    subprocess.run([sys.executable, "-c", code, str(part), *map(str, arguments)], check=True)
    return part.rename(path)
