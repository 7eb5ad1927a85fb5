"""What happens to each column of a file."""

from dataclasses import dataclass, replace

import pyarrow as pa

from taxi_ingest import tlc
from taxi_ingest.errors import DataError
from taxi_ingest.read import Format, Layout
from taxi_ingest.transform.types import ARROW_OF_POSTGRES, postgres_type


@dataclass(frozen=True)
class PlannedColumn:
    """A column of the table."""

    name: str
    type: str
    """Its Postgres type."""
    source: str | None
    """The file's name for it; None where the file lacks it, so that it stays null."""
    meaning: str | None = None
    guessed: bool = False
    """Whether the type is only what the first rows suggest, not a dataset's or a Parquet file's own."""

    @property
    def arrow_type(self) -> pa.DataType:
        return ARROW_OF_POSTGRES[self.type]


@dataclass(frozen=True)
class Plan:
    """All columns of the table that a file is loaded into, and which of the file's they are."""

    dataset: str | None
    month: str | None
    columns: tuple[PlannedColumn, ...]
    unknown: tuple[str, ...]
    """Names in a TLC file that no era had so far."""
    warnings: tuple[str, ...]

    @property
    def loaded(self) -> tuple[PlannedColumn, ...]:
        """The columns that the file has."""
        return tuple(column for column in self.columns if column.source is not None)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema in which rows go to Postgres."""
        return pa.schema([(column.name, column.arrow_type) for column in self.loaded])

    def with_type(self, name: str, type: str) -> "Plan":
        """The same plan with another type for a column."""
        columns = tuple(replace(c, type=type) if c.name == name else c for c in self.columns)
        return replace(self, columns=columns)


def plan(layout: Layout, file_name: str) -> Plan:
    """Recognise a file by its header, with its name as a hint, and map its columns.

    A TLC file gets all columns of its dataset; columns that nobody has seen yet follow behind them.
    Any other file keeps its own names and the types that its first rows suggest.
    """
    dataset = tlc.recognise(layout.header)
    hint = tlc.parse_file_name(file_name)
    if dataset is None:
        columns = tuple(_as_it_is(field, layout) for field in layout.schema)
        return Plan(None, None, columns, (), _odd_name(hint, "no TLC dataset"))
    mapping = _map(layout, dataset)
    known = tuple(
        PlannedColumn(column.name, column.type, mapping.get(column.name), column.meaning)
        for column in dataset.columns
    )
    unknown = tuple(name for name in layout.header if name not in mapping.values())
    extra = tuple(_as_it_is(layout.schema.field(name), layout) for name in unknown)
    warnings = () if hint.dataset == dataset.name else _odd_name(hint, dataset.name)
    month = hint.month if hint.dataset == dataset.name else None
    return Plan(dataset.name, month, (*known, *extra), unknown, warnings)


def _map(layout: Layout, dataset: tlc.Dataset) -> dict[str, str]:
    """From the canonical name of each column that the file has to the file's name."""
    names = frozenset(map(tlc.normalise, layout.header))
    mapping: dict[str, str] = {}
    for source in layout.header:
        column = dataset.column_of(tlc.normalise(source), names)
        if column is None:
            continue
        if column.name in mapping:
            raise DataError(
                f"Columns {mapping[column.name]!r} and {source!r} both mean {dataset.name}'s {column.name}.",
                "Drop one of them from the file.",
            )
        mapping[column.name] = source
    return mapping


def _as_it_is(field: pa.Field, layout: Layout) -> PlannedColumn:
    type = postgres_type(field.name, field.type)
    return PlannedColumn(field.name, type, field.name, guessed=layout.format is not Format.PARQUET)


def _odd_name(hint: tlc.FileName, found: str) -> tuple[str, ...]:
    if hint.dataset is None:
        return ()
    return (f"The file is named {hint.dataset}, but its columns are those of {found}.",)
