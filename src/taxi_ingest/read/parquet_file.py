"""Parquet files of any physical types."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.read.batch import Batch, Layout, Piece, readable
from taxi_ingest.read.expansion import check_expansion
from taxi_ingest.read.format import Format


def inspect_parquet(path: Path) -> Layout:
    """Columns, types and rows from the footer; an index that pandas stored is no column."""
    with _damage_explained(path), pq.ParquetFile(path) as file:
        check_expansion(path.name, path.stat().st_size, _expanded_bytes(file.metadata))
        fields = [field for field in file.schema_arrow if not field.name.startswith("__index_level_")]
        names = [field.name for field in fields]
        if twice := {name for name in names if names.count(name) > 1}:
            raise DataError(f"{path.name} has two columns {min(twice)!r}.", "Rename one of them in the file.")
        return Layout(Format.PARQUET, pa.schema(fields), rows=file.metadata.num_rows)


def _expanded_bytes(metadata: pq.FileMetaData) -> int:
    return sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))


class ParquetReader:
    def __init__(self, path: Path, columns: list[str]) -> None:
        self._path = path
        self._columns = columns

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        size = self._path.stat().st_size
        # Without pre_buffer a row group (all of the file, in TLC's) isn't held in memory whole.
        with _damage_explained(self._path), pq.ParquetFile(self._path, pre_buffer=False) as file:
            rows, done = file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=chunk_size, columns=self._columns):
                yield Piece(batch, first_number=done + 1, position=size * (done + batch.num_rows) // rows)
                done += batch.num_rows
            if done != rows:
                raise SourceError(
                    f"{self._path.name} has {done:,} rows, but its footer says {rows:,}.",
                    "Download it again.",
                )

    def parse(self, piece: Piece) -> Batch:
        table = pa.Table.from_batches([piece.content])

        def locate(index: int) -> tuple[int, str]:
            row = {name: readable(table.column(name)[index]) for name in table.schema.names}
            return piece.first_number + index, json.dumps(row, default=str)

        return Batch(table, (), locate, piece.position)


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path.name} is damaged: {error}", "Download it again.") from error
