"""Rows in the order of one column, however many: what memory does not hold waits on disk, in sorted runs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_MEMORY_BYTES = 200 << 20
"""Of the rows that are held at a time; a month of yellow is less nowadays, and never meets the disk."""
_PART_ROWS = 1 << 15
"""Of a run that is read at a time."""

_LAST = np.iinfo(np.int64).max


class Sorter:
    """Takes tables of one schema, and gives back all their rows by a column of timestamps, null ones last.

    Rows of the same moment keep their order.
    """

    def __init__(self, key: str, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._key, self._memory_bytes = key, memory_bytes
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._runs: list[_Run] = []
        self._lasting = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lasting.close()

    def add(self, rows: pa.Table) -> None:
        """Keep these rows, too."""
        self._held.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= self._memory_bytes:
            self._spill()

    def sorted(self, rows: int) -> Iterator[pa.Table]:
        """All rows in their order, so many at a time; to be called once."""
        if not self._runs:
            return self._sorted_in_memory(rows)
        self._spill()
        return _regrouped(_merged(self._runs, self._key), rows)

    def _spill(self) -> None:
        if self._held:
            # Nobody else can open it, and it is gone with us.
            file = self._lasting.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            self._runs.append(_Run.written(self._sorted_in_memory(_PART_ROWS), file))

    def _sorted_in_memory(self, rows: int) -> Iterator[pa.Table]:
        if not self._held:
            return
        whole = _in_one_piece(self._held)
        self._bytes = 0
        order = pc.sort_indices(whole, [(self._key, "ascending")])
        for begin in range(0, len(order), rows):
            yield whole.take(order.slice(begin, rows))


def _in_one_piece(tables: list[pa.Table]) -> pa.Table:
    """All of their rows, each column in one chunk: Arrow would join them at every take. The list is emptied.

    One column after the other, so that none but that is in memory twice.
    """
    schema = tables[0].schema
    columns = [list(table.columns) for table in tables]
    tables.clear()
    joined = []
    for name in reversed(schema.names):
        chunks = [chunk for of_table in columns for chunk in of_table.pop().chunks]
        joined.append(pa.chunked_array(chunks, schema.field(name).type).combine_chunks())
        del chunks
    return pa.table(joined[::-1], schema=schema)


@dataclass
class _Run:
    """Sorted rows on disk, of which the next ones are held."""

    reader: pa.ipc.RecordBatchFileReader
    number: int = 0
    """Of the next part."""
    rows: pa.Table | None = None
    keys: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def written(cls, parts: Iterator[pa.Table], file: IO[bytes]) -> "_Run":
        first = next(parts)
        sink = pa.PythonFile(file, mode="w")
        with pa.ipc.new_file(sink, first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
        return cls(pa.ipc.open_file(pa.PythonFile(file, mode="r")))

    def fill(self, key: str) -> bool:
        """Have rows at hand; False where there are none left."""
        if not len(self.keys):
            if self.number == self.reader.num_record_batches:
                return False
            self.rows = pa.Table.from_batches([self.reader.get_batch(self.number)])
            self.keys = _numbers(self.rows.column(key))
            self.number += 1
        return True

    def until(self, last: int) -> pa.Table:
        """Those at hand that are not beyond this; they are given away."""
        assert self.rows is not None
        end = int(np.searchsorted(self.keys, last, side="right"))
        found = self.rows.slice(0, end)
        self.rows, self.keys = self.rows.slice(end), self.keys[end:]
        return found


def _merged(runs: list[_Run], key: str) -> Iterator[pa.Table]:
    """What is not beyond the least of the last rows at hand can't be preceded by what is still on disk."""
    while left := [run for run in runs if run.fill(key)]:
        last = min(run.keys[-1] for run in left)
        rows = pa.concat_tables([run.until(last) for run in left])
        yield rows.take(pc.sort_indices(rows, [(key, "ascending")]))


def _regrouped(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows, so many in each table."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= rows:
            whole = pa.concat_tables(held)
            yield whole.slice(0, rows)
            held, count = [whole.slice(rows)], count - rows
    if count:
        yield pa.concat_tables(held)


def _numbers(moments: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return pc.fill_null(moments.cast(pa.int64()), _LAST).to_numpy()  # type: ignore[no-any-return]
