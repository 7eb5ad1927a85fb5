"""The ledger as a tool: which loads there are, and what they rejected."""

from dataclasses import dataclass
from typing import BinaryIO

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import UsageError
from taxi_ingest.load import ledger
from taxi_ingest.load.database import Database
from taxi_ingest.load.ledger import Filter, LoadRecord, TableRecord
from taxi_ingest.load.table import Target
from taxi_ingest.read import Reject


@dataclass(frozen=True)
class LookBack:
    """What the ledger knows before a load."""

    file: LoadRecord | None
    """The file, if the table has it."""
    table: TableRecord | None


def look_back(database: Database, target: Target, url: str) -> LookBack:
    """What is known of a table and of the file at `url` in it; nothing where there is no ledger yet."""
    with database.connect() as connection, connection.cursor() as cursor:
        if not ledger.exists(cursor):
            return LookBack(None, None)
        return LookBack(ledger.find(cursor, target, url), ledger.find_table(cursor, target))


def list_loads(database: Database, wanted: Filter) -> list[LoadRecord]:
    """The loads that fit the filter, oldest first; none where there is no ledger yet."""
    with database.connect() as connection, connection.cursor() as cursor:
        return ledger.list_loads(cursor, wanted) if ledger.exists(cursor) else []


def committed_runs(database: Database, flow_run_urls: list[str]) -> set[str]:
    """Those of the flow runs whose load was committed."""
    with database.connect() as connection, connection.cursor() as cursor:
        if not ledger.exists(cursor):
            return set()
        cursor.execute(
            "SELECT flow_run_url FROM taxi_ingest.loads WHERE flow_run_url = ANY(%s)", (flow_run_urls,)
        )
        return {url for (url,) in cursor.fetchall()}


def rejects_of(database: Database, load_id: int, limit: int) -> list[Reject]:
    """The first rejects of a load. Raises UsageError for a load that there never was."""
    with database.connect() as connection, connection.cursor() as cursor:
        known_load(cursor, load_id)
        cursor.execute(
            "SELECT number, column_name, reason, raw FROM taxi_ingest.rejects "
            "WHERE load_id = %s ORDER BY number LIMIT %s",
            (load_id, limit),
        )
        return [Reject(*row) for row in cursor.fetchall()]


def write_rejects(database: Database, load_id: int, file: BinaryIO) -> None:
    """Write all rejects of a load as CSV. Raises UsageError for a load that there never was."""
    with database.connect() as connection, connection.cursor() as cursor:
        known_load(cursor, load_id)
        query = sql.SQL(
            "COPY (SELECT number, column_name, reason, raw FROM taxi_ingest.rejects "
            "WHERE load_id = {} ORDER BY number) TO STDOUT (FORMAT csv, HEADER)"
        )
        cursor.copy_expert(query.format(sql.Literal(load_id)), file)


def known_load(cursor: Cursor, load_id: int) -> LoadRecord:
    """A load by its number. Raises UsageError for one that there never was."""
    record = ledger.find_load(cursor, load_id) if ledger.exists(cursor) else None
    if record is None:
        raise UsageError(f"There is no load {load_id}.", "`taxi-ingest loads` lists them.")
    return record
