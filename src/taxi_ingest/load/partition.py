"""The partition of a table that holds the rows of one load, and its index on the pickup time.

By that a question about a day or a month reads what it needs, and not seventeen years. A BRIN index tells the
first and last pickup of every few pages, which helps as TLC's files are ordered by pickup, roughly. A stray
(2008 in a file of 2021) makes its pages look as if they held all years between: the fewer there are to a
range, the less that costs. Four are enough for `minmax`. `minmax_multi`, which sees strays apart, takes three
times as long to make (benchmarks/README.md has the figures).
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load.database import Database, one
from taxi_ingest.load.locks import Lock, try_lock
from taxi_ingest.load.table import (
    LEDGER_SCHEMA,
    LOAD_ID,
    ExistingTable,
    Target,
    definitions,
    lock_definition,
    lock_rows,
)
from taxi_ingest.load.waiting import patiently
from taxi_ingest.transform import Plan, PlannedColumn

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

_PAGES_PER_RANGE = 4

_STATISTICS_TARGET = 10
"""A look at 3,000 rows, 0.02 s; autovacuum, which counts this as no ANALYZE, later looks at more."""

# Names that Postgres gives itself have the kind behind the column: load_1_pickup_idx.
_INDEX_NAME = "load_{}_pickup"

_WITHOUT_INDEX = """
SELECT load_id
FROM taxi_ingest.loads
JOIN pg_class ON oid = to_regclass('taxi_ingest.load_' || load_id)
JOIN pg_inherits ON inhrelid = oid AND NOT inhdetachpending
WHERE status = 'loaded' AND inhparent = to_regclass(%s) AND pg_has_role(relowner, 'USAGE')
  AND to_regclass('taxi_ingest.load_' || load_id || '_pickup') IS NULL
ORDER BY load_id
"""


def target_of(load_id: int) -> Target:
    """The table that holds the rows of a load."""
    return Target(LEDGER_SCHEMA, f"load_{load_id}")


def create(cursor: Cursor, columns: Sequence[PlannedColumn], load_id: int) -> None:
    """Make the partition of a table that is yet to be made.

    A partition is attached only after the copy: COPY can FREEZE into a table of its own transaction.
    The constant default puts the load's id into rows that COPY brings without it.
    """
    cursor.execute(
        sql.SQL("CREATE TABLE {} ({} DEFAULT {}, {})").format(
            target_of(load_id).sql, sql.SQL(LOAD_ID), sql.Literal(load_id), definitions(columns)
        )
    )


def create_like(cursor: Cursor, existing: ExistingTable, load_id: int) -> None:
    """Make a partition of a table that exists; see `create`.

    Not by LIKE, which would lock that table against a replacement for as long as the copy lasts.
    """
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {partition} ({definitions});"
            "ALTER TABLE {partition} ALTER COLUMN _load_id SET DEFAULT {load_id}"
        ).format(
            partition=target_of(load_id).sql,
            definitions=sql.SQL(", ".join(existing.definitions)),
            load_id=sql.Literal(load_id),
        )
    )


def prove(cursor: Cursor, partition: Target, load_id: int) -> None:
    """Have all rows looked at (0.08 s for 1.4 million), so that attaching them needs no look any more.

    A constraint that is there from the start would cost 0.2 s while copying.
    """
    cursor.execute(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT _load_id_proven CHECK (_load_id = {})").format(
            partition.sql, sql.Literal(load_id)
        )
    )


def attach(cursor: Cursor, target: Target, load_id: int) -> None:
    """Make the load's rows, which are proven to be its, part of the table."""
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {target} ATTACH PARTITION {partition} FOR VALUES IN ({load_id});"
            "ALTER TABLE {partition} DROP CONSTRAINT _load_id_proven"
        ).format(target=target.sql, partition=target_of(load_id).sql, load_id=sql.Literal(load_id))
    )


def drop(cursor: Cursor, target: Target, load_id: int) -> None:
    """Take the rows of a load out of the table."""
    partition = target_of(load_id).sql
    cursor.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}; DROP TABLE {}").format(target.sql, partition, partition)
    )


def renew(cursor: Cursor, target: Target, load_id: int, fill: Callable[[Target, Target], Result]) -> Result:
    """Put a new table in the place of a load's partition: one like it, which `fill` fills from the old one.

    Nobody else changes the old one meanwhile; who reads it waits only while they are swapped, at the end.
    """
    old, new = target_of(load_id), Target(LEDGER_SCHEMA, f"load_{load_id}_new")
    patiently(cursor, lambda: lock_rows(cursor, old))
    cursor.execute(
        sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES)").format(new.sql, old.sql)
    )
    result = fill(old, new)
    prove(cursor, new, load_id)
    name = _INDEX_NAME.format(load_id)
    column = _indexed_column(cursor, name)
    if column:
        _create_index(cursor, new, f"{name}_new", column)

    def swap() -> None:
        lock_definition(cursor, target)
        drop(cursor, target, load_id)
        cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new.sql, sql.Identifier(old.name)))
        if column:
            index = sql.Identifier(LEDGER_SCHEMA, f"{name}_new")
            cursor.execute(sql.SQL("ALTER INDEX {} RENAME TO {}").format(index, sql.Identifier(name)))
        attach(cursor, target, load_id)

    patiently(cursor, swap)
    return result


def _indexed_column(cursor: Cursor, index: str) -> str | None:
    """The column of an index of ours; None where there is no such index."""
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s)",
        (Target(LEDGER_SCHEMA, index).quoted_whole,),
    )
    row = cursor.fetchone()
    return row[0] if row else None


def table_with(cursor: Cursor, load_id: int) -> Target | None:
    """The table that a load's rows are a partition of now, whatever it was called then."""
    cursor.execute(
        """
        SELECT namespace.nspname, class.relname
        FROM pg_inherits
        JOIN pg_class class ON class.oid = inhparent
        JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
        WHERE inhrelid = to_regclass(%s) AND NOT inhdetachpending
        """,
        (target_of(load_id).quoted_whole,),
    )
    row = cursor.fetchone()
    return Target(*row) if row else None


def create_index(cursor: Cursor, load_id: int, plan: Plan) -> None:
    """Make a load's partition ready for dates; nothing happens where no column is known to be the pickup.

    Without statistics the planner takes a BRIN index to be of no use, and autovacuum comes a minute later or
    never.
    """
    if column := _pickup(plan):
        _create_index(cursor, target_of(load_id), _INDEX_NAME.format(load_id), column)


def _create_index(cursor: Cursor, partition: Target, name: str, column: str) -> None:
    cursor.execute(
        sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING brin ({}) WITH (pages_per_range = {})").format(
            sql.Identifier(name),
            partition.sql,
            sql.Identifier(column),
            sql.Literal(_PAGES_PER_RANGE),
        )
    )
    if not _has_statistics(cursor, partition, column):
        cursor.execute(
            sql.SQL("SET LOCAL default_statistics_target = {}; ANALYZE {} ({})").format(
                sql.Literal(_STATISTICS_TARGET), partition.sql, sql.Identifier(column)
            )
        )


def without_index(cursor: Cursor, target: Target, plan: Plan) -> list[int]:
    """The loads of a table whose partitions lack the index, as earlier versions made none: those of our own
    that we may give one to."""
    if _pickup(plan) is None:
        return []
    cursor.execute(_WITHOUT_INDEX, (target.quoted_whole,))
    return [load_id for (load_id,) in cursor.fetchall()]


def complete_indexes(database: Database, target: Target, plan: Plan, load_ids: Sequence[int]) -> None:
    """Make the index of earlier loads, each in a transaction of its own, during which its rows can be read.

    What can't be had is told, and left to the next load: it is no reason for this one to fail.
    """
    if not load_ids:
        return
    _log.warning("%s: making the index on the pickup time of %s earlier loads.", target, len(load_ids))
    try:
        with database.connect() as connection:
            busy = [load_id for load_id in load_ids if not _create_index_alone(connection, load_id, plan)]
    except DatabaseError as error:
        _log.warning("%s: earlier loads are still without that index: %s", target, error)
        return
    if busy:
        _log.warning("%s: %s of them are in use; the next load makes their index.", target, len(busy))


def _create_index_alone(connection: Connection, load_id: int, plan: Plan) -> bool:
    """Make the index of one load, unless others use or drop it, or make its index themselves."""
    with connection.cursor() as cursor:
        partition = target_of(load_id).quoted_whole
        free = try_lock(cursor, Lock.INDEX, partition) and _exists(cursor, partition)
        try:
            if free:
                # Asked for once: whoever wants to write into it waits behind us.
                patiently(cursor, lambda: create_index(cursor, load_id, plan), patience_seconds=0)
        except DatabaseError:
            free = False
        connection.commit()
    return free


def _exists(cursor: Cursor, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
    return bool(one(cursor)[0])


def _pickup(plan: Plan) -> str | None:
    """What the table calls the column of the trip's start."""
    return next((column.name for column in plan.columns if column.snake == "pickup_datetime"), None)


def _has_statistics(cursor: Cursor, partition: Target, column: str) -> bool:
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_stats WHERE schemaname = %s AND tablename = %s AND attname = %s)",
        (*partition.key, column),
    )
    return bool(one(cursor)[0])
