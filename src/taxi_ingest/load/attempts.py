"""Tries to load a file that failed, for the ledger."""

from contextlib import suppress
from datetime import datetime
from importlib.metadata import version

from taxi_ingest.errors import DatabaseError, DataError, SourceError, TaxiIngestError
from taxi_ingest.load import migrations
from taxi_ingest.load.database import Database
from taxi_ingest.load.table import Target
from taxi_ingest.load.trust import check_ledger

ATTEMPTS_SINCE = 4
"""The ledger's first version that has attempts."""

_LONGEST_MESSAGE = 1_000

_INSERT = """
INSERT INTO taxi_ingest.attempts
    (table_schema, table_name, source, dataset, month, started_at, failed_at, exit_code, message,
     flow_run_url, tool_version)
VALUES (%(schema)s, %(table)s, %(source)s, %(dataset)s, %(month)s, %(started_at)s, clock_timestamp(),
        %(exit_code)s, %(message)s, %(flow_run_url)s, %(tool_version)s)
"""


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
    the user must know.
    """
    if not isinstance(error, SourceError | DataError | DatabaseError):
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
            cursor.execute(_INSERT, values)
