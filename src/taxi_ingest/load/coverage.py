"""Which months a table has, how the last try to load one of the others ended, and what loading them takes."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load import disagreement, history, migrations, partition
from taxi_ingest.load.database import Database, one, parse_address
from taxi_ingest.load.disagreement import Disagreement
from taxi_ingest.load.history import LoadRecord
from taxi_ingest.load.ledger import ATTEMPTS_SINCE
from taxi_ingest.load.table import Target


@dataclass(frozen=True)
class Attempt:
    """A try that failed; its fields are columns of `taxi_ingest.attempts`."""

    dataset: str
    month: str
    source: str
    failed_at: datetime
    exit_code: int
    message: str
    flow_run_url: str | None


@dataclass(frozen=True)
class Coverage:
    """What the ledger says of a dataset's months in one table."""

    loads: dict[str, LoadRecord]
    """The latest load of each month whose rows are there."""
    attempts: dict[str, Attempt]
    """The last try of each month, where it failed; what was loaded before may be there still."""
    disagreements: dict[str, list[Disagreement]] = field(default_factory=dict)
    """Of each month of which the table has other rows than the ledger says."""


_LOADED_PARTITIONS = f"""
SELECT DISTINCT ON (month) {history.COLUMNS} FROM taxi_ingest.loads
WHERE status = 'loaded' AND dataset = %(dataset)s AND month = ANY (%(months)s) AND load_id IN (
    SELECT parts.load_id
    FROM {partition.IN_TABLES} JOIN taxi_ingest.parts USING (_load_id)
    WHERE inhparent = to_regclass(%(target)s)
    GROUP BY parts.load_id
    HAVING count(*) = (
        SELECT count(*) FROM (SELECT load_id AS whole_id FROM taxi_ingest.parts) AS whole
        WHERE whole_id = parts.load_id))
ORDER BY month, load_id DESC
"""  # noqa: S608
"""From the table's partitions to the ledger, however many loads that has."""

_LOADED_PLAINLY = f"""
SELECT {history.COLUMNS} FROM unnest(%(months)s) AS wanted (wanted_month) CROSS JOIN LATERAL (
    SELECT * FROM taxi_ingest.loads
    WHERE status = 'loaded' AND dataset = %(dataset)s AND month = wanted_month
      AND is_partition IS NOT TRUE AND table_schema = %(schema)s AND table_name = %(table)s
    ORDER BY load_id DESC LIMIT 1) AS loads
WHERE (SELECT relkind FROM pg_class WHERE oid = to_regclass(%(target)s)) = 'r'
"""  # noqa: S608
"""A user's own table has no partitions."""

_FAILED = f"""
SELECT {", ".join(field.name for field in fields(Attempt))}
FROM unnest(%(months)s) AS wanted (wanted_month) CROSS JOIN LATERAL (
    SELECT * FROM taxi_ingest.attempts
    WHERE dataset = %(dataset)s AND month = wanted_month
      AND table_schema = %(schema)s AND table_name = %(table)s
    ORDER BY attempt_id DESC LIMIT 1) AS attempts
WHERE failed_at > ALL (
    SELECT finished_at FROM taxi_ingest.loads
    WHERE loads.dataset = attempts.dataset AND loads.month = attempts.month
      AND loads.table_schema = attempts.table_schema AND loads.table_name = attempts.table_name
    ORDER BY load_id DESC LIMIT 1)
"""  # noqa: S608
"""A try that was followed by a load is past, also where that load has been undone since."""


_HOLDERS = f"""
WITH RECURSIVE plain AS (
    (SELECT dataset, table_schema, table_name FROM taxi_ingest.loads
    WHERE status = 'loaded' AND is_partition IS NOT TRUE AND month IS NOT NULL AND dataset IS NOT NULL
    ORDER BY 1, 2, 3 LIMIT 1)
    UNION ALL
    SELECT following.* FROM plain CROSS JOIN LATERAL (
        SELECT dataset, table_schema, table_name FROM taxi_ingest.loads
        WHERE status = 'loaded' AND is_partition IS NOT TRUE AND month IS NOT NULL
          AND (dataset, table_schema, table_name) > (plain.dataset, plain.table_schema, plain.table_name)
        ORDER BY 1, 2, 3 LIMIT 1) AS following
)
SELECT dataset, table_schema, table_name FROM plain
WHERE (SELECT relkind FROM pg_class
    WHERE oid = to_regclass(format('%I.%I', table_schema, table_name))) = 'r'
UNION
SELECT dataset, nspname, relname
FROM {partition.IN_TABLES}
JOIN taxi_ingest.parts USING (_load_id)
JOIN taxi_ingest.loads USING (load_id)
JOIN pg_class ON pg_class.oid = inhparent
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE month IS NOT NULL AND dataset IS NOT NULL
"""  # noqa: S608
"""From the partitions to the ledger; a user's own tables are found by leaps from one to the next."""


def holders(database: Database) -> list[tuple[str, Target]]:
    """Each dataset of which months were loaded, and a table that holds them; none without a ledger."""
    with database.connect() as connection, connection.cursor() as cursor:
        if not history.exists(cursor):
            return []
        history.execute(cursor, _HOLDERS)
        return [(dataset, Target(schema, name)) for dataset, schema, name in cursor.fetchall()]


def coverage(database: Database, target: Target, dataset: str, months: Sequence[str]) -> Coverage:
    """What the ledger says of these months (`2024-01`); nothing where there is no ledger yet."""
    values: dict[str, object] = {
        "dataset": dataset,
        "months": list(months),
        "schema": target.schema,
        "table": target.name,
        "target": target.quoted_whole,
    }
    with database.connect() as connection, connection.cursor() as cursor:
        if not history.exists(cursor):
            return Coverage({}, {})
        return Coverage(
            _loads(cursor, values), _attempts(cursor, values), _disagreements(cursor, target, dataset)
        )


def _loads(cursor: Cursor, values: dict[str, object]) -> dict[str, LoadRecord]:
    found = {}
    for query in (_LOADED_PLAINLY, _LOADED_PARTITIONS):
        history.execute(cursor, query, values)
        records = [LoadRecord(*row) for row in cursor.fetchall()]
        found.update({record.month: record for record in records if record.month})
    return found


def _attempts(cursor: Cursor, values: dict[str, object]) -> dict[str, Attempt]:
    if migrations.version(cursor) < ATTEMPTS_SINCE:
        return {}
    cursor.execute(_FAILED, values)
    return {attempt.month: attempt for attempt in (Attempt(*row) for row in cursor.fetchall())}


def _disagreements(cursor: Cursor, target: Target, dataset: str) -> dict[str, list[Disagreement]]:
    found = defaultdict(list)
    for each in disagreement.find(cursor, target):
        if each.dataset == dataset and each.month:
            found[each.month].append(each)
    return found


@dataclass(frozen=True)
class Pace:
    """What loads of a dataset have taken, on the average of the latest ones.

    Time and room are told by loads of some size alone: a handful of rows costs a transaction, and fills pages
    of its own.
    """

    file_bytes_per_row: float
    rows_per_second: float | None
    table_bytes_per_row: float | None


_PACE = """
SELECT sum(bytes) / sum(rows_loaded),
       sum(rows_loaded) FILTER (WHERE telling) / sum(seconds) FILTER (WHERE telling),
       sum(size) FILTER (WHERE telling) / sum(rows_loaded) FILTER (WHERE telling)
FROM (
    SELECT bytes, rows_loaded, rows_loaded >= 10000 AS telling,
        extract(epoch FROM finished_at - started_at) AS seconds,
        (SELECT sum(pg_total_relation_size(to_regclass('taxi_ingest.load_' || _load_id)))
            FROM taxi_ingest.parts WHERE parts.load_id = loads.load_id) AS size
    FROM taxi_ingest.loads
    WHERE dataset = %s AND status = 'loaded' AND rows_loaded > 0 AND finished_at > started_at
      AND to_regclass('taxi_ingest.load_' || load_id) IS NOT NULL
    ORDER BY load_id DESC LIMIT 24) AS latest
"""


def pace(database: Database, dataset: str) -> Pace | None:
    """How fast loads of a dataset were, and how much room their rows take; None where there are none yet."""
    with database.connect() as connection, connection.cursor() as cursor:
        if not history.exists(cursor):
            return None
        history.execute(cursor, _PACE, (dataset,))
        file_bytes, rows, table_bytes = (None if fact is None else float(fact) for fact in one(cursor))
        return None if file_bytes is None else Pace(file_bytes, rows, table_bytes)


def free_bytes(database: Database) -> int | None:
    """How much room the disk of a server on this machine has; None for one elsewhere, and where it can't be
    told."""
    host = parse_address(database.address).get("host", "")
    if not (host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1")):
        return None
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'")
        row = cursor.fetchone()
    try:
        return shutil.disk_usage(row[0]).free if row else None
    except OSError:
        return None
