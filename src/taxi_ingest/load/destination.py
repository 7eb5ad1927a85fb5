"""Where a file's rows go: a partition of their own, a table that the user made, or a lookup table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest import tlc
from taxi_ingest.errors import DataError
from taxi_ingest.load import partition, table
from taxi_ingest.load.geometry import add_geometry
from taxi_ingest.load.table import ExistingTable, Target
from taxi_ingest.load.types import name_of
from taxi_ingest.load.waiting import patiently
from taxi_ingest.transform import Plan, PlannedColumn, Stream


class TableChanged(Exception):
    """Someone else changed the table's definition meanwhile; start anew with what it is now."""


class Destination(Protocol):
    """A place to COPY into, and what makes it part of the target."""

    @property
    def plan(self) -> Plan:
        """What is loaded of the file."""

    @property
    def has_parts(self) -> bool:
        """Whether it is filled in parts, each a table made in the transaction of its copy: it may FREEZE."""

    def check(self, cursor: Cursor) -> None:
        """Change nothing; raise DataError where the target can't take the file."""

    def prepare(self, cursor: Cursor, part_id: int) -> sql.Composable:
        """The table to copy into. The first part has the load's number."""

    def finish(self, cursor: Cursor, part_id: int) -> None:
        """After the copy: what can be done to a part alone."""

    def settle(self, cursor: Cursor, load_id: int, others: Sequence[int]) -> tuple[str, ...]:
        """Make the rows the target's, of the `others` of the parts, too; what the user should know."""


def choose(
    cursor: Cursor,
    stream: Stream,
    target: Target,
    existing: ExistingTable | None,
    replaces: int | None,
    indexed: bool,
) -> Destination:
    """The destination for a file; `replaces` is the load whose rows it replaces, `indexed` whether it gets an
    index on the pickup time, if it is a partition."""
    plan = stream.plan
    if is_lookup(plan) and (existing is None or table.is_marked(cursor, target)):
        return Lookup(plan, target, existing is not None)
    if existing and not existing.partitioned:
        return PlainTable(plan, target, existing, replaces)
    return Partition(stream, target, existing, replaces, indexed)


def is_lookup(plan: Plan) -> bool:
    """Whether a file is a whole small table, and not one month of many."""
    return plan.dataset is not None and tlc.dataset_named(plan.dataset).kind == "lookup"


@dataclass(frozen=True)
class Partition:
    """One load, one partition, or several. Nobody waits for it but while it is attached, at the very end."""

    stream: Stream
    target: Target
    existing: ExistingTable | None
    replaces: int | None
    indexed: bool
    has_parts: bool = True

    @property
    def plan(self) -> Plan:
        """What is loaded of the file."""
        return self.stream.plan

    def check(self, cursor: Cursor) -> None:
        """Raises DataError where a view uses a column that would have to be widened."""
        wider = self._wider(self.existing) if self.existing else []
        if views := table.views_on(cursor, self.target, [column.name for column in wider]):
            columns = ", ".join(f"{column.name!r} to {name_of(column.type)}" for column in wider)
            raise DataError(
                f"{self.target} would have to widen {columns} for this file, but these views use "
                f"it: {', '.join(views)}.",
                "Drop the views and make them again afterwards (`taxi-ingest views --drop` and `taxi-ingest "
                "views` do it with its own), or load into another --table.",
            )

    def prepare(self, cursor: Cursor, part_id: int) -> sql.Composable:
        """Make the part, as the target will be once this file is in it."""
        own = partition.target_of(part_id)
        if self.existing is None:
            partition.create(cursor, self.plan.loaded, part_id)
        else:
            spared = self.existing.definitions_of(self._unneeded(self.existing))
            kept = [text for text in self.existing.definitions if text not in spared]
            partition.create_like(cursor, kept, part_id)
            if missing := self._missing(self.existing):
                table.add_columns(cursor, own, missing)
            for column in self._wider(self.existing):
                table.widen_column(cursor, own, column)
        partition.prove(cursor, own, part_id)
        return own.sql

    def finish(self, cursor: Cursor, part_id: int) -> None:
        """Complete the part, so that it can be attached in a moment."""
        partition.complete(cursor, self._spared, part_id)
        if self.indexed:
            partition.create_index(cursor, part_id, self.plan)

    def settle(self, cursor: Cursor, load_id: int, others: Sequence[int]) -> tuple[str, ...]:
        """Attach the parts. Raises TableChanged if the target is another now."""
        return patiently(cursor, lambda: self._join(cursor, load_id, others))

    @property
    def _spared(self) -> list[sql.Composable]:
        """The definitions of the columns that the file lacks, and that its rows need not have."""
        if self.existing is None:
            return [table.definition(column) for column in self.plan.columns if not column.source]
        return [sql.SQL(text) for text in self.existing.definitions_of(self._unneeded(self.existing))]

    def _unneeded(self, existing: ExistingTable) -> frozenset[str]:
        return existing.optional - {column.name for column in self.plan.loaded}

    def _join(self, cursor: Cursor, load_id: int, others: Sequence[int]) -> tuple[str, ...]:
        copied = table.look_up(cursor, partition.target_of(load_id))
        assert copied, "it was made in this transaction"
        table.lock_definition(cursor, self.target)
        existing = table.look_up(cursor, self.target)
        if existing != self.existing and not self._still_fits(copied, existing):
            raise TableChanged
        if self.replaces is not None and not partition.holds_whole(cursor, self.target, self.replaces):
            # Undone, dropped or detached meanwhile: what is to become of the file is another question now.
            raise TableChanged
        notes = self._define(cursor, existing)
        for part_id in others:
            partition.take_up(cursor, part_id)
        for part_id in (load_id, *others):
            partition.attach(cursor, self.target, part_id)
        # Last, as this alone locks out those who read the table.
        if self.replaces is not None:
            partition.drop(cursor, self.replaces)
        return notes

    def _still_fits(self, copied: ExistingTable, existing: ExistingTable | None) -> bool:
        """Whether the rows that were copied go into the table as someone else has made it meanwhile."""
        if existing is None or not existing.partitioned:
            return False
        added = {column.name for column in self._missing(existing)}
        own = set(copied.definitions) | {table.LOAD_ID}
        return own >= set(existing.definitions) and set(copied.columns) == {*existing.columns, *added}

    def _define(self, cursor: Cursor, existing: ExistingTable | None) -> tuple[str, ...]:
        plan = self.plan
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
            *(f"Column {column.name!r} of {self.target} is {name_of(column.type)} now." for column in wider),
        )

    def _missing(self, existing: ExistingTable) -> list[PlannedColumn]:
        return [column for column in self.plan.loaded if column.name not in existing.columns]

    def _wider(self, existing: ExistingTable) -> list[PlannedColumn]:
        loaded = self.plan.loaded
        return [c for c in loaded if existing.columns.get(c.name) not in (None, name_of(c.type))]


@dataclass(frozen=True)
class PlainTable:
    """A table that the user made: appended to, by column name."""

    plan: Plan
    target: Target
    existing: ExistingTable
    replaces: int | None
    has_parts: bool = False

    def check(self, cursor: Cursor) -> None:
        """Raises DataError for a file that would replace another, and for columns that are not there."""
        del cursor
        if self.replaces is not None:
            raise DataError(
                f"{self.target} has this file already, or another version of it, as load {self.replaces}; "
                "since taxi-ingest did not make that table, its old rows can't be told from others and "
                "replaced.",
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

    def prepare(self, cursor: Cursor, part_id: int) -> sql.Composable:
        """The table as it is: nothing of it is ever altered."""
        del cursor, part_id
        return self.target.sql

    def finish(self, cursor: Cursor, part_id: int) -> None:
        """Nothing is left to do: the rows are in the table."""

    def settle(self, cursor: Cursor, load_id: int, others: Sequence[int]) -> tuple[str, ...]:
        """As little."""
        del cursor, load_id, others
        return ()


@dataclass(frozen=True)
class Lookup:
    """A small table with a key, which taxi-ingest makes and replaces whole."""

    plan: Plan
    target: Target
    exists: bool
    has_parts: bool = False

    def check(self, cursor: Cursor) -> None:
        """Raises DataError where the table has rows that others put in: they would be deleted."""
        if self.exists and table.has_foreign_rows(cursor, self.target):
            raise DataError(
                f"{self.target} has rows that taxi-ingest did not put there; replacing it would delete them.",
                "Rename or drop the table first, or load into another --table.",
            )

    def prepare(self, cursor: Cursor, part_id: int) -> sql.Composable:
        """Empty the table, or make it with its key."""
        del part_id
        if self.exists:
            patiently(cursor, lambda: table.lock_rows(cursor, self.target))
            self.check(cursor)
            table.delete_all(cursor, self.target)
        else:
            table.create_with_key(cursor, self.target, self.plan.columns)
            add_geometry(cursor, self.target, self.plan)
        return self.target.sql

    def finish(self, cursor: Cursor, part_id: int) -> None:
        """Nothing is left to do."""

    def settle(self, cursor: Cursor, load_id: int, others: Sequence[int]) -> tuple[str, ...]:
        """Note in the table's comment that taxi-ingest has made it, and which load it holds."""
        del others
        table.mark(cursor, self.target, load_id)
        return ()
