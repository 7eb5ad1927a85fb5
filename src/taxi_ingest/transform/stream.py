"""A file's rows in the table's columns, parsed only when asked for, and the user's own step on the way."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.errors import DataError, UsageError
from taxi_ingest.read import Layout, Piece, Reader, Reject, inspect, open_reader
from taxi_ingest.read.constants import from_numpy
from taxi_ingest.read.csv_file import shows_day_first
from taxi_ingest.read.file import readable
from taxi_ingest.read.texts import are_numbers
from taxi_ingest.settings.job import Names
from taxi_ingest.transform.plan import Plan, PlannedColumn, plan
from taxi_ingest.transform.quality import NULL_WORD, count_oddities
from taxi_ingest.transform.types import ANYWHERE, Store, cast, column_type

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Step:
    """A function of the user's, called with each chunk as a DataFrame on Arrow-backed dtypes."""

    name: str
    function: "Callable[[pd.DataFrame], pd.DataFrame]"

    def apply(self, rows: pa.Table) -> pa.Table:
        """The rows as the function returns them: it may drop, add and change rows and columns.

        Raises DataError where it fails or returns something else.
        """
        # A quarter of a second to import, which only those with a step of their own pay.
        import pandas as pd

        frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
        try:
            result = self.function(frame)
            if not isinstance(result, pd.DataFrame):
                raise TypeError(f"it returned {type(result).__name__}, not a DataFrame")
            return pa.Table.from_pandas(result, preserve_index=False)
        except Exception as error:
            raise DataError(
                f"The step {self.name} failed: {type(error).__name__}: {error}.",
                "Try it on a few rows: it is called with one chunk, a pandas DataFrame.",
            ) from error


def load_step(name: str) -> Step:
    """Import `module:function`, also from the current folder, as `python -m` would.

    Raises UsageError where there is no such module or function.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"{name!r} names no function.", "Write --transform module:function.")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"The step {name} can't be imported: {error}.", "Run in the folder of the module."
        ) from error
    if not callable(function):
        raise UsageError(f"{name} is not a function.", "Write --transform module:function.")
    return Step(name, function)


class Misjudged(Exception):
    """The file's first rows suggested what does not hold for all: start anew."""

    def corrected(self, stream: "Stream") -> "Stream":
        """The stream to start anew with."""
        raise NotImplementedError


class DaysFirst(Misjudged):
    """A date such as 31/12/2019: no date of that kind in the file may be read month first."""

    def corrected(self, stream: "Stream") -> "Stream":
        """The stream that takes no date of that kind."""
        return replace(stream, layout=replace(stream.layout, day_first=True))


class TooNarrow(Misjudged):
    """A value needs another type than the first rows suggested."""

    def __init__(self, column: str, type: pa.DataType) -> None:
        super().__init__(f"column {column!r} needs {type}")
        self.column = column
        self.type = type

    def corrected(self, stream: "Stream") -> "Stream":
        """The stream with that type for the column."""
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
    store: Store = ANYWHERE
    """Where the rows go."""

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
            rows, rejects, null_words = self._fit(batch.rows, self.file_plan.loaded, batch.locate)
            oddities = count_oddities(rows, self.file_plan)
            if self.step:
                rows, more, new_null_words = self._fit_result(self.step.apply(rows))
                rejects, null_words = (*rejects, *more), null_words + new_null_words
            if null_words:
                oddities[NULL_WORD] = null_words
            rejects = (*batch.rejects, *rejects)
            return CanonicalBatch(rows, rejects, batch.rows_read, piece.position, oddities)

        return convert

    def into(self, store: Store) -> "Stream":
        """The same stream with what a place can hold of names and values; a step is given the file's own."""
        plan = self.plan.into(store)
        return replace(self, file_plan=self.file_plan if self.step else plan, plan=plan, store=store)

    def with_type(self, column: str, type: pa.DataType) -> "Stream":
        """The same stream with another type for a column, which the file's values need."""
        return replace(
            self,
            file_plan=self.file_plan.with_type(column, type),
            plan=self.plan.with_type(column, type),
        )

    def with_stored_type(self, column: str, type: pa.DataType, final: bool) -> "Stream":
        """The same stream with the type that the table's column has; values that a `final` one can't hold
        are rejected."""
        return replace(
            self,
            file_plan=self.file_plan.with_stored_type(column, type, final),
            plan=self.plan.with_stored_type(column, type, final),
        )

    def _fit(
        self, rows: pa.Table, columns: Sequence[PlannedColumn], locate: Callable[[int], tuple[int, str]]
    ) -> tuple[pa.Table, tuple[Reject, ...], int]:
        """The columns with the plan's names and types, without the rows that don't fit; those; and how many
        of the values kept are null only now."""
        fitted: list[pa.ChunkedArray] = []
        unfit: dict[int, PlannedColumn] = {}
        for column in columns:
            read = rows.column(column.source)
            values, bad = self._cast(read, column.type, column)
            fitted.append(values)
            if bad is None:
                continue
            is_date = pa.types.is_temporal(column.type) and pa.types.is_string(read.type)
            if is_date and not self.layout.day_first and shows_day_first(read):
                raise DaysFirst
            if wider := self._wider_type(read, bad, column):
                raise TooNarrow(column.name, wider)
            for index in pc.indices_nonzero(bad).to_pylist():
                unfit.setdefault(index, column)
        sources = rows.select([column.source for column in columns])
        # Not the plan's schema: decimals travel with the scale that the piece needs.
        table = pa.table(fitted, names=[column.name for column in columns]) if fitted else sources
        if not unfit:
            return table, (), _nulls(table) - _nulls(sources)
        rejects = tuple(self._reject(index, unfit[index], rows, locate) for index in sorted(unfit))
        kept = from_numpy(~np.isin(np.arange(table.num_rows), list(unfit)))
        table = table.filter(kept)
        return table, rejects, _nulls(table) - _nulls(sources.filter(kept))

    def _fit_result(self, result: pa.Table) -> tuple[pa.Table, tuple[Reject, ...], int]:
        """What the user's step returned, in the columns that its first chunk had."""
        for column in self.plan.loaded:
            if column.source not in result.schema.names:
                result = result.append_column(column.source, pa.nulls(result.num_rows, column.type))

        def locate(index: int) -> tuple[int, str]:
            row = {name: readable(result.column(name)[index]) for name in result.schema.names}
            return index + 1, json.dumps(row, default=str)

        return self._fit(result, self.plan.loaded, locate)

    def _cast(
        self, values: pa.ChunkedArray, type: pa.DataType, column: PlannedColumn
    ) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
        return cast(values, type, column.origin, self.layout.day_first, self.store)

    def _wider_type(
        self, values: pa.ChunkedArray, bad: pa.ChunkedArray, column: PlannedColumn
    ) -> pa.DataType | None:
        """The first type that holds these values too; None where those that don't fit are to be rejected."""
        if column.stored and pa.types.is_float64(column.type) and _are_numbers(values.filter(bad)):
            # A number that a double can't hold is no reason to make text of all others.
            return None
        return next((type for type in column.wider if self._cast(values, type, column)[1] is None), None)

    def _reject(
        self, index: int, column: PlannedColumn, rows: pa.Table, locate: Callable[[int], tuple[int, str]]
    ) -> Reject:
        number, raw = locate(index)
        reason = f"{readable(rows.column(column.source)[index])!r} is no {self.store.name_of(column.type)}"
        return Reject(number, column.name, reason, raw.replace("\0", "\\x00"))

    def _reader(self) -> Reader:
        types = {
            c.source: pa.string() if c.text_decides else c.type
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
        else PlannedColumn(field.name, column_type(field.name, field.type), field.name, guessed=True)
        for field in step.apply(rows).schema
    )
    return replace(stream, plan=replace(stream.file_plan, columns=columns, unknown=()), step=step)


def _nulls(table: pa.Table) -> int:
    return sum(column.null_count for column in table.columns)


def _are_numbers(values: pa.ChunkedArray) -> bool:
    return are_numbers(cast(values, pa.string())[0])
