"""Files as TLC published them, made up: any dataset and month, CSV or Parquet, the same for each seed.

python -m taxi_ingest.tlc.sample yellow 2024-01 /tmp --rows 20000 --format csv.gz
"""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_ingest import tlc
from taxi_ingest.errors import UsageError
from taxi_ingest.tlc.sample.csv_text import header, lines
from taxi_ingest.tlc.sample.eras import Era, era_of, eras
from taxi_ingest.tlc.sample.values import ZONES, Trips

__all__ = ["FORMATS", "Era", "era_of", "eras", "file_name", "write_sample"]

_BATCH = 200_000
"""Rows made at once: what a CSV of any length takes of memory."""


def write_sample(dataset: str, month: str, path: Path, rows: int = 1000, seed: int = 0) -> Path:
    """Write a month's file of a dataset in the format of the path's suffix; return the path.

    `zones` has no month and always its 265 rows. Raises UsageError for a month that TLC does not have,
    and for another suffix than those of `FORMATS`.
    """
    suffix = next((suffix for suffix in FORMATS if path.name.endswith(f".{suffix}")), None)
    if suffix is None:
        raise UsageError(f"{path.name} has no format.", f"End it in one of {', '.join(FORMATS)}.")
    if tlc.dataset_named(dataset).kind == "lookup":
        month, rows = "", ZONES
    era = era_of(dataset, month, suffix.removesuffix(".gz"))
    FORMATS[suffix](era, _batches(era, month, rows, seed), path)
    return path


def file_name(dataset: str, month: str, format: str) -> str:
    """TLC's name for a file."""
    kind = tlc.dataset_named(dataset).kind
    return f"{dataset}_tripdata_{month}.{format}" if kind == "trips" else f"taxi_zone_lookup.{format}"


def _batches(era: Era, month: str, total: int, seed: int) -> Iterator[pa.Table]:
    """The file's rows, a part at a time."""
    names = [field.name for field in era.fields]
    for start in range(0, max(total, 1), _BATCH):
        trips = Trips(era, month, range(start, min(start + _BATCH, total)), total, seed)
        yield pa.table([trips.column(field) for field in era.fields], names)


def _write_parquet(_: Era, batches: Iterator[pa.Table], path: Path) -> None:
    table = pa.concat_tables(batches)
    pq.write_table(table, path, compression="zstd", row_group_size=max(table.num_rows, 1))


def _write_csv(era: Era, batches: Iterator[pa.Table], path: Path) -> None:
    with path.open("wb") as file:
        for part in _text(era, batches):
            file.write(part)


def _write_gzip(era: Era, batches: Iterator[pa.Table], path: Path) -> None:
    # Without a name and a time inside, so that the same rows are the same bytes.
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        for part in _text(era, batches):
            packed.write(part)


def _text(era: Era, batches: Iterator[pa.Table]) -> Iterator[bytes | memoryview]:
    yield header(era)
    for batch in batches:
        yield lines(era, batch)


FORMATS: dict[str, Callable[[Era, Iterator[pa.Table], Path], None]] = {
    "parquet": _write_parquet,
    "csv.gz": _write_gzip,
    "csv": _write_csv,
}
"""Suffix -> what writes it."""
