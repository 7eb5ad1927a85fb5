"""The ledger: one row for each file that was loaded, in the schema `taxi_ingest` of the same database."""

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from taxi_ingest.errors import DataError
from taxi_ingest.fetch import SourceFile
from taxi_ingest.load.connection import one
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.table import Target
from taxi_ingest.load.verdict import Verdict
from taxi_ingest.transform import Names, Plan

_LEDGER_LOCK = 7482916301
"""The key of the advisory lock under which the ledger is made; any number that nobody else uses."""

_CREATE = """
CREATE SCHEMA IF NOT EXISTS taxi_ingest;

CREATE TABLE IF NOT EXISTS taxi_ingest.loads (
    load_id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_schema   text NOT NULL,
    table_name     text NOT NULL,
    source         text NOT NULL,
    status         text NOT NULL CHECK (status IN ('loading', 'loaded', 'replaced')),
    sha256         text NOT NULL,
    bytes          bigint NOT NULL,
    etag           text,
    last_modified  text,
    dataset        text,
    month          text,
    rows_read      bigint,
    rows_loaded    bigint,
    rows_rejected  bigint,
    known_rows     bigint,
    verdict        text,
    quality        jsonb,
    names          text NOT NULL,
    columns        jsonb,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    flow_run_url   text,
    tool_version   text NOT NULL
);
COMMENT ON TABLE taxi_ingest.loads IS 'taxi-ingest: one row for each file that was loaded';
COMMENT ON COLUMN taxi_ingest.loads.source IS 'URL of the file, without credentials';
COMMENT ON COLUMN taxi_ingest.loads.columns IS 'name in the table -> name in the file';
COMMENT ON COLUMN taxi_ingest.loads.quality IS 'how many loaded rows are odd, by kind';
COMMENT ON COLUMN taxi_ingest.loads.verdict IS 'rows_read against known_rows';

-- A file is loaded into a table once at a time.
CREATE UNIQUE INDEX IF NOT EXISTS loads_once
    ON taxi_ingest.loads (table_schema, table_name, source) WHERE status = 'loaded';
CREATE INDEX IF NOT EXISTS loads_content
    ON taxi_ingest.loads (table_schema, table_name, sha256) WHERE status = 'loaded';

CREATE TABLE IF NOT EXISTS taxi_ingest.rejects (
    load_id      integer NOT NULL REFERENCES taxi_ingest.loads,
    number       bigint NOT NULL,
    column_name  text,
    reason       text NOT NULL,
    raw          text NOT NULL
);
CREATE INDEX IF NOT EXISTS rejects_load ON taxi_ingest.rejects (load_id);
COMMENT ON TABLE taxi_ingest.rejects IS 'taxi-ingest: rows that could not be represented, whole';
COMMENT ON COLUMN taxi_ingest.rejects.number IS 'line of a CSV (the header is 1), row of a Parquet file';
"""

_FIND = """
SELECT load_id, source, sha256, bytes, etag, last_modified, dataset, month,
       rows_read, rows_loaded, rows_rejected, known_rows, verdict, quality
FROM taxi_ingest.loads
WHERE table_schema = %(schema)s AND table_name = %(table)s AND status = 'loaded'
  AND (source = %(source)s OR sha256 = %(sha256)s)
ORDER BY source = %(source)s DESC, load_id DESC
LIMIT 1
"""

_BEGIN = """
INSERT INTO taxi_ingest.loads
    (table_schema, table_name, source, status, sha256, bytes, etag, last_modified, dataset, month,
     names, columns, started_at, flow_run_url, tool_version)
VALUES (%(schema)s, %(table)s, %(source)s, 'loading', %(sha256)s, %(bytes)s, %(etag)s, %(last_modified)s,
        %(dataset)s, %(month)s, %(names)s, %(columns)s, %(started_at)s, %(flow_run_url)s, %(tool_version)s)
RETURNING load_id
"""

_FINISH = """
UPDATE taxi_ingest.loads
SET status = 'loaded', rows_read = %(read)s, rows_loaded = %(loaded)s, rows_rejected = %(rejected)s,
    known_rows = %(known)s, verdict = %(verdict)s, quality = %(quality)s, finished_at = clock_timestamp()
WHERE load_id = %(load_id)s
"""


@dataclass(frozen=True)
class LoadRecord:
    """A file that is in a table, as the ledger has it."""

    load_id: int
    source: str
    sha256: str
    bytes: int
    etag: str | None
    last_modified: str | None
    dataset: str | None
    month: str | None
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    known_rows: int | None
    verdict: Verdict
    quality: dict[str, int]


@dataclass(frozen=True)
class TableRecord:
    """What the ledger knows of a table: the dataset of its files, and how its columns are spelled."""

    dataset: str | None
    names: Names
    load_id: int
    """Its latest load."""

    def check_dataset(self, dataset: str | None, target: Target) -> None:
        """One table, one dataset: a file put into another's table is a slip. Raises DataError."""
        if self.dataset != dataset:
            raise DataError(
                f"{target} holds files of {_described(self.dataset)}, this is one of {_described(dataset)}.",
                "Load it into another --table.",
            )


def _described(dataset: str | None) -> str:
    return f"TLC's dataset {dataset}" if dataset else "no TLC dataset"


def ensure(cursor: Cursor) -> None:
    """Make the ledger where it is missing; many at once make it once."""
    if exists(cursor):
        return
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LEDGER_LOCK,))
    if not exists(cursor):
        cursor.execute(_CREATE)


def exists(cursor: Cursor) -> bool:
    """Whether this database has a ledger."""
    cursor.execute("SELECT to_regclass('taxi_ingest.rejects') IS NOT NULL")
    return bool(one(cursor)[0])


def lock(cursor: Cursor, target: Target, source: SourceFile) -> None:
    """Wait until no one else loads this file (by its address, then by its content) into this table."""
    for what in (source.url, source.sha256):
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            ("\0".join((*target.key, what)).replace("\0", "|"),),
        )


def find(cursor: Cursor, target: Target, url: str, sha256: str | None = None) -> LoadRecord | None:
    """What the table has of the file at `url`, or else of one with the same content."""
    cursor.execute(_FIND, {"schema": target.schema, "table": target.name, "source": url, "sha256": sha256})
    row = cursor.fetchone()
    return LoadRecord(*row) if row else None


def find_table(cursor: Cursor, target: Target) -> TableRecord | None:
    """What is known of a table; None for one without loads."""
    cursor.execute(
        """
        SELECT dataset, names, load_id FROM taxi_ingest.loads
        WHERE table_schema = %s AND table_name = %s AND status = 'loaded' ORDER BY load_id DESC LIMIT 1
        """,
        target.key,
    )
    row = cursor.fetchone()
    return TableRecord(*row) if row else None


def begin(
    cursor: Cursor,
    target: Target,
    source: SourceFile,
    plan: Plan,
    started_at: datetime,
    flow_run_url: str | None,
) -> int:
    """Write the load down as begun; return its id."""
    values = {
        "schema": target.schema,
        "table": target.name,
        "source": source.url,
        "sha256": source.sha256,
        "bytes": source.bytes,
        "etag": source.etag,
        "last_modified": source.last_modified,
        "dataset": plan.dataset,
        "month": plan.month,
        "names": plan.names,
        "columns": Json({column.name: column.source for column in plan.loaded}),
        "started_at": started_at,
        "flow_run_url": flow_run_url,
        "tool_version": version("taxi-ingest"),
    }
    cursor.execute(_BEGIN, values)
    return int(one(cursor)[0])


def finish(cursor: Cursor, load_id: int, counts: Counts, known_rows: int | None, verdict: Verdict) -> None:
    """Write down what was loaded."""
    values = {
        "load_id": load_id,
        "read": counts.read,
        "loaded": counts.loaded,
        "rejected": counts.rejected,
        "known": known_rows,
        "verdict": verdict,
        "quality": Json(counts.oddities),
    }
    cursor.execute(_FINISH, values)


def mark_replaced(cursor: Cursor, load_id: int) -> None:
    """An older load whose rows are gone."""
    cursor.execute("UPDATE taxi_ingest.loads SET status = 'replaced' WHERE load_id = %s", (load_id,))
