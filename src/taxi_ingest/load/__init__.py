"""Arrow batches -> COPY BINARY -> partition, rejects, ledger: one transaction, all or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError
from taxi_ingest.fetch import SourceFile
from taxi_ingest.load import ledger, table
from taxi_ingest.load.connection import Database, database_at
from taxi_ingest.load.copy import Counts, Progress, copy_rows
from taxi_ingest.load.ledger import LoadRecord
from taxi_ingest.load.rejects import Allowance, RejectSpool, parse_allowance
from taxi_ingest.load.table import Target, parse_target
from taxi_ingest.transform import Plan, Stream, TooNarrow

__all__ = [
    "Allowance",
    "Database",
    "IfLoaded",
    "Load",
    "LoadRecord",
    "Progress",
    "Target",
    "database_at",
    "find_load",
    "load",
    "parse_allowance",
    "parse_target",
    "skipped",
]

IfLoaded = Literal["skip", "replace", "fail"]


@dataclass(frozen=True)
class Load:
    """What a load did."""

    status: Literal["loaded", "replaced", "skipped"]
    load_id: int
    dataset: str | None
    month: str | None
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    rows_removed: int = 0
    """Rows that the user's own step dropped; negative where it added some."""
    notes: tuple[str, ...] = ()
    """What the user should know: added columns, a misleading file name."""


def find_load(database: Database, target: Target, url: str) -> LoadRecord | None:
    """What the target has of the file at `url`; None also where there is no ledger yet."""
    with database.connect() as connection, connection.cursor() as cursor:
        return ledger.find(cursor, target, url) if ledger.exists(cursor) else None


def load(
    stream: Stream,
    source: SourceFile,
    target: Target,
    database: Database,
    *,
    if_loaded: IfLoaded = "skip",
    allowance: Allowance,
    flow_run_url: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Load:
    """Load a file into a table, once, in one transaction; on any error nothing has changed.

    A file whose content the table already has is skipped; one that has changed since replaces its own
    rows. Raises DataError for too many rejects, for `if_loaded="fail"` and for a table that does not
    fit; DatabaseError for what Postgres refuses; SourceError for a damaged file.
    """
    while True:
        try:
            with _transaction(database) as cursor:
                return _load(cursor, stream, source, target, if_loaded, allowance, flow_run_url, on_progress)
        except TooNarrow as reason:
            stream = stream.with_type(reason.column, reason.type)


@contextmanager
def _transaction(database: Database) -> Iterator[Cursor]:
    # psycopg2's own context manager, the second one, commits, or rolls back on any exception.
    with database.connect() as connection, connection, connection.cursor() as cursor:
        yield cursor


def _load(
    cursor: Cursor,
    stream: Stream,
    source: SourceFile,
    target: Target,
    if_loaded: IfLoaded,
    allowance: Allowance,
    flow_run_url: str | None,
    on_progress: Callable[[Progress], None],
) -> Load:
    started_at = datetime.now(UTC)
    ledger.ensure(cursor)
    ledger.lock(cursor, target, source)
    previous = ledger.find(cursor, target, source.url, source.sha256)
    if previous and if_loaded == "fail":
        raise already_loaded(previous, target)
    if previous and previous.sha256 == source.sha256 and if_loaded == "skip":
        return skipped(previous)

    table.lock_definition(cursor, target)
    existing = table.look_up(cursor, target)
    if previous and existing and not existing.partitioned:
        raise _inseparable(previous, target)
    _check_dataset(stream.plan.dataset, ledger.dataset_of(cursor, target), target)
    stream = _fitted(stream, target, existing)
    added = _prepare(cursor, target, existing, stream.plan)
    load_id = ledger.begin(
        cursor,
        target,
        source,
        dataset=stream.plan.dataset,
        month=stream.plan.month,
        columns={column.name: column.source for column in stream.plan.loaded},
        started_at=started_at,
        flow_run_url=flow_run_url,
        tool_version=version("taxi-ingest"),
    )
    owned = existing is None or existing.partitioned
    if owned:
        table.create_partition(cursor, target, load_id)
    destination = table.partition_of(load_id) if owned else target.sql
    with RejectSpool(load_id) as spool:
        counts = copy_rows(cursor, destination, stream, spool.add, on_progress, freeze=owned)
        _check(counts, stream, spool, allowance)
        spool.store(cursor)
    if owned:
        if previous:
            table.drop_partition(cursor, target, previous.load_id)
        table.attach(cursor, target, load_id)
    if previous:
        ledger.mark_replaced(cursor, previous.load_id)
    ledger.finish(cursor, load_id, counts.read, counts.loaded, counts.rejected)
    return Load(
        status="replaced" if previous else "loaded",
        load_id=load_id,
        dataset=stream.plan.dataset,
        month=stream.plan.month,
        rows_read=counts.read,
        rows_loaded=counts.loaded,
        rows_rejected=counts.rejected,
        rows_removed=counts.removed,
        notes=(*stream.plan.warnings, *added),
    )


def skipped(previous: LoadRecord) -> Load:
    """The outcome for a file that the table already has."""
    return Load(
        status="skipped",
        load_id=previous.load_id,
        dataset=previous.dataset,
        month=previous.month,
        rows_read=previous.rows_read,
        rows_loaded=previous.rows_loaded,
        rows_rejected=previous.rows_rejected,
    )


def already_loaded(previous: LoadRecord, target: Target) -> DataError:
    """The error for a file that the table already has, for those who want one."""
    return DataError(
        f"{previous.source} is already in {target}, as load {previous.load_id}.",
        "Leave out --if-loaded fail to skip it, or use --if-loaded replace to load it anew.",
    )


def _inseparable(previous: LoadRecord, target: Target) -> DataError:
    return DataError(
        f"{previous.source} is in {target} already, as load {previous.load_id}; since taxi-ingest did not "
        "make that table, its old rows can't be told from others and replaced.",
        "Load into a new --table, which taxi-ingest makes.",
    )


def _check_dataset(dataset: str | None, holds: tuple[str | None] | None, target: Target) -> None:
    """One table, one dataset: a file put into another's table is a slip. Raises DataError."""
    if holds is not None and holds != (dataset,):
        raise DataError(
            f"{target} holds files of {_described(holds[0])}, and this is one of {_described(dataset)}.",
            "Load it into another --table.",
        )


def _described(dataset: str | None) -> str:
    return f"TLC's dataset {dataset}" if dataset else "no TLC dataset"


def _fitted(stream: Stream, target: Target, existing: table.ExistingTable | None) -> Stream:
    """The stream with the types that the table's columns already have, where those are wide enough."""
    if existing is None:
        return stream
    for column in stream.plan.loaded:
        has = existing.columns.get(column.name, column.type)
        widens = existing.partitioned and table.is_wider(column.type, than=has)
        if has != column.type and not widens:
            table.check_loadable(target, column, has)
            stream = stream.with_type(column.name, has)
    return stream


def _prepare(
    cursor: Cursor, target: Target, existing: table.ExistingTable | None, plan: Plan
) -> tuple[str, ...]:
    """Make the table, or add and widen what it lacks; say what was added."""
    if existing is None:
        table.create(cursor, target, plan.columns)
        return tuple(f"New column {name!r}: no known TLC file has it." for name in plan.unknown)
    missing = [column for column in plan.loaded if column.name not in existing.columns]
    if missing and not existing.partitioned:
        raise DataError(
            f"{target} has no column {', '.join(repr(column.name) for column in missing)}.",
            "Add it to the table, or load into a new --table.",
        )
    if missing:
        table.add_columns(cursor, target, missing)
    wider = [c for c in plan.loaded if c.name in existing.columns and existing.columns[c.name] != c.type]
    for column in wider:
        table.widen_column(cursor, target, column)
    return (
        *(f"New column {column.name!r} added to {target}." for column in missing),
        *(f"Column {column.name!r} of {target} is {column.type} now." for column in wider),
    )


def _check(counts: Counts, stream: Stream, spool: RejectSpool, allowance: Allowance) -> None:
    """Nothing is missing, and no more is rejected than allowed. Raises DataError."""
    if counts.read != counts.loaded + counts.rejected + counts.removed:
        raise DataError(
            f"Of {counts.read:,} rows some got lost: {counts}.", "This is a bug: please report it."
        )
    if stream.layout.rows is not None and counts.read != stream.layout.rows:
        raise DataError(
            f"The file says it has {stream.layout.rows:,} rows, but {counts.read:,} were read.",
            "Download it again.",
        )
    if not allowance.allows(counts.rejected, counts.read):
        raise DataError(
            f"{counts.rejected:,} of {counts.read:,} rows can't be represented, allowed are {allowance}; "
            f"nothing was loaded. {spool.first()}",
            "Mend the file, or allow more with --max-rejects (a number, or a share like 5%).",
        )
