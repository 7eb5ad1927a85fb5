"""Rows in the order of one column, however many: what memory does not hold waits on disk, in sorted runs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.read.constants import from_numpy
from taxi_ingest.read.texts import PARTS_OF_SECOND

_MEMORY_BYTES = 152 << 20
"""Of the rows that are held at a time: 1.37 million of yellow have 158 MB, and never meet the disk."""
_RUNS_AT_ONCE = 6
"""Into which they go to disk."""
_PART_ROWS = 1 << 13
"""Of a run on disk that is read at a time."""

_NUMBER_BITS = 63

_LAST = np.iinfo(np.int64).max


class Sorter:
    """Takes tables of one schema, and gives back all their rows by a column of timestamps, null ones last.

    Rows of the same moment keep their order.
    """

    def __init__(self, key: str, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._key, self._memory_bytes = key, memory_bytes
        self._held: list[pa.Table] = []
        """In memory, as they came."""
        self._spilled: list[pa.ipc.RecordBatchFileReader] = []
        """Earlier ones, on disk, in their order."""
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
        if sum(table.nbytes for table in self._held) >= self._memory_bytes:
            self._spill()

    def sorted(self, rows: int) -> Iterator[pa.Table]:
        """All rows in their order, so many at a time; to be called once."""
        if not self._spilled:
            return _in_order(self._held, self._key, rows)
        self._spill()
        runs = [_Run(_parts_of(reader), self._key) for reader in self._spilled]
        return _regrouped(_merged(runs, self._key), rows)

    def _spill(self) -> None:
        """Make a few runs on disk of what is in memory: to sort all at once would take as much again."""
        number = -(-len(self._held) // _RUNS_AT_ONCE)
        while self._held:
            self._spilled.append(self._run_on_disk(self._held[:number]))
            del self._held[:number]
        # What the allocator keeps of it for later would come on top of what is held next.
        pa.default_memory_pool().release_unused()

    def _run_on_disk(self, tables: list[pa.Table]) -> pa.ipc.RecordBatchFileReader:
        # Nobody else can open it, and it is gone with us.
        file = self._lasting.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        with pa.ipc.new_file(pa.PythonFile(file, mode="w"), tables[0].schema) as writer:
            for table in _in_order(tables, self._key, _PART_ROWS):
                writer.write_table(table)
        return pa.ipc.open_file(pa.PythonFile(file, mode="r"))


class _Run:
    """Sorted rows, of which the next ones are at hand."""

    def __init__(self, parts: Iterator[pa.Table], key: str) -> None:
        self._parts, self._key = parts, key
        self._rows: pa.Table | None = None
        self.keys: npt.NDArray[np.int64] = np.empty(0, np.int64)
        """Of the rows at hand."""

    def fill(self) -> bool:
        """Have rows at hand; False where there are none left."""
        if not len(self.keys):
            self._rows = next(self._parts, None)
            if self._rows is None:
                return False
            self.keys = _numbers(self._rows.column(self._key))
        return True

    def until(self, last: int) -> pa.Table:
        """Those at hand that are not beyond this; they are given away."""
        assert self._rows is not None
        end = int(np.searchsorted(self.keys, last, side="right"))
        found = self._rows.slice(0, end)
        self._rows, self.keys = self._rows.slice(end), self.keys[end:]
        return found


def _merged(runs: list[_Run], key: str) -> Iterator[pa.Table]:
    """What is not beyond the least of the last rows at hand is preceded by nothing that comes later."""
    while left := [run for run in runs if run.fill()]:
        last = min(run.keys[-1] for run in left)
        yield _sorted(pa.concat_tables([run.until(last) for run in left]), key)


def _sorted(rows: pa.Table, key: str) -> pa.Table:
    # In one piece, which `take` would else make of it for each column anew.
    return rows.combine_chunks().take(pc.sort_indices(rows, [(key, "ascending")]))


def _in_order(tables: list[pa.Table], key: str, rows: int) -> Iterator[pa.Table]:
    """All rows of tables in their order, so many at a time; nothing is left in the list."""
    if not tables:
        return
    order = _order(pa.concat_tables(tables).column(key))
    whole = _in_one_piece(tables)
    for begin in range(0, len(order), rows):
        yield whole.take(order.slice(begin, rows))


def _order(moments: pa.ChunkedArray) -> pa.Array:
    """The indexes of the moments in their order; of those that are the same, as they are.

    Whole seconds are sorted as numbers that have the index behind the moment: five times as fast, since
    numpy sorts numbers with the processor's widest registers, though not stably.
    """
    if moments.null_count or not len(moments):
        return pc.sort_indices(moments)
    # Arrow's allocator has room at hand of what was parsed; numpy's own would come on top of it.
    numbers, scratch = (np.frombuffer(pa.allocate_buffer(8 * len(moments)), np.int64) for _ in range(2))
    np.concatenate([chunk.to_numpy() for chunk in moments.cast(pa.int64()).chunks], out=numbers)
    first, second = int(numbers.min()), PARTS_OF_SECOND[moments.type.unit]
    span, index_bits = int(numbers.max()) - first, len(numbers).bit_length()
    if max(span.bit_length(), (span // second).bit_length() + index_bits) > _NUMBER_BITS:
        return pc.sort_indices(moments)
    numbers -= first
    if np.remainder(numbers, second, out=scratch).any():
        return pc.sort_indices(moments)
    numbers //= second
    numbers <<= index_bits
    # Each index plus one, which needs no array of its own.
    scratch[:] = 1
    numbers += np.cumsum(scratch, out=scratch)
    numbers.sort()
    numbers &= (1 << index_bits) - 1
    numbers -= 1
    return from_numpy(numbers)


def _in_one_piece(tables: list[pa.Table]) -> pa.Table:
    """Each column takes the place of its parts before the next one is made: never is all there twice."""
    schema, columns = tables[0].schema, pa.concat_tables(tables).columns
    tables.clear()
    for index, column in enumerate(columns):
        columns[index] = column.combine_chunks()
    return pa.table(columns, schema=schema)


def _regrouped(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows, so many in each table but the last."""
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


def _parts_of(reader: pa.ipc.RecordBatchFileReader) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([reader.get_batch(number)]) for number in range(reader.num_record_batches))


def _numbers(moments: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return pc.fill_null(moments.cast(pa.int64()), _LAST).to_numpy()  # type: ignore[no-any-return]
