"""Where a file's rows go: a partition of their own, a table that the user made, or a lookup table."""

from dataclasses import dataclass
from typing import Protocol

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest import tlc
from taxi_ingest.errors import DataError
from taxi_ingest.load import table
from taxi_ingest.load.patience import patiently
from taxi_ingest.load.table import ExistingTable, Target
from taxi_ingest.transform import Plan, PlannedColumn, Stream


class TableChanged(Exception):
    """Someone else changed the table's definition meanwhile; start anew with what it is now."""


class Destination(Protocol):
    """A place to COPY into, and what makes it part of the target."""

    @property
    def freeze(self) -> bool:
        """Whether COPY may FREEZE: only into a table made in the same transaction."""

    def prepare(self, cursor: Cursor) -> sql.Composable:
        """The table to copy into."""

    def settle(self, cursor: Cursor) -> tuple[str, ...]:
        """After the copy: make the rows the target's; what the user should know of it."""


def choose(
    stream: Stream, target: Target, existing: ExistingTable | None, load_id: int, replaces: int | None
) -> Destination:
    """The destination for a file; `replaces` is the load whose rows it replaces.

    Raises DataError where a plain table of the user's can't take it.
    """
    plan = stream.plan
    if plan.dataset and tlc.dataset_named(plan.dataset).kind == "lookup" and (existing is None or replaces):
        return Lookup(plan, target, existing is not None)
    if existing and not existing.partitioned:
        return PlainTable(plan, target, existing, replaces)
    return Partition(stream, target, existing, load_id, replaces)


@dataclass(frozen=True)
class Partition:
    """One load, one partition. Nobody waits for it but while it is attached, at the very end."""

    stream: Stream
    target: Target
    existing: ExistingTable | None
    load_id: int
    replaces: int | None
    freeze: bool = True

    def prepare(self, cursor: Cursor) -> sql.Composable:
        columns = self.stream.plan.columns
        if self.existing is None:
            table.create_partition(cursor, columns, self.load_id)
        else:
            table.create_partition_of(cursor, self.existing, self.load_id)
            if missing := self._missing(self.existing):
                table.add_columns(cursor, table.partition_target(self.load_id), missing)
            for column in self._wider(self.existing):
                table.widen_column(cursor, table.partition_target(self.load_id), column)
        return table.partition_target(self.load_id).sql

    def settle(self, cursor: Cursor) -> tuple[str, ...]:
        table.prove_partition(cursor, self.load_id)
        table.lock_definition(cursor, self.target)
        return patiently(cursor, lambda: self._join(cursor))

    def _join(self, cursor: Cursor) -> tuple[str, ...]:
        existing = table.look_up(cursor, self.target)
        if existing != self.existing:
            raise TableChanged
        notes = self._define(cursor, existing)
        table.attach(cursor, self.target, self.load_id)
        # Last, as this alone locks out those who read the table.
        if self.replaces is not None:
            table.drop_partition(cursor, self.target, self.replaces)
        return notes

    def _define(self, cursor: Cursor, existing: ExistingTable | None) -> tuple[str, ...]:
        plan = self.stream.plan
        if existing is None:
            table.create(cursor, self.target, plan.columns)
            return tuple(f"New column {name!r}: no known TLC file has it." for name in plan.unknown)
        missing, wider = self._missing(existing), self._wider(existing)
        if missing:
            table.add_columns(cursor, self.target, missing)
        for column in wider:
            table.widen_column(cursor, self.target, column)
        return (
            *(f"New column {column.name!r} added to {self.target}." for column in missing),
            *(f"Column {column.name!r} of {self.target} is {column.type} now." for column in wider),
        )

    def _missing(self, existing: ExistingTable) -> list[PlannedColumn]:
        return [column for column in self.stream.plan.loaded if column.name not in existing.columns]

    def _wider(self, existing: ExistingTable) -> list[PlannedColumn]:
        loaded = self.stream.plan.loaded
        return [c for c in loaded if existing.columns.get(c.name, c.type) != c.type]


@dataclass(frozen=True)
class PlainTable:
    """A table that the user made: appended to, by column name."""

    plan: Plan
    target: Target
    existing: ExistingTable
    replaces: int | None
    freeze: bool = False

    def prepare(self, cursor: Cursor) -> sql.Composable:
        del cursor
        if self.replaces is not None:
            raise DataError(
                f"The file is in {self.target} already, as load {self.replaces}; since taxi-ingest did not "
                "make that table, its old rows can't be told from others and replaced.",
                "Load into a new --table, which taxi-ingest makes.",
            )
        missing = [
            repr(column.name) for column in self.plan.loaded if column.name not in self.existing.columns
        ]
        if missing:
            raise DataError(
                f"{self.target} has no column {', '.join(missing)}.",
                "Add it to the table, or load into a new --table.",
            )
        return self.target.sql

    def settle(self, cursor: Cursor) -> tuple[str, ...]:
        del cursor
        return ()


@dataclass(frozen=True)
class Lookup:
    """A small table with a key, replaced whole."""

    plan: Plan
    target: Target
    exists: bool
    freeze: bool = False

    def prepare(self, cursor: Cursor) -> sql.Composable:
        if self.exists:
            table.delete_all(cursor, self.target)
        else:
            table.create_with_key(cursor, self.target, self.plan.columns)
        return self.target.sql

    def settle(self, cursor: Cursor) -> tuple[str, ...]:
        del cursor
        return ()
