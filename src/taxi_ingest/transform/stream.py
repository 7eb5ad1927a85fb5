"""A file's rows in the table's columns, parsed only while they are consumed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.errors import UsageError
from taxi_ingest.job import Names
from taxi_ingest.read import Layout, Piece, Reader, Reject, inspect, open_reader
from taxi_ingest.read.batch import readable
from taxi_ingest.read.texts import are_numbers, shows_day_first
from taxi_ingest.transform.cast import cast
from taxi_ingest.transform.plan import Plan, PlannedColumn, plan
from taxi_ingest.transform.quality import NULL_WORD, count_oddities
from taxi_ingest.transform.step import Step, load_step
from taxi_ingest.transform.types import ARROW_OF_POSTGRES, postgres_type


class Misjudged(Exception):
    """The file's first rows suggested what does not hold for all: start anew."""

    def corrected(self, stream: "Stream") -> "Stream":
        """The stream to start anew with."""
        raise NotImplementedError


class DaysFirst(Misjudged):
    """A date such as 31/12/2019: no date of that kind in the file may be read month first."""

    def corrected(self, stream: "Stream") -> "Stream":
        return replace(stream, layout=replace(stream.layout, day_first=True))


class TooNarrow(Misjudged):
    """A value needs another type than the first rows suggested."""

    def __init__(self, column: str, type: str) -> None:
        super().__init__(f"column {column!r} needs {type}")
        self.column = column
        self.type = type

    def corrected(self, stream: "Stream") -> "Stream":
        return stream.with_type(self.column, self.type)


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

        It raises Misjudged where a guess does not hold, and DataError where the step fails.
        """
        reader = self._reader()

        def convert(piece: Piece) -> CanonicalBatch:
            batch = reader.parse(piece)
            rows, rejects, null_words = _fit(
                batch.rows, self.file_plan.loaded, batch.locate, self.layout.day_first
            )
            oddities = count_oddities(rows, self.file_plan)
            if self.step:
                rows, more, new_null_words = _fit_result(
                    self.step.apply(rows), self.plan.loaded, self.layout.day_first
                )
                rejects, null_words = (*rejects, *more), null_words + new_null_words
            if null_words:
                oddities[NULL_WORD] = null_words
            rejects = (*batch.rejects, *rejects)
            return CanonicalBatch(rows, rejects, batch.rows_read, piece.position, oddities)

        return convert

    def with_type(self, column: str, type: str) -> "Stream":
        """The same stream with another Postgres type for a column, which the file's values need."""
        return replace(
            self,
            file_plan=self.file_plan.with_type(column, type),
            plan=self.plan.with_type(column, type),
        )

    def with_stored_type(self, column: str, type: str, final: bool) -> "Stream":
        """The same stream with the Postgres type that the table's column has; values that a `final` one
        can't hold are rejected."""
        return replace(
            self,
            file_plan=self.file_plan.with_stored_type(column, type, final),
            plan=self.plan.with_stored_type(column, type, final),
        )

    def _reader(self) -> Reader:
        types = {
            c.source: pa.string() if c.text_decides else c.arrow_type
            for c in self.file_plan.loaded
            if c.source is not None
        }
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
    try:
        rows = next((convert(piece).rows for piece in stream.pieces()), stream.plan.schema.empty_table())
    except Misjudged as reason:
        return _behind_step(reason.corrected(stream), step)
    fixed = {column.name: column for column in stream.file_plan.columns}
    columns = tuple(
        replace(fixed[field.name], source=field.name)
        if field.name in fixed
        else PlannedColumn(field.name, postgres_type(field.name, field.type), field.name, guessed=True)
        for field in step.apply(rows).schema
    )
    return replace(stream, plan=replace(stream.file_plan, columns=columns, unknown=()), step=step)


def _fit(
    rows: pa.Table,
    columns: Sequence[PlannedColumn],
    locate: Callable[[int], tuple[int, str]],
    day_first: bool,
) -> tuple[pa.Table, tuple[Reject, ...], int]:
    """The columns with the plan's names and types, without the rows that don't fit; those; and how many of
    the values kept are null only now."""
    fitted: list[pa.ChunkedArray] = []
    unfit: dict[int, PlannedColumn] = {}
    for column in columns:
        read = rows.column(column.source)
        values, bad = cast(read, column.arrow_type, column.origin, day_first)
        fitted.append(values)
        if bad is None:
            continue
        is_date = pa.types.is_temporal(column.arrow_type) and pa.types.is_string(read.type)
        if is_date and not day_first and shows_day_first(read):
            raise DaysFirst
        if wider := _wider_type(read, bad, column, day_first):
            raise TooNarrow(column.name, wider)
        for index in pc.indices_nonzero(bad).to_pylist():
            unfit.setdefault(index, column)
    sources = rows.select([column.source for column in columns])
    # Not the plan's schema: numeric travels with the scale that the piece needs.
    table = pa.table(fitted, names=[column.name for column in columns]) if fitted else sources
    if not unfit:
        return table, (), _nulls(table) - _nulls(sources)
    rejects = tuple(_reject(index, unfit[index], rows, locate) for index in sorted(unfit))
    kept = pa.array([index not in unfit for index in range(table.num_rows)])
    table = table.filter(kept)
    return table, rejects, _nulls(table) - _nulls(sources.filter(kept))


def _nulls(table: pa.Table) -> int:
    return sum(column.null_count for column in table.columns)


def _fit_result(
    result: pa.Table, columns: Sequence[PlannedColumn], day_first: bool
) -> tuple[pa.Table, tuple[Reject, ...], int]:
    """What the user's step returned, in the columns that its first chunk had."""
    for column in columns:
        if column.name not in result.schema.names:
            result = result.append_column(column.name, pa.nulls(result.num_rows, column.arrow_type))

    def locate(index: int) -> tuple[int, str]:
        row = {name: readable(result.column(name)[index]) for name in result.schema.names}
        return index + 1, json.dumps(row, default=str)

    return _fit(result, columns, locate, day_first)


def _wider_type(
    values: pa.ChunkedArray, bad: pa.ChunkedArray, column: PlannedColumn, day_first: bool
) -> str | None:
    """The first type that holds these values too; None where those that don't fit are to be rejected."""
    if column.stored and column.type == "double precision" and _are_numbers(values.filter(bad)):
        # A number that a double can't hold is no reason to make text of all others.
        return None
    for type in column.wider:
        if cast(values, ARROW_OF_POSTGRES[type], column.origin, day_first)[1] is None:
            return type
    return None


def _are_numbers(values: pa.ChunkedArray) -> bool:
    return are_numbers(cast(values, pa.string())[0])


def _reject(
    index: int, column: PlannedColumn, rows: pa.Table, locate: Callable[[int], tuple[int, str]]
) -> Reject:
    number, raw = locate(index)
    value = readable(rows.column(column.source)[index])
    return Reject(number, column.name, f"{value!r} is no {column.type}", raw.replace("\0", "\\x00"))
