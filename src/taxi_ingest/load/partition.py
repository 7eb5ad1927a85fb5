"""The partitions of a table that hold the rows of one load, its parts, and their index on the pickup time.

A load has one part for each connection that copied it, and each has a number of its own in `_load_id`: the
first that of the load. The ledger's table `parts` tells whose each is.

By the index a question about a day or a month reads what it needs, and not seventeen years. A BRIN index
tells the first and last pickup of every few pages, which helps as TLC's files are ordered by pickup, roughly.
A stray (2008 in a file of 2021) makes its pages look as if they held all years between: the fewer there are
to a range, the less that costs. Four are enough for `minmax`. `minmax_multi`, which sees strays apart, takes
three times as long to make (benchmarks/README.md has the figures).
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load.database import Database, one
from taxi_ingest.load.locks import Lock, try_lock
from taxi_ingest.load.table import (
    LEDGER_SCHEMA,
    LOAD_ID,
    Target,
    definitions,
    lock_definition,
    lock_rows,
)
from taxi_ingest.load.waiting import patiently
from taxi_ingest.transform import Plan, PlannedColumn

_log = logging.getLogger(__name__)

_PAGES_PER_RANGE = 4

_STATISTICS_TARGET = 10
"""A look at 3,000 rows, 0.02 s; autovacuum, which counts this as no ANALYZE, later looks at more."""

# Names that Postgres gives itself have the kind behind the column: load_1_pickup_idx.
_INDEX_NAME = "load_{}_pickup"

_ASIDE = """
SELECT substring(relname FROM 9)::integer
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'taxi_ingest' AND relkind = 'r' AND relname ~ '^loading_[0-9]{1,9}$'
  AND pg_has_role(relowner, 'USAGE')
ORDER BY pg_class.oid
"""

_WITHOUT_INDEX = """
SELECT _load_id
FROM taxi_ingest.loads
JOIN taxi_ingest.parts USING (load_id)
JOIN pg_class ON oid = to_regclass('taxi_ingest.load_' || _load_id)
JOIN pg_inherits ON inhrelid = oid AND NOT inhdetachpending
WHERE status = 'loaded' AND inhparent = to_regclass(%s) AND pg_has_role(relowner, 'USAGE')
  AND to_regclass('taxi_ingest.load_' || _load_id || '_pickup') IS NULL
ORDER BY _load_id
"""

IN_TABLES = """(
    SELECT inhparent, substring(relname FROM '^load_([0-9]{1,9})$')::integer AS _load_id
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE NOT inhdetachpending AND relnamespace = to_regnamespace('taxi_ingest')) AS in_tables"""
"""The parts that tables have now, by their numbers (null for other partitions): SQL for who comes from the
tables to the ledger. By a condition on its name each part would be looked for among all of them."""

DETACHED = """(
    SELECT _load_id, load_id FROM taxi_ingest.parts
    JOIN pg_class ON pg_class.oid = to_regclass('taxi_ingest.load_' || _load_id) AND relkind = 'r'
    WHERE pg_class.oid NOT IN (SELECT inhrelid FROM pg_inherits)) AS detached"""
"""The parts that are tables by themselves, as someone has detached them, and whose they are."""

_ATTACHED = """
SELECT _load_id, nspname, relname
FROM taxi_ingest.parts
JOIN pg_inherits ON inhrelid = to_regclass('taxi_ingest.load_' || _load_id) AND NOT inhdetachpending
JOIN pg_class ON pg_class.oid = inhparent
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE load_id = %s
ORDER BY _load_id
"""


def target_of(part_id: int) -> Target:
    """The table that holds the rows of a part."""
    return Target(LEDGER_SCHEMA, f"load_{part_id}")


def aside(part_id: int) -> Target:
    """What the table is called meanwhile that is committed before its load is."""
    return Target(LEDGER_SCHEMA, f"loading_{part_id}")


def create(cursor: Cursor, columns: Sequence[PlannedColumn], part_id: int) -> None:
    """Make the partition of a table that is yet to be made.

    A partition is attached only after the copy: COPY can FREEZE into a table of its own transaction.
    The constant default puts the part's number into rows that COPY brings without it.
    """
    cursor.execute(
        sql.SQL("CREATE TABLE {} ({} DEFAULT {}, {})").format(
            target_of(part_id).sql, sql.SQL(LOAD_ID), sql.Literal(part_id), definitions(columns)
        )
    )


def create_like(cursor: Cursor, definitions: Sequence[str], part_id: int) -> None:
    """Make a partition of a table that exists, with some of its definitions; see `create`.

    Not by LIKE, which would lock that table against a replacement for as long as the copy lasts.
    """
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {partition} ({definitions});"
            "ALTER TABLE {partition} ALTER COLUMN _load_id SET DEFAULT {part_id}"
        ).format(
            partition=target_of(part_id).sql,
            definitions=sql.SQL(", ".join(definitions)),
            part_id=sql.Literal(part_id),
        )
    )


def complete(cursor: Cursor, definitions: Sequence[sql.Composable], part_id: int) -> None:
    """Add the columns that none of the rows has.

    A row that was written before takes no room for them, where one with nulls has a bit for each of its
    columns, and is slower to read (https://www.postgresql.org/docs/current/storage-page-layout.html). Which
    place a column has in a partition does not matter to its table.
    """
    if definitions:
        additions = sql.SQL(", ").join([sql.SQL("ADD COLUMN {}").format(each) for each in definitions])
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(target_of(part_id).sql, additions))


def prove(cursor: Cursor, partition: Target, part_id: int) -> None:
    """Have each row checked as it comes, so that attaching them needs no look any more.

    Of 2 million rows that is 0.05 s of their copy's 3; a look at all of them afterwards is 0.18 s, and more
    where they don't fit into the server's memory.
    """
    cursor.execute(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT _load_id_proven CHECK (_load_id = {})").format(
            partition.sql, sql.Literal(part_id)
        )
    )


def set_aside(cursor: Cursor, part_id: int) -> None:
    """Let the name of a part tell that it is none yet."""
    _rename(cursor, target_of(part_id), aside(part_id))


def take_up(cursor: Cursor, part_id: int) -> None:
    """Give it back its name, as it is about to be attached."""
    _rename(cursor, aside(part_id), target_of(part_id))


def _rename(cursor: Cursor, old: Target, new: Target) -> None:
    cursor.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(old.sql, sql.Identifier(new.name)))


def those_aside(cursor: Cursor) -> list[int]:
    """The parts that are none yet, and that we may drop."""
    cursor.execute(_ASIDE)
    return [part_id for (part_id,) in cursor.fetchall()]


def discard(cursor: Cursor, part_id: int) -> None:
    """Drop a part that is none yet, unless it has become one meanwhile."""
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(aside(part_id).sql))


def attach(cursor: Cursor, target: Target, part_id: int) -> None:
    """Make the rows of a part, which are proven to be its, part of the table."""
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {target} ATTACH PARTITION {partition} FOR VALUES IN ({part_id});"
            "ALTER TABLE {partition} DROP CONSTRAINT _load_id_proven"
        ).format(target=target.sql, partition=target_of(part_id).sql, part_id=sql.Literal(part_id))
    )


def attached(cursor: Cursor, load_id: int) -> dict[int, Target]:
    """The parts of a load that are in a table now, and in which, whatever it was called then."""
    cursor.execute(_ATTACHED, (load_id,))
    return {part_id: Target(schema, name) for part_id, schema, name in cursor.fetchall()}


def holds_whole(cursor: Cursor, target: Target, load_id: int) -> bool:
    """Whether a table has all parts of a load."""
    cursor.execute("SELECT _load_id FROM taxi_ingest.parts WHERE load_id = %s", (load_id,))
    whole = {part_id: target for (part_id,) in cursor.fetchall()}
    return attached(cursor, load_id) == whole


def detached(cursor: Cursor, load_id: int) -> list[Target]:
    """The tables that hold parts of a load and are in no table, as someone has detached them."""
    cursor.execute(f"SELECT _load_id FROM {DETACHED} WHERE load_id = %s ORDER BY 1", (load_id,))  # noqa: S608
    return [target_of(part_id) for (part_id,) in cursor.fetchall()]


def drop(cursor: Cursor, load_id: int) -> None:
    """Take the rows of a load out of its table."""
    for part_id, target in attached(cursor, load_id).items():
        _drop_part(cursor, target, part_id)


def _drop_part(cursor: Cursor, target: Target, part_id: int) -> None:
    partition = target_of(part_id).sql
    cursor.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}; DROP TABLE {}").format(target.sql, partition, partition)
    )


def renew(cursor: Cursor, parts: Mapping[int, Target], fill: Callable[[Target, Target], None]) -> None:
    """Put new tables in the place of parts: each like the old one, from which `fill` fills it.

    `parts` says in which table each is. Nobody else changes the old ones meanwhile; who reads them waits only
    while they are swapped, at the end.
    """
    for part_id in parts:
        _rewrite(cursor, part_id, fill)
    patiently(cursor, lambda: _swap_all(cursor, parts))


def _rewrite(cursor: Cursor, part_id: int, fill: Callable[[Target, Target], None]) -> None:
    old, new = target_of(part_id), _renewed(part_id)
    patiently(cursor, lambda: lock_rows(cursor, old))
    cursor.execute(
        sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES)").format(new.sql, old.sql)
    )
    prove(cursor, new, part_id)
    fill(old, new)
    name = _INDEX_NAME.format(part_id)
    if column := _indexed_column(cursor, name):
        _create_index(cursor, new, f"{name}_new", column)


def _swap_all(cursor: Cursor, parts: Mapping[int, Target]) -> None:
    for part_id, target in parts.items():
        name = _INDEX_NAME.format(part_id)
        lock_definition(cursor, target)
        _drop_part(cursor, target, part_id)
        _rename(cursor, _renewed(part_id), target_of(part_id))
        cursor.execute(
            sql.SQL("ALTER INDEX IF EXISTS {} RENAME TO {}").format(
                sql.Identifier(LEDGER_SCHEMA, f"{name}_new"), sql.Identifier(name)
            )
        )
        attach(cursor, target, part_id)


def _renewed(part_id: int) -> Target:
    """What the table is called that is about to take a part's place."""
    return Target(LEDGER_SCHEMA, f"load_{part_id}_new")


def _indexed_column(cursor: Cursor, index: str) -> str | None:
    """The column of an index of ours; None where there is no such index."""
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s)",
        (Target(LEDGER_SCHEMA, index).quoted_whole,),
    )
    row = cursor.fetchone()
    return row[0] if row else None


def table_with(cursor: Cursor, load_id: int) -> Target | None:
    """The table that a load's rows are in now, all or some of them; None where they are in none."""
    return next(iter(attached(cursor, load_id).values()), None)


def create_index(cursor: Cursor, part_id: int, plan: Plan) -> None:
    """Make a part ready for dates; nothing happens where no column is known to be the pickup.

    Without statistics the planner takes a BRIN index to be of no use, and autovacuum comes a minute later or
    never.
    """
    if column := plan.pickup:
        _create_index(cursor, target_of(part_id), _INDEX_NAME.format(part_id), column.name)


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
    """The parts of a table that lack the index, as earlier versions made none: those of our own that we may
    give one to."""
    if plan.pickup is None:
        return []
    cursor.execute(_WITHOUT_INDEX, (target.quoted_whole,))
    return [part_id for (part_id,) in cursor.fetchall()]


def complete_indexes(database: Database, target: Target, plan: Plan, part_ids: Sequence[int]) -> None:
    """Make the index of earlier parts, each in a transaction of its own, during which its rows can be read.

    What can't be had is told, and left to the next load: it is no reason for this one to fail.
    """
    if not part_ids:
        return
    _log.warning("%s: making the index on the pickup time of %s earlier loads.", target, len(part_ids))
    try:
        with database.connect() as connection:
            busy = [part_id for part_id in part_ids if not _create_index_alone(connection, part_id, plan)]
    except DatabaseError as error:
        _log.warning("%s: earlier loads are still without that index: %s", target, error)
        return
    if busy:
        _log.warning("%s: %s of them are in use; the next load makes their index.", target, len(busy))


def _create_index_alone(connection: Connection, part_id: int, plan: Plan) -> bool:
    """Make the index of one part, unless others use or drop it, or make its index themselves."""
    with connection.cursor() as cursor:
        partition = target_of(part_id).quoted_whole
        free = try_lock(cursor, Lock.INDEX, partition) and _exists(cursor, partition)
        try:
            if free:
                # Asked for once: whoever wants to write into it waits behind us.
                patiently(cursor, lambda: create_index(cursor, part_id, plan), patience_seconds=0)
        except DatabaseError:
            free = False
        connection.commit()
    return free


def _exists(cursor: Cursor, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (table,))
    return bool(one(cursor)[0])


def _has_statistics(cursor: Cursor, partition: Target, column: str) -> bool:
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_stats WHERE schemaname = %s AND tablename = %s AND attname = %s)",
        (*partition.key, column),
    )
    return bool(one(cursor)[0])
