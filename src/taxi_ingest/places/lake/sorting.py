"""Rows in the order of one column, however many: what memory does not hold waits on disk, in sorted runs."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_MEMORY_BYTES = 152 << 20
"""Of the rows that are held at a time: 1.37 million of yellow have 158 MB, and never meet the disk."""
_RUN_ROWS = 1 << 16
"""As many at least are sorted at once: they still fit into a processor's cache, more or less."""
_PART_ROWS = 1 << 15
"""Of a run on disk that is read at a time."""

_LAST = np.iinfo(np.int64).max


class Sorter:
    """Takes tables of one schema, and gives back all their rows by a column of timestamps, null ones last.

    Rows of the same moment keep their order.
    """

    def __init__(self, key: str, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._key, self._memory_bytes = key, memory_bytes
        self._loose: list[pa.Table] = []
        self._held: list[pa.Table] = []
        """Runs in memory."""
        self._spilled: list[pa.ipc.RecordBatchFileReader] = []
        """Earlier ones, on disk."""
        self._lasting = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lasting.close()

    def add(self, rows: pa.Table) -> None:
        """Keep these rows, too."""
        self._loose.append(rows)
        if sum(table.num_rows for table in self._loose) >= _RUN_ROWS:
            self._sort_loose()
        if self._held and sum(run.nbytes for run in self._held) >= self._room:
            self._spill()

    def sorted(self, rows: int) -> Iterator[pa.Table]:
        """All rows in their order, so many at a time; to be called once."""
        self._sort_loose()
        runs = [_Run(_parts_of(reader), self._key) for reader in self._spilled]
        return _regrouped(_merged([*runs, *self._in_memory(rows)], self._key), rows)

    @property
    def _room(self) -> int:
        """A file that does not fit anyway is merged from disk: what is still held then is small."""
        return self._memory_bytes // (2 if self._spilled else 1)

    def _sort_loose(self) -> None:
        if self._loose:
            self._held.append(_sorted(pa.concat_tables(self._loose), self._key))
            self._loose = []

    def _in_memory(self, rows: int) -> "list[_Run]":
        """The runs that are held, in parts of which one each makes about so many rows."""
        part = rows // max(len(self._held), 1) + 1
        return [_Run(_slices(run, part), self._key) for run in self._held]

    def _spill(self) -> None:
        """Make one run on disk of those in memory."""
        # Nobody else can open it, and it is gone with us.
        file = self._lasting.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        merged = _merged(self._in_memory(_PART_ROWS), self._key)
        _write(_regrouped(merged, _PART_ROWS), self._held[0].schema, file)
        self._spilled.append(pa.ipc.open_file(pa.PythonFile(file, mode="r")))
        self._held = []
        # What the allocator keeps of it for later would come on top of what is held next.
        pa.default_memory_pool().release_unused()


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


def _slices(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    return (table.slice(begin, rows) for begin in range(0, table.num_rows, rows))


def _write(tables: Iterator[pa.Table], schema: pa.Schema, file: IO[bytes]) -> None:
    with pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer:
        for table in tables:
            writer.write_table(table.combine_chunks())


def _parts_of(reader: pa.ipc.RecordBatchFileReader) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([reader.get_batch(number)]) for number in range(reader.num_record_batches))


def _numbers(moments: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return pc.fill_null(moments.cast(pa.int64()), _LAST).to_numpy()  # type: ignore[no-any-return]
