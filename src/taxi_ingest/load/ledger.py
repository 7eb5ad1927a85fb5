"""The ledger as it is written: a row for each file that was loaded, one for each try that failed.

It lies in the schema `taxi_ingest` of the same database; `migrations` makes its tables, rejects.py fills that
of the rejects, history.py and coverage.py read.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from typing import Literal

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from taxi_ingest import tlc
from taxi_ingest.errors import DatabaseError, DataError, InconsistentError, SourceError, TaxiIngestError
from taxi_ingest.load import migrations
from taxi_ingest.load.checks import Comparison
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.database import Database, one
from taxi_ingest.load.history import COLUMNS, LoadRecord
from taxi_ingest.load.table import Target
from taxi_ingest.load.trust import check_ledger
from taxi_ingest.load.waiting import wait_for
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Plan

ATTEMPTS_SINCE = 4
"""The ledger's first version that has attempts."""

_LONGEST_MESSAGE = 1_000

_BEGIN = """
INSERT INTO taxi_ingest.loads
    (table_schema, table_name, source, status, sha256, bytes, etag, last_modified, dataset, month,
     names, columns, replaces, started_at, flow_run_url, tool_version)
VALUES (%(schema)s, %(table)s, %(source)s, 'loading', %(sha256)s, %(bytes)s, %(etag)s, %(last_modified)s,
        %(dataset)s, %(month)s, %(names)s, %(columns)s, %(replaces)s, %(started_at)s, %(flow_run_url)s,
        %(tool_version)s)
RETURNING load_id
"""

_FINISH = f"""
UPDATE taxi_ingest.loads
SET status = 'loaded', rows_read = %(read)s, rows_loaded = %(loaded)s, rows_rejected = %(rejected)s,
    known_rows = %(known)s, verdict = %(verdict)s, quality = %(quality)s, notes = %(notes)s,
    is_partition = to_regclass('taxi_ingest.load_' || load_id) IS NOT NULL,
    finished_at = clock_timestamp()
WHERE load_id = %(load_id)s
RETURNING {COLUMNS}
"""  # noqa: S608

_END = "UPDATE taxi_ingest.loads SET status = %s, ended_at = clock_timestamp() WHERE load_id = %s"

_NOTE_ATTEMPT = """
INSERT INTO taxi_ingest.attempts
    (table_schema, table_name, source, dataset, month, started_at, failed_at, exit_code, message,
     flow_run_url, tool_version)
VALUES (%(schema)s, %(table)s, %(source)s, %(dataset)s, %(month)s, %(started_at)s, clock_timestamp(),
        %(exit_code)s, %(message)s, %(flow_run_url)s, %(tool_version)s)
"""


def make_or_upgrade(cursor: Cursor) -> None:
    """Make the ledger where it is missing, and bring an older one up to date; committed at once.

    Otherwise all first loads into a database would wait for the one that makes its ledger.
    """
    migrations.upgrade(cursor)
    cursor.connection.commit()


def lock(cursor: Cursor, target: Target, file: SourceFile, plan: Plan, wait: bool) -> None:
    """Wait until no one else loads this file, or another of the same month, into this table.

    By its address, by its content, by its month: always in this order, so that no two wait for each other.
    Raises BusyError where somebody has one of them and we are not to `wait`.
    """
    whose = "|".join(target.key)
    doing = f"loading this file into {target}"
    wait_for(cursor, [f"{whose}|{file.url}", f"{whose}|{file.sha256}"], doing, wait)
    if plan.dataset and (plan.month or tlc.dataset_named(plan.dataset).kind == "lookup"):
        what = f"{plan.dataset} {plan.month}" if plan.month else plan.dataset
        wait_for(cursor, [f"{whose}|{what}"], f"loading {what} into {target}", wait)


def begin(
    cursor: Cursor,
    target: Target,
    file: SourceFile,
    plan: Plan,
    replaces: int | None,
    started_at: datetime,
    flow_run_url: str | None,
) -> int:
    """Write the load down as begun; return its id."""
    values = {
        "schema": target.schema,
        "table": target.name,
        "source": file.url,
        "sha256": file.sha256,
        "bytes": file.bytes,
        "etag": file.validators.etag,
        "last_modified": file.validators.last_modified,
        "dataset": plan.dataset,
        "month": plan.month,
        "names": plan.names,
        "columns": Json({column.name: column.source for column in plan.loaded}),
        "replaces": replaces,
        "started_at": started_at,
        "flow_run_url": flow_run_url,
        "tool_version": version("taxi-ingest"),
    }
    cursor.execute(_BEGIN, values)
    return int(one(cursor)[0])


def note_parts(cursor: Cursor, load_id: int, part_ids: Sequence[int]) -> None:
    """Write down by which numbers the load's rows are known in its table."""
    cursor.execute(
        "INSERT INTO taxi_ingest.parts (_load_id, load_id) SELECT unnest(%s), %s", (list(part_ids), load_id)
    )


def finish(
    cursor: Cursor,
    load_id: int,
    counts: Counts,
    comparison: Comparison,
    notes: Sequence[str],
) -> LoadRecord:
    """Write down what was loaded; return the whole record."""
    values = {
        "load_id": load_id,
        "read": counts.read,
        "loaded": counts.loaded,
        "rejected": counts.rejected,
        "known": comparison.known,
        "verdict": comparison.verdict,
        "quality": Json(counts.oddities),
        "notes": Json(list(notes)),
    }
    cursor.execute(_FINISH, values)
    return LoadRecord(*one(cursor))


def end(cursor: Cursor, load_id: int, status: Literal["replaced", "undone"]) -> None:
    """Write down that a load's rows are gone."""
    cursor.execute(_END, (status, load_id))


def prepare_ledger(database: Database) -> None:
    """Make the ledger, or bring it up to date, before loads begin whose failures it is to keep."""
    with database.transaction() as cursor:
        make_or_upgrade(cursor)


def note_attempt(
    database: Database,
    error: TaxiIngestError,
    *,
    target: Target,
    source: str,
    started_at: datetime,
    dataset: str | None = None,
    month: str | None = None,
    flow_run_url: str | None = None,
) -> None:
    """Write down that a try failed, in a transaction of its own; `source` is the file's canonical URL.

    Only what the source, the data or the database are to blame for, and only into a ledger that is there
    and up to date: a failure makes and alters nothing. What can't be written is left, as `error` is what
    the user must know. Where table and ledger disagree is looked up for as long as it lasts, and not noted.
    """
    if not isinstance(error, SourceError | DataError | DatabaseError) or isinstance(error, InconsistentError):
        return
    values = {
        "schema": target.schema,
        "table": target.name,
        "source": source,
        "dataset": dataset,
        "month": month,
        "started_at": started_at,
        "exit_code": error.exit_code,
        "message": str(error)[:_LONGEST_MESSAGE],
        "flow_run_url": flow_run_url,
        "tool_version": version("taxi-ingest"),
    }
    with suppress(Exception), database.transaction() as cursor:
        check_ledger(cursor)
        if migrations.version(cursor) >= ATTEMPTS_SINCE:
            cursor.execute(_NOTE_ATTEMPT, values)
