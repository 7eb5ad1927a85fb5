"""The ledger's loads, a row for each file that was loaded, in the schema `taxi_ingest` of the same database.

Written here, read by history.py; attempts.py and rejects.py have the other tables, `migrations` makes all.
"""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Literal

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from taxi_ingest import tlc
from taxi_ingest.load import migrations
from taxi_ingest.load.checks import Comparison
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.database import one
from taxi_ingest.load.history import COLUMNS, LoadRecord
from taxi_ingest.load.table import Target
from taxi_ingest.load.waiting import wait_for
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Plan

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


def make_or_upgrade(cursor: Cursor) -> None:
    """Make the ledger where it is missing, and bring an older one up to date; committed at once.

    Otherwise all first loads into a database would wait for the one that makes its ledger.
    """
    migrations.upgrade(cursor)
    cursor.connection.commit()


def lock(cursor: Cursor, target: Target, file: SourceFile, plan: Plan) -> None:
    """Wait until no one else loads this file, or another of the same month, into this table.

    By its address, by its content, by its month: always in this order, so that no two wait for each other.
    """
    whose = "|".join(target.key)
    wait_for(cursor, [f"{whose}|{file.url}", f"{whose}|{file.sha256}"], f"loading this file into {target}")
    if plan.dataset and (plan.month or tlc.dataset_named(plan.dataset).kind == "lookup"):
        what = f"{plan.dataset} {plan.month}" if plan.month else plan.dataset
        wait_for(cursor, [f"{whose}|{what}"], f"loading {what} into {target}")


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
        "notes": Json([*notes, *([comparison.note] if comparison.note else [])]),
    }
    cursor.execute(_FINISH, values)
    return LoadRecord(*one(cursor))


def end(cursor: Cursor, load_id: int, status: Literal["replaced", "undone"]) -> None:
    """Write down that a load's rows are gone."""
    cursor.execute(_END, (status, load_id))
