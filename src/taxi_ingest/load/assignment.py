"""The taxi zones of trips whose files have coordinates only, in columns of their own.

A load's partition is written anew, with the zones, and takes the old one's place in the same transaction. An
UPDATE would leave it twice as large, for good, as nothing else is ever put into it. What finds the zone of a
point is the caller's: here it is only asked.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from taxi_ingest import tlc
from taxi_ingest.errors import DataError
from taxi_ingest.load import history, ledger, partition, table
from taxi_ingest.load.database import Database, one
from taxi_ingest.load.table import Target
from taxi_ingest.load.trust import check_ledger, check_table
from taxi_ingest.load.waiting import patiently, wait_for
from taxi_ingest.transform.quality import DROPOFF_IN_NO_ZONE, PICKUP_IN_NO_ZONE

COLUMNS = ("assigned_pickup_zone", "assigned_dropoff_zone")
"""Never TLC's own PULocationID and DOLocationID."""

_MEANINGS = ("Taxi zone of the pickup's coordinates", "Taxi zone of the drop-off's coordinates")
_TYPE = "integer"
_COUNTED = (PICKUP_IN_NO_ZONE, DROPOFF_IN_NO_ZONE)
"""What the ledger calls, in a load's quality, the trips whose point lies in no zone."""

_POINTS = (("pickup_longitude", "pickup_latitude"), ("dropoff_longitude", "dropoff_latitude"))
"""Spelled alike in every spelling of names."""

_NUMBER = "_row of taxi_ingest"
"""A name that no other column has."""

_PAGES_AT_A_TIME = 4096
"""32 MB of a table: a quarter of a million trips."""

_HEADER_BYTES, _TRAILER_BYTES = 19, 2
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(
            field
            for point in _POINTS
            for name in point
            for field in ((f"{name}_bytes", ">i4"), (name, ">f8"))
        ),
    ]
)
"""A row of COPY BINARY without nulls
(https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT)."""

Degrees = npt.NDArray[np.float64]
Zones = npt.NDArray[np.int16]
Locate = Callable[[Degrees, Degrees], Zones]
"""From longitudes and latitudes (NaN where there is none) to zones, 0 where there is none."""

# The columns that the file had, by the names that its table has for them.
_WAITING = """
SELECT load_id FROM taxi_ingest.loads
-- The first of its parts.
JOIN pg_class ON pg_class.oid = to_regclass('taxi_ingest.load_' || load_id)
JOIN pg_inherits ON inhrelid = pg_class.oid AND NOT inhdetachpending
-- Older ledgers have no such column as assigned_by.
CROSS JOIN LATERAL (SELECT (to_jsonb(loads) ->> 'assigned_by')::integer AS assigned_by) AS outlines
WHERE status = 'loaded' AND dataset IS NOT NULL AND columns ?& %(points)s AND NOT columns ?| %(zones)s
  AND (outlines.assigned_by IS NULL OR outlines.assigned_by <> %(outlines)s)
  AND load_id = coalesce(%(load)s, load_id)
  AND inhparent = coalesce(to_regclass(%(table)s)::oid, inhparent)
ORDER BY dataset, month, load_id
"""


@dataclass(frozen=True)
class Outlines:
    """The zones' outlines that a table has."""

    load_id: int
    """The load that they came with."""
    texts: dict[int, str]
    """Zone -> well-known text."""


@dataclass(frozen=True)
class Assignment:
    """What was done with the trips of one load."""

    load_id: int
    table: str
    dataset: str | None
    month: str | None
    rows: int
    pickup_in_no_zone: int
    dropoff_in_no_zone: int


def outlines_in(database: Database, target: Target) -> Outlines:
    """The outlines in a table. Raises DataError where it has none."""
    with database.transaction() as cursor:
        check_ledger(cursor)
        record = history.find_table(cursor, target) if history.exists(cursor) else None
        existing = table.look_up(cursor, target)
        if record is None or existing is None or "wkt" not in existing.columns:
            raise DataError(
                f"{target} has no outlines of zones.",
                "`taxi-ingest zones` loads them where the mirror has them; --shapes FILE names others.",
            )
        cursor.execute(
            sql.SQL("SELECT {}, wkt FROM {}").format(sql.Identifier(next(iter(existing.columns))), target.sql)
        )
        return Outlines(record.load_id, dict(cursor.fetchall()))


def loads_to_assign(database: Database, outlines: Outlines) -> list[int]:
    """The loads, by month, of coordinates without zones, whose zones were not found by these outlines yet."""
    with database.transaction() as cursor:
        check_ledger(cursor)
        return _waiting(cursor, outlines)


def count_without_zones(cursor: Cursor, target: Target) -> int:
    """How many loads of a table have coordinates only, whose zones nobody has found yet."""
    return len(_waiting(cursor, table=target))


def assign_zones(
    database: Database,
    load_id: int,
    outlines: Outlines,
    locate: Locate,
    on_progress: Callable[[int, int, int], None] = lambda *_: None,
) -> Assignment | None:
    """Find the zones of a load's coordinates, in one transaction; None where that is not to be done any more.

    (Columns that the table lacks are added in one before it, so that its readers need not wait.)
    `on_progress` gets the bytes of the load's rows that were read, all that they have, and the rows. Raises
    DataError where the table has such columns for something else; DatabaseError for what Postgres refuses.
    """
    with database.transaction() as cursor:
        ledger.make_or_upgrade(cursor)
        if holder := partition.table_with(cursor, load_id):
            patiently(cursor, partial(_add_columns, cursor, holder))
    with database.transaction() as cursor:
        wait_for(cursor, [f"zones of load {load_id}"], f"assigning the zones of load {load_id}")
        parts = partition.attached(cursor, load_id)
        if not parts or not _waiting(cursor, outlines, load_id):
            return None
        for holder in set(parts.values()):
            check_table(cursor, holder)
        work = _Work(cursor, locate, on_progress, sum(_bytes_of(cursor, part_id) for part_id in parts))
        partition.renew(cursor, parts, work.fill)
        return _noted(cursor, load_id, outlines, work.counts)


def _waiting(
    cursor: Cursor,
    outlines: Outlines | None = None,
    load_id: int | None = None,
    table: Target | None = None,
) -> list[int]:
    """The loads whose zones were not found by these outlines, or by any."""
    values = {
        "outlines": outlines.load_id if outlines else None,
        "points": list(chain(*_POINTS)),
        "zones": _zone_columns(),
        "load": load_id,
        "table": table.quoted_whole if table else None,
    }
    cursor.execute(_WAITING, values)
    return [number for (number,) in cursor.fetchall()]


def _zone_columns() -> list[str]:
    """All that tables may call TLC's own zones."""
    columns = [column for dataset in tlc.datasets() for column in dataset.columns]
    own = [column for column in columns if column.snake in ("pickup_location_id", "dropoff_location_id")]
    return sorted({name for column in own for name in (column.name, column.snake, column.name.lower())})


def _add_columns(cursor: Cursor, target: Target) -> None:
    table.lock_definition(cursor, target)
    existing = table.look_up(cursor, target)
    for name, meaning in zip(COLUMNS, _MEANINGS, strict=True):
        found = existing.columns.get(name) if existing else None
        if found not in (None, _TYPE):
            raise DataError(f"{target} has a column {name!r} of its own.", "Rename it first.")
        if found is None:
            cursor.execute(
                sql.SQL(
                    "ALTER TABLE {table} ADD COLUMN {name} integer;"
                    "COMMENT ON COLUMN {table}.{name} IS {meaning}"
                ).format(table=target.sql, name=sql.Identifier(name), meaning=sql.Literal(meaning))
            )


@dataclass
class _Work:
    """The work on one load's rows, part by part."""

    cursor: Cursor
    locate: Locate
    on_progress: Callable[[int, int, int], None]
    bytes: int
    """Of all parts."""
    bytes_done: int = 0
    """Of those that are done."""
    counts: Counter[str] = field(default_factory=Counter)

    def fill(self, old: Target, new: Target) -> None:
        """Copy the rows, in their order, with their zones; count those whose points lie in none."""
        cursor = self.cursor
        # Rows are looked at twice, and come in the order in which they lie.
        cursor.execute("SET LOCAL synchronize_seqscans = off; SET LOCAL max_parallel_workers_per_gather = 0")
        columns = _columns_of(cursor, old)
        page_bytes, size = _size_of(cursor, old)
        for start in range(0, size // page_bytes, _PAGES_AT_A_TIME):
            pages = _pages(start, start + _PAGES_AT_A_TIME)
            points = _read(cursor, old, pages)
            zones = [self.locate(points[longitude], points[latitude]) for longitude, latitude in _POINTS]
            _copy(cursor, old, new, columns, pages, zones)
            self.counts.update(_counted(zones))
            done = self.bytes_done + min((start + _PAGES_AT_A_TIME) * page_bytes, size)
            self.on_progress(done, self.bytes, self.counts["rows"])
        self.bytes_done += size


def _columns_of(cursor: Cursor, old: Target) -> list[str]:
    """The columns whose values are copied: not those that are assigned, or that Postgres computes."""
    cursor.execute(
        """
        SELECT attname FROM pg_attribute
        WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        ORDER BY attnum
        """,
        (old.quoted_whole,),
    )
    return [name for (name,) in cursor.fetchall() if name not in COLUMNS]


def _bytes_of(cursor: Cursor, part_id: int) -> int:
    return _size_of(cursor, partition.target_of(part_id))[1]


def _size_of(cursor: Cursor, old: Target) -> tuple[int, int]:
    """The bytes of a page, and of the table."""
    cursor.execute(
        "SELECT current_setting('block_size')::int, pg_relation_size(%s::regclass)", (old.quoted_whole,)
    )
    page_bytes, size = one(cursor)
    return page_bytes, size


def _pages(first: int, end: int) -> sql.Composable:
    """The condition for the rows of some pages."""
    return sql.SQL("ctid >= {}::tid AND ctid < {}::tid").format(
        sql.Literal(f"({first},0)"), sql.Literal(f"({end},0)")
    )


def _read(cursor: Cursor, old: Target, pages: sql.Composable) -> npt.NDArray[Any]:
    """The coordinates of the rows of some pages; NaN where there is none."""
    names = list(chain(*_POINTS))
    values = [sql.SQL("coalesce({}::double precision, 'NaN')").format(sql.Identifier(name)) for name in names]
    statement = sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(values), old.sql, pages
    )
    buffer = BytesIO()
    cursor.copy_expert(statement, buffer)
    return np.frombuffer(buffer.getbuffer()[_HEADER_BYTES:-_TRAILER_BYTES], _ROW)


def _copy(
    cursor: Cursor,
    old: Target,
    new: Target,
    columns: Sequence[str],
    pages: sql.Composable,
    zones: Sequence[Zones],
) -> None:
    """Copy the rows of some pages with their zones. Raises DataError unless these are as many."""
    named = sql.SQL(", ").join(map(sql.Identifier, columns))
    cursor.execute(
        sql.SQL(
            "INSERT INTO {new} ({named}, {assigned})"
            " SELECT {named}, {found}"
            " FROM (SELECT {named}, row_number() OVER () AS {number} FROM {old} WHERE {pages}) AS rows"
        ).format(
            new=new.sql,
            old=old.sql,
            named=named,
            assigned=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
            found=sql.SQL(", ").join([_found(each) for each in zones]),
            number=sql.Identifier(_NUMBER),
            pages=pages,
        )
    )
    if cursor.rowcount != len(zones[0]):
        raise DataError(
            f"{cursor.rowcount:,} rows were copied, but {len(zones[0]):,} read.",
            "This is a bug: please report it.",
        )


def _found(zones: Zones) -> sql.Composable:
    """The zone of a row by its number; null where it is 0."""
    texts = pa.array(zones).cast(pa.string())
    whole = pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), ",")[0].as_py()
    return sql.SQL("nullif(({}::smallint[])[{}], 0)").format(
        sql.Literal(f"{{{whole}}}"), sql.Identifier(_NUMBER)
    )


def _counted(zones: Sequence[Zones]) -> dict[str, int]:
    nowhere = {name: int(np.count_nonzero(found == 0)) for name, found in zip(_COUNTED, zones, strict=True)}
    return {"rows": len(zones[0]), **nowhere}


def _noted(cursor: Cursor, load_id: int, outlines: Outlines, counts: Mapping[str, int]) -> Assignment:
    """Write down in the ledger what was done."""
    nowhere = {name: counts[name] for name in _COUNTED}
    cursor.execute(
        """
        UPDATE taxi_ingest.loads SET assigned_by = %s, quality = coalesce(quality, '{}') || %s::jsonb
        WHERE load_id = %s
        """,
        (outlines.load_id, Json(nowhere), load_id),
    )
    record = history.known_load(cursor, load_id)
    return Assignment(load_id, str(record.target), record.dataset, record.month, counts["rows"], **nowhere)
