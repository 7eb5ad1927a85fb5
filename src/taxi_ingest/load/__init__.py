"""Arrow batches -> COPY BINARY -> partition, rejects, ledger: one transaction, all or nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from psycopg2.extensions import cursor as Cursor

from taxi_ingest import tlc
from taxi_ingest.errors import DataError
from taxi_ingest.fetch import SourceFile
from taxi_ingest.load import ledger, table
from taxi_ingest.load.connection import Database, database_at
from taxi_ingest.load.copy import Counts, Progress, copy_rows
from taxi_ingest.load.destination import TableChanged, choose
from taxi_ingest.load.history import committed_runs, list_loads, rejects_of, write_rejects
from taxi_ingest.load.ledger import Filter, LoadRecord, Status, TableRecord
from taxi_ingest.load.preview import Preview, preview
from taxi_ingest.load.rejects import Allowance, RejectSpool, parse_allowance
from taxi_ingest.load.table import Target, parse_target
from taxi_ingest.load.undo import undo
from taxi_ingest.load.verdict import Verdict, judge
from taxi_ingest.transform import Stream, TooNarrow

__all__ = [
    "Allowance",
    "Database",
    "Filter",
    "History",
    "IfLoaded",
    "Load",
    "LoadRecord",
    "Options",
    "Preview",
    "Progress",
    "Status",
    "TableRecord",
    "Target",
    "Verdict",
    "already_loaded",
    "committed_runs",
    "database_at",
    "list_loads",
    "load",
    "look_back",
    "parse_allowance",
    "parse_target",
    "preview",
    "rejects_of",
    "undo",
    "write_rejects",
]

IfLoaded = Literal["skip", "replace", "fail"]

_SESSION = """
SET LOCAL tcp_keepalives_idle = 30;
SET LOCAL tcp_keepalives_interval = 10;
SET LOCAL tcp_keepalives_count = 3;
"""
"""Have the server notice when we are gone, as it holds our locks until then."""


@dataclass(frozen=True)
class Options:
    """How to load."""

    if_loaded: IfLoaded = "skip"
    allowance: Allowance = field(default_factory=Allowance)
    verify: bool = False
    """Whether fewer rows than the file is known to have abort the load."""


@dataclass(frozen=True, kw_only=True)
class Load(LoadRecord):
    """What a load did: the ledger's record of the file, and how it came about."""

    outcome: Literal["loaded", "replaced", "skipped"]

    @classmethod
    def of(cls, record: LoadRecord, skipped: bool = False) -> "Load":
        """What became of a file, by its record."""
        if skipped:
            return cls(outcome="skipped", **vars(record))
        return cls(outcome="loaded" if record.replaces is None else "replaced", **vars(record))


@dataclass(frozen=True)
class History:
    """What the ledger knows before a load."""

    file: LoadRecord | None
    """The file, if the table has it."""
    table: TableRecord | None


def look_back(database: Database, target: Target, url: str) -> History:
    """What is known of a table and of the file at `url` in it; nothing where there is no ledger yet."""
    with database.connect() as connection, connection.cursor() as cursor:
        if not ledger.exists(cursor):
            return History(None, None)
        return History(ledger.find(cursor, target, url), ledger.find_table(cursor, target))


def load(
    stream: Stream,
    source: SourceFile,
    target: Target,
    database: Database,
    options: Options,
    *,
    flow_run_url: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Load:
    """Load a file into a table, once, in one transaction; on any error nothing has changed.

    A file whose content the table already has is skipped; one that has changed since replaces its own
    rows. Raises DataError for too many rejects, for rows that are missing where that is to be
    verified, for `if_loaded="fail"` and for a table that does not fit; DatabaseError for what
    Postgres refuses; SourceError for a damaged file.

    After a TransientDatabaseError the same call may be made again. `flow_run_url` then tells whose load
    the ledger has: where only the answer to the commit was lost, the result is the one it would have been.
    """
    while True:
        try:
            with database.transaction() as cursor:
                return _load(cursor, stream, source, target, options, flow_run_url, on_progress)
        except TooNarrow as reason:
            stream = stream.with_type(reason.column, reason.type)
        except TableChanged:
            continue


def _load(
    cursor: Cursor,
    stream: Stream,
    source: SourceFile,
    target: Target,
    options: Options,
    flow_run_url: str | None,
    on_progress: Callable[[Progress], None],
) -> Load:
    started_at = datetime.now(UTC)
    cursor.execute(_SESSION)
    ledger.make_or_upgrade(cursor)
    ledger.lock(cursor, target, source)
    if _is_lookup(stream):
        table.lock_definition(cursor, target)
    previous = ledger.find(cursor, target, source.url, source.sha256)
    if previous and (done := _done_before(previous, source, target, options, flow_run_url)):
        return done

    record, existing = ledger.find_table(cursor, target), table.look_up(cursor, target)
    if record:
        record.check_dataset(stream.plan.dataset, target)
    stream = _fitted(stream, target, existing)
    replaces = _replaced_load(stream, previous, record)
    load_id = ledger.begin(cursor, target, source, stream.plan, replaces, started_at, flow_run_url)
    destination = choose(stream, target, existing, load_id, replaces)
    with RejectSpool(load_id) as spool:
        counts = copy_rows(
            cursor, destination.prepare(cursor), stream, spool.add, on_progress, destination.freeze
        )
        _check_counts(counts, stream, spool, options.allowance)
        spool.store(cursor)
    known = tlc.known_rows(stream.plan.dataset, stream.plan.month, stream.layout.format)
    verdict = judge(counts.read, known, changed=previous is not None and previous.sha256 != source.sha256)
    if options.verify and verdict == "short":
        raise _short(counts.read, known)
    source.check_unchanged()
    notes = destination.settle(cursor)
    if replaces is not None:
        ledger.end(cursor, replaces, "replaced")
    ledger.note_changes(cursor, target)
    return Load.of(ledger.finish(cursor, load_id, counts, known, verdict, [*stream.plan.warnings, *notes]))


def _done_before(
    previous: LoadRecord, source: SourceFile, target: Target, options: Options, flow_run_url: str | None
) -> Load | None:
    """What is to be said of a file that the table has; None if it is to be replaced."""
    same = previous.sha256 == source.sha256
    if same and flow_run_url and previous.flow_run_url == flow_run_url:
        # This very run has committed it before, but did not get the answer.
        return Load.of(previous)
    if options.if_loaded == "fail":
        raise already_loaded(previous, target)
    return Load.of(previous, skipped=True) if same and options.if_loaded == "skip" else None


def already_loaded(previous: LoadRecord, target: Target) -> DataError:
    """The error for a file that the table already has, for those who want one."""
    return DataError(
        f"{previous.source} is already in {target}, as load {previous.load_id}.",
        "Leave out --if-loaded fail to skip it, or use --if-loaded replace to load it anew.",
    )


def _replaced_load(stream: Stream, previous: LoadRecord | None, record: TableRecord | None) -> int | None:
    """The load whose rows go: the same file's, or for a lookup table whatever it holds."""
    if previous:
        return previous.load_id
    return record.load_id if record and _is_lookup(stream) else None


def _is_lookup(stream: Stream) -> bool:
    dataset = stream.plan.dataset
    return dataset is not None and tlc.dataset_named(dataset).kind == "lookup"


def _short(read: int, known: int | None) -> DataError:
    return DataError(
        f"The file has {read:,} rows, but TLC's is known to have {known:,}; nothing was loaded.",
        "Fetch the file again; without --verify it is loaded as it is.",
    )


def _fitted(stream: Stream, target: Target, existing: table.ExistingTable | None) -> Stream:
    """The stream with the types that the table's columns already have, where those are wide enough."""
    if existing is None:
        return stream
    for column in stream.plan.loaded:
        has = existing.columns.get(column.name, column.type)
        widens = existing.partitioned and table.is_wider(column.type, than=has)
        if has != column.type and not widens:
            table.check_loadable(target, column, has)
        if not widens:
            # Values for which a user's own column would have to be widened are rejected.
            stream = stream.with_type(column.name, has, final=not existing.partitioned)
    return stream


def _check_counts(counts: Counts, stream: Stream, spool: RejectSpool, allowance: Allowance) -> None:
    """Nothing is missing, and no more is rejected than allowed. Raises DataError."""
    lost = counts.read - counts.loaded - counts.rejected - counts.removed
    if lost or (counts.removed and stream.step is None):
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
