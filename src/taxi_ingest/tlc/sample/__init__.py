"""Files as TLC published them, made up: any dataset and month, CSV or Parquet, the same for each seed.

python -m taxi_ingest.tlc.sample yellow 2024-01 /tmp --rows 20000 --format csv.gz
"""

import gzip
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxi_ingest import tlc
from taxi_ingest.errors import UsageError
from taxi_ingest.tlc.sample.eras import ZONES, Era, Field, Trips, era_of, eras

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
    yield _header(era)
    for batch in batches:
        yield _lines(era, batch)


def _header(era: Era) -> bytes:
    """The first line, and what lies between it and the first row."""
    quote = '"' if era.quoted else ""
    return (",".join(f"{quote}{field.name}{quote}" for field in era.fields) + era.header_end).encode()


def _lines(era: Era, rows: pa.Table) -> memoryview:
    """The text of some rows."""
    columns = [_texts(era, *pair) for pair in zip(era.fields, rows.columns, strict=True)]
    rest = "," * (era.width - len(era.fields)) + era.row_end
    # A null is no text between two commas.
    joined = pc.binary_join_element_wise(*columns, ",", null_handling="replace")
    ended = pc.binary_join_element_wise(joined, rest, "")
    # Arrow keeps an array's texts one behind the other, which is what a file needs.
    _, offsets, text = ended.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return memoryview(text)[ends[0] : ends[len(ended)]]


def _texts(era: Era, field: Field, values: pa.ChunkedArray) -> pa.Array:
    """A column as text, null where a field stays empty."""
    array = values.combine_chunks()
    if pa.types.is_floating(array.type):
        array = _spelled(array, STYLES[era.style][_kind(field)])
    elif pa.types.is_timestamp(array.type):
        # Without the fraction that a cast writes for microseconds.
        array = array.cast(pa.timestamp("s"))
    texts = array.cast(pa.string())
    if era.quoted == "all" or era.quoted == field.column.type:
        return pc.binary_join_element_wise('"', texts, '"', "", null_handling="replace")
    return texts


def _spelled(values: pa.Array, spell: Callable[[float], str]) -> pa.Array:
    """Numbers as text; each different one is spelled once."""
    different = values.dictionary_encode()
    texts = [spell(value) for value in different.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(different.indices)


def _kind(field: Field) -> str:
    if field.column.snake.endswith("itude"):
        return "degrees"
    return "miles" if field.column.snake in ("trip_distance", "trip_miles") else "others"


def _all_digits(value: float) -> str:
    """`2.63` as `2.6299999999999999`: what the double is, as far as it matters."""
    return f"{value:.17g}"


def _single(value: float) -> str:
    """The double that is nearest among the singles: `-73.993896484375`."""
    return f"{float(np.float32(value)):.17g}"


def _no_zero(value: float) -> str:
    """`.95` and `2.10`."""
    return f"{value:.2f}".removeprefix("0")


def _short(value: float) -> str:
    """`9`, `0.5` and `12.35`."""
    return f"{value:.10g}"


STYLES: Mapping[str, Mapping[str, Callable[[float], str]]] = {
    "doubles": {"degrees": _all_digits, "miles": _all_digits, "others": _all_digits},
    "decimals": {"degrees": _single, "miles": _no_zero, "others": _short},
    "exports": {"degrees": repr, "miles": repr, "others": repr},
}
"""How an era writes numbers: 2009-2014 as doubles, then as decimals; `exports` is how pandas does."""

FORMATS: dict[str, Callable[[Era, Iterator[pa.Table], Path], None]] = {
    "parquet": _write_parquet,
    "csv.gz": _write_gzip,
    "csv": _write_csv,
}
"""Suffix -> what writes it."""
