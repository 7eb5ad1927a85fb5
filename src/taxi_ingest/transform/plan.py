"""What happens to each column of a file."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from taxi_ingest import tlc
from taxi_ingest.errors import DataError
from taxi_ingest.read import Layout
from taxi_ingest.read.texts import Origin
from taxi_ingest.settings.job import Names
from taxi_ingest.transform.types import WIDER, Store, column_type


@dataclass(frozen=True)
class PlannedColumn:
    """A column of the table."""

    name: str
    type: pa.DataType
    source: str | None
    """The file's name for it; None where the file lacks it, so that it stays null."""
    meaning: str | None = None
    snake: str | None = None
    """What the column is in TLC's catalogue, whatever the table calls it; None for others."""
    guessed: bool = False
    """Whether the type is only what the first rows suggest, not a dataset's or a Parquet file's own."""
    stored: bool = False
    """Whether the table has rows with this type already."""

    @property
    def origin(self) -> Origin:
        """Who says what type it has."""
        if self.snake is not None:
            return "tlc"
        return "guess" if self.guessed else "table"

    @property
    def text_decides(self) -> bool:
        """Whether a CSV's values must be seen as they are spelled, so that Arrow may not parse them."""
        if pa.types.is_date(self.type) or pa.types.is_timestamp(self.type):
            return False
        return self.snake is None or pa.types.is_decimal(self.type) or pa.types.is_float32(self.type)

    @property
    def wider(self) -> tuple[pa.DataType, ...]:
        """What its type can become when a value needs more; nothing where such a value is rejected."""
        return WIDER.get(self.type, ()) if self.guessed else ()


@dataclass(frozen=True)
class Plan:
    """All columns of the table that a file is loaded into, and which of the file's they are."""

    dataset: str | None
    month: str | None
    columns: tuple[PlannedColumn, ...]
    unknown: tuple[str, ...]
    """Names in a TLC file that no era had so far."""
    warnings: tuple[str, ...]
    names: Names = "tlc"

    @property
    def loaded(self) -> tuple[PlannedColumn, ...]:
        """The columns that the file has."""
        return tuple(column for column in self.columns if column.source is not None)

    @property
    def pickup(self) -> PlannedColumn | None:
        """The column of the trip's start, whatever the table calls it and whether or not the file has it."""
        return next((column for column in self.columns if column.snake == "pickup_datetime"), None)

    @property
    def schema(self) -> pa.Schema:
        """The names and types of those."""
        return pa.schema([(column.name, column.type) for column in self.loaded])

    def with_type(self, name: str, type: pa.DataType) -> "Plan":
        """The same plan with another type for a column, which the file's values need."""

        def wider(column: PlannedColumn) -> PlannedColumn:
            # Text is now no guess any more, which the table's own type would go before.
            return replace(column, type=type, guessed=column.guessed and type != pa.string())

        return replace(self, columns=tuple(wider(c) if c.name == name else c for c in self.columns))

    def with_stored_type(self, name: str, type: pa.DataType, final: bool) -> "Plan":
        """The same plan with the type that the table's column has; a `final` one is never widened."""

        def stored(column: PlannedColumn) -> PlannedColumn:
            guessed = column.guessed or (column.type != type and column.snake is None)
            return replace(column, type=type, guessed=guessed and not final, stored=True)

        return replace(self, columns=tuple(stored(c) if c.name == name else c for c in self.columns))

    def into(self, store: Store) -> "Plan":
        """The same plan with names that a place can hold beside each other."""
        names = _free_names([c.name for c in self.columns], store.reserved_names, store.name_bytes)
        columns = zip(self.columns, names, strict=True)
        return replace(self, columns=tuple(replace(column, name=name) for column, name in columns))


def plan(layout: Layout, file_name: str, names: Names = "tlc") -> Plan:
    """Recognise a file by its header, with its name as a hint, and map its columns.

    A TLC file gets all columns of its dataset; columns that nobody has seen yet follow behind them.
    Any other file keeps its own names and the types that its first rows suggest. Raises DataError
    where it has no rows that could suggest any, and where two columns mean the same.
    """
    dataset = tlc.recognise(layout.header)
    hint = tlc.parse_file_name(file_name)
    if dataset is None:
        if not len(layout.schema) or layout.is_empty:
            raise DataError(f"{file_name} has no rows, and no header that TLC uses.", "Is it the right file?")
        columns = _as_they_are(list(layout.schema), layout, names)
        warnings = (*layout.notes, *_odd_name(hint, "no TLC dataset"))
        return Plan(None, None, columns, (), warnings, names)
    mapping = _map(layout, dataset)
    known = tuple(
        PlannedColumn(
            name={"tlc": column.name, "snake": column.snake, "lower": column.name.lower()}[names],
            type=pa.type_for_alias(column.type),
            source=mapping.get(column.name),
            meaning=column.meaning,
            snake=column.snake,
        )
        for column in dataset.columns
    )
    unknown = tuple(name for name in layout.header if name not in mapping.values())
    fields = [layout.schema.field(name) for name in unknown]
    extra = _as_they_are(fields, layout, names, taken=frozenset(column.name for column in known))
    odd_name = () if hint.dataset == dataset.name else _odd_name(hint, dataset.name)
    month = hint.month if hint.dataset == dataset.name else None
    return Plan(dataset.name, month, (*known, *extra), unknown, (*layout.notes, *odd_name), names)


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


def _as_they_are(
    fields: list[pa.Field], layout: Layout, names: Names, taken: frozenset[str] = frozenset()
) -> tuple[PlannedColumn, ...]:
    """Columns under their own names, as far as those are different from each other."""
    wanted = [_SPELLED[names](field.name) for field in fields]
    return tuple(
        PlannedColumn(
            name,
            column_type(field.name, field.type),
            source=field.name,
            guessed=layout.format.is_csv and field.name not in layout.thousands,
        )
        for field, name in zip(fields, _free_names(wanted, taken), strict=True)
    )


def _free_names(wanted: list[str], taken: frozenset[str], most_bytes: int = sys.maxsize) -> list[str]:
    """Names of 1 to so many bytes, each of which no other column has."""
    names: list[str] = []
    used = set(taken)
    for name in wanted:
        free = _shortened(name or "column", "", most_bytes)
        number = 2
        while free in used:
            free = _shortened(name or "column", f"_{number}", most_bytes)
            number += 1
        used.add(free)
        names.append(free)
    return names


def _shortened(name: str, ending: str, most_bytes: int) -> str:
    return name.encode()[: most_bytes - len(ending)].decode(errors="ignore") + ending


def snake_case(name: str) -> str:
    """`Trip Type` or `tripType` as `trip_type`, which SQL takes without quotes."""
    words = re.sub(r"([a-z0-9])([A-Z])|[^0-9A-Za-z]+", r"\1_\2", name).strip("_").lower()
    return words if words[:1].isalpha() else f"column_{words}".rstrip("_")


_SPELLED: Mapping[Names, Callable[[str], str]] = {"tlc": str, "snake": snake_case, "lower": str.lower}
"""How names are spelled that are not TLC's."""


def _odd_name(hint: tlc.FileName, found: str) -> tuple[str, ...]:
    if hint.dataset is None:
        return ()
    return (f"The file is named {hint.dataset}, but its columns are those of {found}.",)
