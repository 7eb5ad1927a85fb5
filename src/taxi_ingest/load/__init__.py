"""Arrow batches -> COPY BINARY -> partition, rejects, ledger: one transaction, all or nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.fetch import SourceFile
from taxi_ingest.load import index, ledger
from taxi_ingest.load.connection import Database, database_at
from taxi_ingest.load.copy import Counts, Progress, copy_rows
from taxi_ingest.load.decision import IfLoaded, Options, already_loaded, decide
from taxi_ingest.load.destination import TableChanged
from taxi_ingest.load.history import committed_runs, list_loads, rejects_of, write_rejects
from taxi_ingest.load.ledger import Filter, LoadRecord, Status, TableRecord
from taxi_ingest.load.preview import Preview, preview
from taxi_ingest.load.rejects import Allowance, RejectSpool, parse_allowance
from taxi_ingest.load.table import Target, parse_target
from taxi_ingest.load.undo import undo
from taxi_ingest.load.verdict import Verdict, compare
from taxi_ingest.read.csv_file import NOT_UTF8
from taxi_ingest.read.texts import SPELLINGS
from taxi_ingest.transform import Misjudged, Stream

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

    (The ledger, where there is none yet, is made in a transaction before it.) A file whose content the
    table already has is skipped; one that has changed since replaces its own rows. Raises DataError for
    too many rejects, for rows that are missing where that is to be verified or where most are, and for
    all that `decide` refuses; DatabaseError for what Postgres refuses; SourceError for a damaged file.

    After the commit, what the table has of earlier versions gets its index too (see index.py), or a log
    line says why not.

    After a TransientDatabaseError the same call may be made again. `flow_run_url` then tells whose load
    the ledger has: where only the answer to the commit was lost, the result is the one it would have been.
    """
    while True:
        try:
            with database.transaction() as cursor:
                ledger.make_or_upgrade(cursor)
                loaded = _load(cursor, stream, source, target, options, flow_run_url, on_progress)
                unindexed = [] if loaded.outcome == "skipped" else index.lacking(cursor, target, stream.plan)
            index.complete(database, target, stream.plan, unindexed)
            return loaded
        except Misjudged as reason:
            stream = reason.corrected(stream)
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
    ledger.lock(cursor, target, source, stream.plan)
    if flow_run_url and (done := ledger.find_run(cursor, target, source.sha256, flow_run_url)):
        # This very run has committed it before, but did not get the answer.
        return Load.of(done)
    decision = decide(cursor, stream, source, target, options)
    if decision.destination is None:
        assert decision.known, "only a known file is skipped"
        return Load.of(decision.known, skipped=True)
    stream, destination = decision.stream, decision.destination
    load_id = ledger.begin(cursor, target, source, stream.plan, decision.replaces, started_at, flow_run_url)
    with RejectSpool(load_id) as spool:
        into = destination.prepare(cursor, load_id)
        counts = copy_rows(cursor, into, stream, spool.add, on_progress, destination.freeze)
        _check_counts(counts, stream, spool, options.allowance)
        spool.store(cursor)
    comparison = compare(stream, counts.read, counts.rejected, counts.oddities, decision.changed)
    comparison.check(options.verify, options.allow_short)
    source.check_unchanged()
    notes = [*stream.plan.warnings, *destination.settle(cursor, load_id)]
    if options.verify and comparison.known is None and comparison.note is None:
        notes.append("Nothing was verified: no count of rows is known for this file.")
    if decision.replaces is not None:
        ledger.end(cursor, decision.replaces, "replaced")
    return Load.of(ledger.finish(cursor, load_id, counts, comparison, notes))


def _check_counts(counts: Counts, stream: Stream, spool: RejectSpool, allowance: Allowance) -> None:
    """Nothing is missing, and no more is rejected than allowed. Raises DataError, SourceError."""
    lost = counts.read - counts.loaded - counts.rejected - counts.removed
    if lost or (counts.removed and stream.step is None):
        raise DataError(
            f"Of {counts.read:,} rows some got lost: {counts}.", "This is a bug: please report it."
        )
    if stream.layout.rows is not None and counts.read != stream.layout.rows:
        raise SourceError(
            f"The file says it has {stream.layout.rows:,} rows, but {counts.read:,} were read.",
            "Download it again.",
        )
    if counts.rejected and not counts.loaded:
        # Whatever is allowed: nothing but rejects is no load.
        raise DataError(
            f"{counts.rejected:,} of {counts.read:,} rows can't be represented, and no row is left; "
            f"nothing was loaded. {spool.first()}",
            _spelling_hint(stream, spool) or "Mend the file, or look whether it is the right one.",
        )
    if not allowance.allows(counts.rejected, counts.read):
        raise DataError(
            f"{counts.rejected:,} of {counts.read:,} rows can't be represented, allowed are {allowance}; "
            f"nothing was loaded. {spool.first()}",
            f"{_spelling_hint(stream, spool)} Mend the file, or allow more with --max-rejects (a number, or "
            "a share like 5%).".lstrip(),
        )


def _spelling_hint(stream: Stream, spool: RejectSpool) -> str:
    """How the values of the first reject's column may be spelled, or the file's text encoded; empty where
    that is no question."""
    if spool.first().endswith(NOT_UTF8):
        return "Convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE (or from the encoding it has)."
    types = {column.name: column.type for column in stream.plan.loaded}
    return SPELLINGS.get(types.get(spool.first_column or "", ""), "")
