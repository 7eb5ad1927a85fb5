"""What is to become of a file, and with which types: decided here, for the load and for the dry run alike."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError
from taxi_ingest.load import disagreement, history, table
from taxi_ingest.load.database import Database
from taxi_ingest.load.destination import Destination, choose, is_lookup
from taxi_ingest.load.history import LoadRecord, LookBack, TableRecord
from taxi_ingest.load.table import ExistingTable, Target
from taxi_ingest.load.trust import check_table
from taxi_ingest.load.types import is_widening, name_of, type_named
from taxi_ingest.read.texts import DECIMAL
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import PlannedColumn, Stream


@dataclass(frozen=True)
class Decision:
    """To load a file, and how; or to skip it."""

    stream: Stream
    """With the types that the table's columns have."""
    existing: ExistingTable | None
    destination: Destination | None
    """None for a file that is skipped."""
    known: LoadRecord | None
    """The file, if the table has it."""
    replaces: int | None
    """The load whose rows it replaces."""
    changed: bool
    """Whether its address had other content before."""

    @property
    def action(self) -> Literal["load", "skip", "replace"]:
        """What is to be done with the file."""
        if self.destination is None:
            return "skip"
        return "load" if self.replaces is None else "replace"


def look_back(database: Database, target: Target, url: str) -> LookBack:
    """What is known of a table and of the file at `url` in it; nothing where there is no ledger yet.

    Raises InconsistentError where table and ledger disagree about that file, DatabaseError where there is no
    table, and none can be made.
    """
    with database.connect() as connection, connection.cursor() as cursor:
        table.check_place(cursor, target)
        if not history.exists(cursor):
            return LookBack(None, None)
        known = history.find(cursor, target, url)
        if known:
            disagreement.check_none(cursor, target, url, known.sha256, known.dataset, known.month)
        return LookBack(known, history.find_table(cursor, target))


def decide(cursor: Cursor, stream: Stream, file: SourceFile, target: Target, job: Job) -> Decision:
    """Look at the table and the ledger, and decide; change nothing.

    Raises DataError where the file is refused: it is there already and should not be, its month is there
    from elsewhere, table and ledger disagree about it, or the table can't take it.
    """
    has_ledger = history.exists(cursor)
    plan = stream.plan
    disagreement.check_none(cursor, target, file.url, file.sha256, plan.dataset, plan.month)
    known = history.find(cursor, target, file.url, file.sha256) if has_ledger else None
    record = history.find_table(cursor, target) if has_ledger else None
    existing = table.look_up(cursor, target)
    if known and job.if_loaded == "fail":
        raise already_loaded(known, target)
    if known and known.sha256 == file.sha256 and job.if_loaded == "skip":
        return Decision(stream, existing, None, known, None, changed=False)
    changed = known is not None and known.sha256 != file.sha256
    if known and changed and not job.keep_both:
        _check_not_there(cursor, file, target, known)
    if record:
        record.check_dataset(plan.dataset, target)
    replaces = known.load_id if known else _replaced(cursor, stream, file, target, record, job)
    stream = _fitted(stream, target, existing)
    check_table(cursor, target)
    destination = choose(cursor, stream, target, existing, replaces, job.index)
    destination.check(cursor)
    return Decision(stream, existing, destination, known, replaces, changed)


def already_loaded(previous: LoadRecord, target: Target) -> DataError:
    """The error for a file that the table already has, for those who want one."""
    return DataError(
        f"{previous.source} is already in {target}, as load {previous.load_id}.",
        "Leave out --if-loaded fail to skip it, or use --if-loaded replace to load it anew.",
    )


def _check_not_there(cursor: Cursor, file: SourceFile, target: Target, known: LoadRecord) -> None:
    """Refuse a file that has turned into what the table has from another address: it would be there twice."""
    if twin := history.find(cursor, target, None, file.sha256):
        raise DataError(
            f"{target} has the content that {file.url} has now already, as load {twin.load_id} from "
            f"{twin.source}; what it had before is load {known.load_id}.",
            f"`taxi-ingest undo {known.load_id}`: it counts as loaded then; or load it too: --keep-both.",
        )


def _replaced(
    cursor: Cursor,
    stream: Stream,
    file: SourceFile,
    target: Target,
    record: TableRecord | None,
    job: Job,
) -> int | None:
    """The load that a file replaces which is new to the table: a lookup's last, a month's from elsewhere."""
    plan = stream.plan
    if record is None or plan.dataset is None:
        return None
    if is_lookup(plan):
        return record.load_id
    others = history.find_month(cursor, target, plan.dataset, plan.month) if plan.month else []
    if not others or job.keep_both:
        return None
    if job.if_loaded == "replace" and len(others) == 1:
        return others[0].load_id
    raise _elsewhere(others, file, target, f"{plan.dataset} {plan.month}")


def _elsewhere(others: list[LoadRecord], file: SourceFile, target: Target, month: str) -> DataError:
    loads = ", ".join(f"load {other.load_id} from {other.source}" for other in others)
    message = f"{target} has {month} already: {loads}. This one, from {file.url}, has other content."
    if len(others) > 1:
        return DataError(message, "`taxi-ingest undo` those that it replaces, or load it too: --keep-both.")
    return DataError(
        message,
        "Replace that load: --if-loaded replace (`backfill`: --reprocess all); or load this one too: "
        "--keep-both.",
    )


def _fitted(stream: Stream, target: Target, existing: ExistingTable | None) -> Stream:
    """The stream with the types that the table's columns already have, where those are wide enough."""
    if existing is None:
        return stream
    for column in stream.plan.loaded:
        if column.name not in existing.columns:
            continue
        has = _stored_type(target, existing, column)
        # Text that is only guessed may come from words for no value, or from one number of many digits.
        needs_more = is_widening(has, column.type) and not (column.guessed and column.type == pa.string())
        if existing.partitioned and needs_more:
            continue
        if existing.partitioned and _adds_decimals(column, has):
            stream = stream.with_type(column.name, DECIMAL)
            continue
        # Values for which a user's own column would have to be widened are rejected.
        stream = stream.with_stored_type(column.name, has, final=not existing.partitioned)
    return stream


def _adds_decimals(column: PlannedColumn, has: pa.DataType) -> bool:
    """Whether the first rows have decimals for a column of whole numbers. What becomes of it is known before
    all rows are read, as a view on it may forbid that."""
    return column.guessed and column.type == pa.float64() and is_widening(has, DECIMAL)


def _stored_type(target: Target, existing: ExistingTable, column: PlannedColumn) -> pa.DataType:
    """The type of the table's column. Raises DataError for one that the file's values can't be put into."""
    name = existing.columns[column.name]
    if (type := type_named(name)) is None:
        raise DataError(
            f"Column {column.name!r} of {target} has the type {name}, the file's has {name_of(column.type)}.",
            "Load into another --table, or change the column's type first.",
        )
    return type
