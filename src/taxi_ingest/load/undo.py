"""Taking a load's rows out again."""

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError
from taxi_ingest.load import ledger, partition, table
from taxi_ingest.load.database import Database
from taxi_ingest.load.history import LoadRecord, known_load
from taxi_ingest.load.table import Target
from taxi_ingest.load.trust import check_ledger
from taxi_ingest.load.waiting import patiently


def undo(database: Database, load_id: int) -> LoadRecord:
    """Detach and drop a load's partition in one transaction; the ledger keeps the fact.

    Returns the load as it was. Raises UsageError for a load that there never was, DataError for one whose
    rows are gone or can't be told from others.
    """
    with database.transaction() as cursor:
        check_ledger(cursor)
        return patiently(cursor, lambda: _undo(cursor, load_id))


def _undo(cursor: Cursor, load_id: int) -> LoadRecord:
    table.lock_definition(cursor, known_load(cursor, load_id).target)
    record = known_load(cursor, load_id)
    partition.drop(cursor, _holder(cursor, record), load_id)
    ledger.end(cursor, load_id, "undone")
    return record


def _holder(cursor: Cursor, record: LoadRecord) -> Target:
    """The table that has the load's rows as a partition. Raises DataError."""
    if record.status in ("replaced", "undone"):
        raise DataError(
            f"Load {record.load_id} is {record.status} already: its rows are not in {record.target}.",
            "`taxi-ingest loads` tells what became of each load.",
        )
    if holder := partition.table_with(cursor, record.load_id):
        return holder
    existing = table.look_up(cursor, record.target)
    if existing and not existing.partitioned:
        raise DataError(
            f"{record.target} keeps no loads apart, so the rows of load {record.load_id} can't be told "
            "from its others.",
            "Only tables that taxi-ingest makes for trips can be undone; DELETE the rows yourself.",
        )
    raise DataError(
        f"Someone has dropped or detached the rows of load {record.load_id} from {record.target} already.",
        "To have them again, ingest the file again.",
    )
