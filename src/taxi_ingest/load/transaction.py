"""The one transaction that loads a file, and the one that takes a load's rows out again."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError
from taxi_ingest.load import history, ledger, partition, table
from taxi_ingest.load.checks import check_counts, check_month, compare
from taxi_ingest.load.connections import connections_for
from taxi_ingest.load.copy import LoadProgress
from taxi_ingest.load.database import Database
from taxi_ingest.load.decision import decide
from taxi_ingest.load.destination import TableChanged
from taxi_ingest.load.history import LoadRecord
from taxi_ingest.load.parts import Parts, remove_ownerless
from taxi_ingest.load.rejects import RejectSpool
from taxi_ingest.load.table import Target
from taxi_ingest.load.trust import check_ledger
from taxi_ingest.load.types import for_postgres
from taxi_ingest.load.waiting import patiently
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Misjudged, Stream

_ENDED = ("replaced", "undone")
"""What the ledger says of loads whose rows are gone, unless someone has attached them again."""


@dataclass(frozen=True)
class LoadResult:
    """What became of a file: its record in the ledger, and whether that was there before."""

    record: LoadRecord
    skipped: bool = False

    @property
    def status(self) -> Literal["loaded", "replaced", "skipped"]:
        """What has become of the file."""
        if self.skipped:
            return "skipped"
        return "loaded" if self.record.replaces is None else "replaced"


def load_file(
    stream: Stream,
    file: SourceFile,
    target: Target,
    database: Database,
    job: Job,
    *,
    flow_run_url: str | None = None,
    beside: int = 1,
    on_progress: Callable[[LoadProgress], None] = lambda _: None,
) -> LoadResult:
    """Load a file into a table, once, in one transaction; on any error nothing has changed.

    (The ledger, where there is none yet, is made in a transaction before it.) A file whose content the
    table already has is skipped; one that has changed since replaces its own rows. Raises DataError for
    too many rejects, for rows that are missing where that is to be verified or where most are, and for
    all that `decide` refuses; DatabaseError for what Postgres refuses; SourceError for a damaged file;
    BusyError where another loads the same and `job` is not to wait.

    After the commit, what the table has of earlier versions gets its index too (see partition.py), or a log
    line says why not.

    A large file is copied over several connections; `beside` says how many files are loaded at once.

    After a TransientDatabaseError the same call may be made again. `flow_run_url` then tells whose load
    the ledger has: where only the answer to the commit was lost, the result is the one it would have been.
    """
    stream = for_postgres(stream)
    while True:
        try:
            with database.transaction() as cursor:
                ledger.make_or_upgrade(cursor)
                remove_ownerless(cursor)
                result = _load(cursor, database, stream, file, target, job, flow_run_url, beside, on_progress)
                wanted = job.index and not result.skipped
                unindexed = partition.without_index(cursor, target, stream.plan) if wanted else []
            partition.complete_indexes(database, target, stream.plan, unindexed)
            return result
        except Misjudged as reason:
            stream = reason.corrected(stream)
        except TableChanged:
            continue


def _load(
    cursor: Cursor,
    database: Database,
    stream: Stream,
    file: SourceFile,
    target: Target,
    job: Job,
    flow_run_url: str | None,
    beside: int,
    on_progress: Callable[[LoadProgress], None],
) -> LoadResult:
    started_at = datetime.now(UTC)
    ledger.lock(cursor, target, file, stream.plan, job.wait)
    if flow_run_url and (done := history.find_run(cursor, target, file.sha256, flow_run_url)):
        # This very run has committed it before, but did not get the answer.
        return LoadResult(done)
    decision = decide(cursor, stream, file, target, job)
    if decision.destination is None:
        assert decision.known, "only a known file is skipped"
        return LoadResult(decision.known, skipped=True)
    stream, destination = decision.stream, decision.destination
    load_id = ledger.begin(cursor, target, file, stream.plan, decision.replaces, started_at, flow_run_url)
    connections = connections_for(job, stream, file, beside)
    with (
        RejectSpool(load_id) as spool,
        Parts(cursor, database, destination, load_id, connections) as parts,
    ):
        counts = parts.fill(stream, spool.add, on_progress)
        check_counts(counts, stream, spool, job.allowance)
        check_month(counts, job.month)
        spool.store(cursor)
        comparison = compare(stream, counts.read, counts.rejected, counts.oddities, decision.changed)
        comparison.check(job.verify, job.allow_short)
        file.check_unchanged()
        notes = [*stream.plan.warnings, *parts.settle(), *comparison.notes(job.verify)]
    if decision.replaces is not None:
        ledger.end(cursor, decision.replaces, "replaced")
    return LoadResult(ledger.finish(cursor, load_id, counts, comparison, notes))


@dataclass(frozen=True)
class Undone:
    """What was taken out of a table."""

    record: LoadRecord
    """The load, as it was."""
    rows: int
    """How many of its rows are gone now."""
    tables: Collection[Target]
    """Which had them."""
    detached: Mapping[Target, int] = field(default_factory=dict)
    """The tables of its rows that someone had detached before, which stay, and how many each has."""


def undo(database: Database, load_id: int) -> Undone:
    """Detach and drop a load's partitions in one transaction; the ledger keeps the fact.

    What someone else has detached is theirs, and stays. Raises UsageError for a load that there never was,
    DataError for one whose rows are gone or can't be told from others.
    """
    with database.transaction() as cursor:
        check_ledger(cursor)
        history.known_load(cursor, load_id)
        ledger.make_or_upgrade(cursor)
        return patiently(cursor, lambda: _undo(cursor, load_id))


def _undo(cursor: Cursor, load_id: int) -> Undone:
    record = history.known_load(cursor, load_id)
    holders = {record.target, *partition.attached(cursor, load_id).values()}
    for holder in sorted(holders, key=str):
        table.lock_definition(cursor, holder)
    record = history.known_load(cursor, load_id)
    _check_undoable(cursor, record)
    undone = _undone(cursor, record)
    partition.drop(cursor, load_id)
    if record.status not in _ENDED:
        ledger.end(cursor, load_id, "undone")
    return undone


def _undone(cursor: Cursor, record: LoadRecord) -> Undone:
    """What is about to be undone: of a load that is whole it is known without a look at its rows."""
    present = partition.attached(cursor, record.load_id)
    if record.status == "loaded":
        return Undone(record, record.rows_loaded, set(present.values()))
    return Undone(
        record,
        sum(table.count_rows(cursor, partition.target_of(part_id)) for part_id in present),
        set(present.values()),
        {part: table.count_rows(cursor, part) for part in partition.detached(cursor, record.load_id)},
    )


def _check_undoable(cursor: Cursor, record: LoadRecord) -> None:
    """Raise DataError unless a table has the load's rows as partitions, or some of them."""
    if partition.attached(cursor, record.load_id):
        return
    if record.status in _ENDED:
        raise DataError(
            f"Load {record.load_id} is {record.status} already: its rows are not in {record.target}.",
            "`taxi-ingest loads` tells what became of each load.",
        )
    existing = table.look_up(cursor, record.target)
    if existing and not existing.partitioned:
        raise DataError(
            f"{record.target} keeps no loads apart, so the rows of load {record.load_id} can't be told "
            "from its others.",
            "Only tables that taxi-ingest makes for trips can be undone; DELETE the rows yourself.",
        )
    detached = ", ".join(map(str, partition.detached(cursor, record.load_id)))
    raise DataError(
        f"Someone has dropped or detached the rows of load {record.load_id} from {record.target} already.",
        f"They are in {detached}: attach it again, or ingest the file again."
        if detached
        else "To have them again, ingest the file again.",
    )
