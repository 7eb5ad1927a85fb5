"""Which table holds a dataset, and its columns as the views read them: in snake_case, each of one type.

Tables may spell their columns in any way and lack some; a user's own may have other types. The views always
have the same columns, whatever is loaded, so that they can be brought up to date under those who read them.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest import tlc
from taxi_ingest.errors import DatabaseError, DataError, UsageError
from taxi_ingest.load import Target
from taxi_ingest.load.database import one
from taxi_ingest.load.history import find_hint, tables_of_datasets
from taxi_ingest.load.types import name_of, short_name

_ESSENTIAL = ("pickup_datetime", "location_id")
"""Columns without which a table is of no use here."""

_ASSIGNED = {"pickup_location_id": "assigned_pickup_zone", "dropoff_location_id": "assigned_dropoff_zone"}
"""Where zones lie that were found by a trip's coordinates, for years in which TLC names none."""


@dataclass(frozen=True)
class Found:
    """A column of a table, as it is there."""

    name: str
    type: str
    meaning: str | None
    unique: bool
    """Whether no two rows have the same value of it."""


@dataclass(frozen=True)
class Source:
    """A dataset, and the table that holds it; None where none does."""

    dataset: tlc.Dataset
    target: Target | None
    columns: tuple[Found, ...] = ()
    others: tuple[Target, ...] = ()
    """Tables that hold the dataset, too."""

    @property
    def missing(self) -> list[str]:
        """The dataset's columns that the table lacks, under any of their names."""
        return [column.name for column in self.dataset.columns if self._find(column) is None]

    @property
    def query(self) -> sql.Composable:
        """A subquery: the dataset's columns, null where the table lacks them; no rows where there is none."""
        return sql.SQL("({} {} {})").format(
            sql.SQL("SELECT DISTINCT ON (location_id)" if self._repeats else "SELECT"),
            sql.SQL(", ").join(self._selected()),
            sql.SQL("FROM {}").format(self.target.sql) if self.target else sql.SQL("WHERE false"),
        )

    @property
    def _repeats(self) -> bool:
        """Whether a zone may be there twice: a join with it would count its trips twice."""
        key = self._find(self.dataset.columns[0])
        return self.dataset.kind == "lookup" and key is not None and not key.unique

    def _selected(self) -> Iterable[sql.Composable]:
        for column in self.dataset.columns:
            yield _as(self._value(column), column.snake)
        if self.dataset.kind == "trips":
            yield _as(_converted(self._named("_load_id"), "integer"), "_load_id")

    def _value(self, column: tlc.Column) -> sql.Composable:
        type = name_of(pa.type_for_alias(column.type))
        value = _converted(self._find(column), type)
        assigned = self._named(_ASSIGNED.get(column.snake, ""))
        if assigned is None:
            return value
        return sql.SQL("coalesce({}, {})").format(value, _converted(assigned, type))

    def _find(self, column: tlc.Column) -> Found | None:
        """A column by one of its spellings, or else, if someone has renamed it, by the comment on it."""
        names = (column.name, column.snake, column.name.lower())
        named = next(filter(None, map(self._named, names)), None)
        return named or next((found for found in self.columns if found.meaning == column.meaning), None)

    def _named(self, name: str) -> Found | None:
        return next((found for found in self.columns if found.name == name), None)


def _as(value: sql.Composable, name: str) -> sql.Composable:
    return sql.SQL("{} AS {}").format(value, sql.Identifier(name))


def _converted(column: Found | None, type: str) -> sql.Composable:
    """A column's values as this type; as they are, so that its index serves, wherever they have it."""
    if column is None:
        return sql.SQL("NULL::{}").format(sql.SQL(type))
    if column.type == type:
        return sql.Identifier(column.name)
    if column.type == "timestamptz" and type == "timestamp":
        return sql.SQL("({} AT TIME ZONE 'America/New_York')").format(sql.Identifier(column.name))
    return sql.SQL("{}::{}").format(sql.Identifier(column.name), sql.SQL(type))


def find_sources(
    cursor: Cursor, wanted: Collection[Target], present: Collection[Target]
) -> tuple[Source, ...]:
    """Each dataset with its table: the one that is `wanted`, that views read at `present`, that is called as
    usual, or that is the only one.

    Raises UsageError where several tables may be meant, and for a `wanted` one that holds nothing of TLC's;
    DataError where nothing is loaded, and for a table that lacks what is needed; DatabaseError where the
    right to read it lacks.
    """
    known = tables_of_datasets(cursor)
    for target in wanted:
        if target not in (table for _, table, _ in known):
            raise UsageError(f"Nothing of TLC's was loaded into {target}.", find_hint(cursor, target))
    if not any(tlc.dataset_named(dataset).kind == "trips" for dataset, _, _ in known):
        raise DataError("No trips are loaded yet.", "Load some: taxi-ingest backfill yellow 2024-01")
    return tuple(_source(cursor, dataset, known, wanted, present) for dataset in tlc.datasets())


def _source(
    cursor: Cursor,
    dataset: tlc.Dataset,
    known: Sequence[tuple[str, Target, bool]],
    wanted: Collection[Target],
    present: Collection[Target],
) -> Source:
    tables = [target for name, target, _ in known if name == dataset.name]
    filled = [target for name, target, there in known if name == dataset.name and there]
    usual = [Target("public", dataset.table)]
    target = _chosen(dataset, tables, (wanted,)) or _chosen(
        dataset, filled or tables, (present, usual, tables)
    )
    if target is None:
        return Source(dataset, None)
    others = tuple(other for other in filled if other != target)
    source = Source(dataset, target, _columns(cursor, target), others)
    _check(cursor, source, target)
    return source


def _chosen(
    dataset: tlc.Dataset, tables: Sequence[Target], preferences: Sequence[Collection[Target]]
) -> Target | None:
    for preferred in preferences:
        found = [target for target in tables if target in preferred]
        if len(found) > 1:
            raise UsageError(
                f"Several tables hold {dataset.name}: {', '.join(map(str, found))}.",
                f"Name the one that the views are to read: --table {found[0]}",
            )
        if found:
            return found[0]
    return None


def _check(cursor: Cursor, source: Source, target: Target) -> None:
    if lost := [c.name for c in source.dataset.columns if c.snake in _ESSENTIAL and c.name in source.missing]:
        raise DataError(
            f"{target} holds {source.dataset.name}, but has no column {', '.join(lost)}.",
            "Give it back its name, or name another table: --table.",
        )
    cursor.execute("SELECT has_table_privilege(to_regclass(%s), 'SELECT')", (target.quoted_whole,))
    if not one(cursor)[0]:
        raise DatabaseError(
            f"You may not read {target}, and so neither may views of yours.",
            "Let its owner GRANT SELECT on it to you, or make the views.",
        )


_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum), EXISTS (
    SELECT FROM pg_index WHERE indrelid = attrelid AND indisunique AND indisvalid AND indimmediate
        AND indnkeyatts = 1 AND indkey[0] = attnum AND indpred IS NULL)
FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""


def _columns(cursor: Cursor, target: Target) -> tuple[Found, ...]:
    cursor.execute(_COLUMNS, (target.quoted_whole,))
    return tuple(Found(name, short_name(type), *rest) for name, type, *rest in cursor.fetchall())
