"""Parquet files of any physical types."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.read.file import Batch, Format, Layout, Piece, batch_of, check_width

_INDEX = "__index_level_0__"
_BATCH_BYTES = 128 << 20
"""About how much of a file is unpacked at a time."""


def inspect_parquet(path: Path) -> Layout:
    """Columns, types and rows from the footer; the numbers of the rows that pandas stored are no column."""
    with _damage_explained(path), pq.ParquetFile(path) as file:
        fields = [field for field in file.schema_arrow if not _numbers_rows(file, field)]
        names = [field.name for field in fields]
        check_width(path.name, len(names))
        if twice := {name for name in names if names.count(name) > 1}:
            raise DataError(f"{path.name} has two columns {min(twice)!r}.", "Rename one of them in the file.")
        return Layout(Format.PARQUET, pa.schema(fields), rows=file.metadata.num_rows)


def _numbers_rows(file: pq.ParquetFile, field: pa.Field) -> bool:
    """Whether a column is the index that a DataFrame has unless it gets another: 0, 1, 2, ….

    pandas calls an index without a name `__index_level_0__`, also one that carries data; its present
    versions store a plain one as no column at all
    (https://pandas.pydata.org/docs/development/developer.html).
    """
    names = file.schema_arrow.names
    if field.name != _INDEX or "__index_level_1__" in names or not pa.types.is_integer(field.type):
        return False
    row = 0
    for batch in file.iter_batches(batch_size=100_000, columns=[_INDEX]):
        numbers = batch.column(0)
        # Null becomes NaN, which equals nothing.
        if not np.array_equal(numbers, np.arange(row, row + len(numbers))):
            return False
        row += len(numbers)
    return True


def _rows_at_a_time(metadata: pq.FileMetaData, chunk_size: int) -> int:
    """As many rows as take about `_BATCH_BYTES`, `chunk_size` at most."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    widths = [group.total_byte_size / group.num_rows for group in groups if group.num_rows > 0]
    return max(1, min(chunk_size, int(_BATCH_BYTES / max(1, *widths, 1))))


class ParquetReader:
    """Reads the rows of a Parquet file, of these columns."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        self._path = path
        self._columns = columns

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        """Batches of `chunk_size` rows, fewer where rows are long. Raises SourceError for a damaged file."""
        size = self._path.stat().st_size
        # Without pre_buffer a row group (all of the file, in TLC's) isn't held in memory whole.
        with _damage_explained(self._path), pq.ParquetFile(self._path, pre_buffer=False) as file:
            rows, done = file.metadata.num_rows, 0
            batch_rows = _rows_at_a_time(file.metadata, chunk_size)
            for batch in file.iter_batches(batch_size=batch_rows, columns=self._columns):
                yield Piece(batch, first_number=done + 1, position=size * (done + batch.num_rows) // rows)
                done += batch.num_rows

    def parse(self, piece: Piece) -> Batch:
        """The rows of a piece, of which none can be a reject."""
        return batch_of(piece)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    # A damaged footer can also have names that are no UTF-8, and numbers that can't be.
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
        raise SourceError(f"{path.name} is damaged: {error}", "Download it again.") from error
