"""A file's rows in the table's columns, parsed only while they are consumed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.errors import UsageError
from taxi_ingest.read import Layout, Piece, Reader, Reject, inspect, open_reader
from taxi_ingest.transform.cast import cast
from taxi_ingest.transform.plan import Names, Plan, PlannedColumn, plan
from taxi_ingest.transform.quality import count_oddities
from taxi_ingest.transform.step import Step, load_step
from taxi_ingest.transform.types import ARROW_OF_POSTGRES, WIDER, postgres_type


class TooNarrow(Exception):
    """A value needs another type than the file's first rows suggested; start anew with this one."""

    def __init__(self, column: str, type: str) -> None:
        super().__init__(f"column {column!r} needs {type}")
        self.column = column
        self.type = type


@dataclass(frozen=True)
class CanonicalBatch:
    """Rows ready for COPY, and those that could not be represented."""

    rows: pa.Table
    rejects: tuple[Reject, ...]
    rows_read: int
    position: int
    """Bytes of the file read so far."""
    oddities: Mapping[str, int]
    """How many rows are odd though loaded, by kind (see quality.py)."""


@dataclass(frozen=True)
class Stream:
    """A file, what happens to its columns, and how many rows to take at a time."""

    path: Path
    layout: Layout
    file_plan: Plan
    plan: Plan
    """The same as `file_plan` unless a user's step changes the columns."""
    chunk_size: int
    step: Step | None = None

    def pieces(self) -> Iterator[Piece]:
        """The file in parts of `chunk_size` rows, from its start at each call. For one thread."""
        return self._reader().pieces(self.chunk_size)

    def converter(self) -> Callable[[Piece], CanonicalBatch]:
        """What makes rows of a piece, in any thread.

        It raises TooNarrow where a guessed type does not hold, and DataError where the step fails.
        """
        reader = self._reader()

        def convert(piece: Piece) -> CanonicalBatch:
            batch = reader.parse(piece)
            rows, rejects = _fit(batch.rows, self.file_plan.loaded, batch.locate)
            oddities = count_oddities(rows, self.file_plan)
            if self.step:
                rows, more = _fit_result(self.step.apply(rows), self.plan.loaded)
                rejects = (*rejects, *more)
            rejects = (*batch.rejects, *rejects)
            return CanonicalBatch(rows, rejects, batch.rows_read, piece.position, oddities)

        return convert

    def with_type(self, column: str, type: str, final: bool = False) -> "Stream":
        """The same stream with another Postgres type for a column; values that a `final` one can't hold
        are rejected."""
        return replace(
            self,
            file_plan=self.file_plan.with_type(column, type, final),
            plan=self.plan.with_type(column, type, final),
        )

    def _reader(self) -> Reader:
        types = {c.source: c.arrow_type for c in self.file_plan.loaded if c.source is not None}
        return open_reader(self.path, self.layout, types, quoted_newlines=self.file_plan.dataset is None)


def open_stream(
    path: Path,
    file_name: str,
    chunk_size: int,
    step_name: str | None = None,
    names: Names = "tlc",
    delimiter: str | None = None,
    header: bool | None = None,
) -> Stream:
    """Look at a file and decide what happens to its columns; read nothing else yet.

    `file_name` is the name that its source gave it, `path` where it lies now; `delimiter` and `header`
    say of a CSV what is else found out (see `read.inspect`). With a user's step the
    first chunk is read and passed through it, to learn which columns come out. Raises UsageError for a
    chunk size below 1 and a step that can't be imported.
    """
    if chunk_size < 1:
        raise UsageError(f"A chunk of {chunk_size} rows holds nothing.", "Give --chunk-size at least 1.")
    layout = inspect(path, delimiter, header)
    file_plan = plan(layout, file_name, names)
    stream = Stream(path, layout, file_plan, file_plan, chunk_size)
    return stream if step_name is None else _behind_step(stream, load_step(step_name))


def _behind_step(stream: Stream, step: Step) -> Stream:
    """The stream with the columns that the step makes of the first chunk."""
    convert = stream.converter()
    rows = next((convert(piece).rows for piece in stream.pieces()), stream.plan.schema.empty_table())
    fixed = {column.name: column for column in stream.file_plan.columns}
    columns = tuple(
        replace(fixed[field.name], source=field.name)
        if field.name in fixed
        else PlannedColumn(field.name, postgres_type(field.name, field.type), field.name, guessed=True)
        for field in step.apply(rows).schema
    )
    return replace(stream, plan=replace(stream.file_plan, columns=columns, unknown=()), step=step)


def _fit(
    rows: pa.Table, columns: Sequence[PlannedColumn], locate: Callable[[int], tuple[int, str]]
) -> tuple[pa.Table, tuple[Reject, ...]]:
    """The columns with the plan's names and types, without the rows that don't fit; and those."""
    fitted: list[pa.ChunkedArray] = []
    unfit: dict[int, PlannedColumn] = {}
    for column in columns:
        values, bad = cast(rows.column(column.source), column.arrow_type)
        fitted.append(values)
        if bad is None:
            continue
        if column.guessed and (wider := _wider_type(rows.column(column.source), column)):
            raise TooNarrow(column.name, wider)
        for index in pc.indices_nonzero(bad).to_pylist():
            unfit.setdefault(index, column)
    schema = pa.schema([(column.name, column.arrow_type) for column in columns])
    table = pa.table(fitted, schema=schema) if fitted else rows.select([])
    if not unfit:
        return table, ()
    rejects = tuple(_reject(index, unfit[index], rows, locate) for index in sorted(unfit))
    kept = pa.array([index not in unfit for index in range(table.num_rows)])
    return table.filter(kept), rejects


def _fit_result(result: pa.Table, columns: Sequence[PlannedColumn]) -> tuple[pa.Table, tuple[Reject, ...]]:
    """What the user's step returned, in the columns that its first chunk had."""
    for column in columns:
        if column.name not in result.schema.names:
            result = result.append_column(column.name, pa.nulls(result.num_rows, column.arrow_type))

    def locate(index: int) -> tuple[int, str]:
        return index + 1, json.dumps(result.slice(index, 1).to_pylist()[0], default=str)

    return _fit(result, columns, locate)


def _wider_type(values: pa.ChunkedArray, column: PlannedColumn) -> str | None:
    """The first type that holds these values too."""
    for type in (*WIDER.get(column.type, ()), "text"):
        if type != column.type and cast(values, ARROW_OF_POSTGRES[type])[1] is None:
            return type
    return None


def _reject(
    index: int, column: PlannedColumn, rows: pa.Table, locate: Callable[[int], tuple[int, str]]
) -> Reject:
    number, raw = locate(index)
    value = rows.column(column.source)[index].as_py()
    return Reject(number, column.name, f"{value!r} is no {column.type}", raw.replace("\0", "\\x00"))
