"""What a table holds, by questions to a sample of its pages: bounded in time, however large it is.

Every so many pages one is read, of each partition at its own pace. Rows lie in the order in which they
happened, roughly, so that pages at equal distances meet each day and hour in its proportion; what TABLESAMPLE
tells of a day, by pages at random, was off three times as far (docs/report.md has the figures). A row stands
for as many rows as pages were passed over: its `weight`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest import tlc
from taxi_ingest.errors import DatabaseError, UsageError
from taxi_ingest.load.database import Database
from taxi_ingest.load.history import loads_of, no_such_table, tables_of_datasets
from taxi_ingest.load.table import LEDGER_SCHEMA, Target

Kind = Literal["time", "number", "text"]
Rows = list[dict[str, Any]]

MOST_PAGES = 8_000
"""64 MB of a table, however large: 0.4 million trips, a second or two."""

_LEAST_PAGES = 32
"""Of each partition, that a small one is not passed over."""

_SINCE = 14_00_00
"""The first Postgres that finds rows by a range of pages
(https://www.postgresql.org/docs/release/14.0/)."""

_PARTITION = re.compile(r"load_([0-9]{1,9})")

_COLUMNS = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

_PARTS = """
SELECT nspname, relname, pg_relation_size(class.oid) / current_setting('block_size')::bigint
FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = relnamespace
WHERE relkind IN ('r', 'm') AND (
    class.oid = to_regclass(%(table)s)
    OR class.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%(table)s)) WHERE isleaf))
ORDER BY class.oid
"""

_PAGES = """
SELECT {weight}::double precision AS weight, rows.*
FROM generate_series({first}, {pages} - 1, {step}) AS page CROSS JOIN LATERAL (
    SELECT {values} FROM {part}
    WHERE ctid >= format('(%s,0)', page)::tid AND ctid < format('(%s,0)', page + 1)::tid OFFSET 0) AS rows
"""
"""OFFSET 0 keeps Postgres from making a join of it, for which all pages are read."""

_ANSWER = "SELECT {name}, (SELECT json_agg(row_to_json(answer)) FROM ({question}) AS answer)"


_KINDS: Mapping[str, tuple[Kind, str]] = {
    "timestamp without time zone": ("time", "{}"),
    "timestamp with time zone": ("time", "({} AT TIME ZONE 'America/New_York')"),
    "date": ("time", "{}::timestamp"),
    **dict.fromkeys(("smallint", "integer", "bigint"), ("number", "{}")),
    **dict.fromkeys(("numeric", "real", "double precision"), ("number", "{}::double precision")),
    **dict.fromkeys(("text", "character varying", "character"), ("text", "{}::text")),
}
"""What the values of a type are taken as, and how; no question is about others."""


@dataclass(frozen=True)
class SurveyedColumn:
    """A column of a table."""

    name: str
    type: str

    @property
    def kind(self) -> Kind | None:
        """What can be drawn of it; None if nothing can."""
        return _KINDS[self.type][0] if self.type in _KINDS else None

    @property
    def value(self) -> sql.Composable:
        """Its values as its kind; times as New York's clocks show them."""
        return sql.SQL(_KINDS[self.type][1]).format(sql.Identifier(self.name))


@dataclass(frozen=True)
class Part:
    """A table that holds rows itself: the one that is asked about, or a partition of it."""

    target: Target
    pages: int
    load_id: int | None
    """The load whose rows it holds, where it is a partition of ours."""


@dataclass(frozen=True)
class Surveyed:
    """A table, before questions are asked."""

    target: Target
    columns: tuple[SurveyedColumn, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Answers:
    """What a table holds."""

    rows: Mapping[str, Rows]
    """By the question's name."""
    pages: int
    pages_read: int

    @property
    def sampled(self) -> bool:
        """Whether only some of its pages are read."""
        return self.pages_read < self.pages


def survey(database: Database, target: Target) -> Surveyed:
    """The table's columns and parts. Raises UsageError where there is none, or none that holds rows."""
    with database.transaction() as cursor:
        if cursor.connection.server_version < _SINCE:
            raise DatabaseError("This needs PostgreSQL 14 or later.", "Ask a newer server.")
        cursor.execute(
            "SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s)", (target.quoted_whole,)
        )
        found = cursor.fetchone()
        if found is None:
            raise no_such_table(cursor, target)
        if found[0] not in ("r", "p", "m"):
            raise UsageError(f"{target} is no table that holds rows itself.", "Name the table behind it.")
        cursor.execute(_COLUMNS, (target.quoted_whole,))
        columns = tuple(SurveyedColumn(name, type) for name, type in cursor.fetchall())
        return Surveyed(target, columns, _parts(cursor, target))


def _parts(cursor: Cursor, target: Target) -> tuple[Part, ...]:
    cursor.execute(_PARTS, {"table": target.quoted_whole})
    found = [(Target(schema, name), pages) for schema, name, pages in cursor.fetchall()]
    loads = loads_of(cursor, [number for part, _ in found if (number := _number_of(part))])
    return tuple(Part(part, pages, loads.get(_number_of(part))) for part, pages in found)


def _number_of(part: Target) -> int:
    """The `_load_id` of the rows of a partition of ours; 0 for any other table."""
    named = _PARTITION.fullmatch(part.name) if part.schema == LEDGER_SCHEMA else None
    return int(named[1]) if named else 0


def ask(
    database: Database,
    surveyed: Surveyed,
    columns: Mapping[str, Sequence[SurveyedColumn]],
    questions: Mapping[str, str],
    *,
    loads: Collection[int] | None = None,
    between: tuple[str, str] | None = None,
    most_pages: int = MOST_PAGES,
) -> Answers:
    """Put questions to the table's rows; all get the same ones.

    A question is a SELECT from `trips`, which has these `columns` (each the first of several that is not
    null) and `weight`. `loads` are those whose partitions are looked at, all unless told; `between` bounds
    the column `pickup`, where there is one, in what is no partition of a load.
    """
    parts = [part for part in surveyed.parts if loads is None or part.load_id in (None, *loads)]
    total = sum(part.pages for part in parts)
    steps = [_step(part, total, most_pages) for part in parts]
    answers = [
        sql.SQL(_ANSWER).format(name=sql.Literal(name), question=sql.SQL(question))
        for name, question in questions.items()
    ]
    selects = [_select(part, step, columns, between) for part, step in zip(parts, steps, strict=True)]
    if not selects or not questions:
        return Answers({name: [] for name in questions}, 0, 0)
    with database.transaction() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY; SET LOCAL work_mem = '64MB'")
        cursor.execute(
            sql.SQL("WITH trips AS MATERIALIZED ({}) {}").format(
                sql.SQL(" UNION ALL ").join(selects), sql.SQL(" UNION ALL ").join(answers)
            )
        )
        rows = {name: answer or [] for name, answer in cursor.fetchall()}
    return Answers(rows, total, sum(len(_pages(part, step)) for part, step in zip(parts, steps, strict=True)))


def _step(part: Part, total: int, most_pages: int) -> int:
    """Of how many pages of a part one is read."""
    return max(1, min(-(-total // most_pages), part.pages // _LEAST_PAGES))


def _pages(part: Part, step: int) -> range:
    """Those of a part that are read."""
    return range(step // 2, part.pages, step)


def _select(
    part: Part,
    step: int,
    columns: Mapping[str, Sequence[SurveyedColumn]],
    between: tuple[str, str] | None,
) -> sql.Composable:
    """The rows of a part that are read."""
    values = [
        sql.SQL("coalesce({}) AS {}").format(
            sql.SQL(", ").join([column.value for column in found]), sql.Identifier(name)
        )
        for name, found in columns.items()
    ]
    pages = _pages(part, step)
    if step == 1:
        weighted = sql.SQL(", ").join([sql.SQL("1::double precision AS weight"), *values])
        rows = sql.SQL("SELECT {} FROM {}").format(weighted, part.target.sql)
    else:
        rows = sql.SQL(_PAGES).format(
            weight=sql.Literal(part.pages / len(pages)),
            first=sql.Literal(pages.start),
            pages=sql.Literal(pages.stop),
            step=sql.Literal(step),
            values=sql.SQL(", ").join(values),
            part=part.target.sql,
        )
    if between is None or part.load_id is not None or "pickup" not in columns:
        return rows
    return sql.SQL("SELECT * FROM ({}) AS rows WHERE pickup >= {} AND pickup < {}").format(
        rows, *map(sql.Literal, between)
    )


@dataclass(frozen=True)
class TaxiZones:
    """What is loaded of the taxi zones."""

    names: Mapping[int, str]
    outlines: Mapping[int, str]
    """As GeoJSON geometries."""


def taxi_zones(database: Database) -> TaxiZones:
    """The zones' names and outlines; none where they are not loaded, or must not be read."""
    found: dict[str, dict[int, str]] = {"zones": {}, "zone_shapes": {}}
    with suppress(DatabaseError), database.transaction() as cursor:
        for dataset, target, there in tables_of_datasets(cursor):
            if there and dataset in _OF_ZONES:
                cursor.execute(_zones_query(cursor, dataset, target))
                found[dataset] |= dict(cursor.fetchall())
    return TaxiZones(found["zones"], found["zone_shapes"])


_OF_ZONES = {"zones": "zone", "zone_shapes": "geojson"}
"""The column that tells something of a zone."""


def _zones_query(cursor: Cursor, dataset: str, target: Target) -> sql.Composable:
    cursor.execute(_COLUMNS, (target.quoted_whole,))
    names = {tlc.normalise(name): name for name, _ in cursor.fetchall()}
    known = tlc.dataset_named(dataset)
    columns = {
        column.snake: name
        for spelled, name in names.items()
        if (column := known.column_of(spelled, frozenset(names)))
    }
    return sql.SQL(
        "SELECT {key}, {value} FROM {table} WHERE {key} IS NOT NULL AND {value} IS NOT NULL"
    ).format(
        key=sql.Identifier(columns["location_id"]),
        value=sql.Identifier(columns[_OF_ZONES[dataset]]),
        table=target.sql,
    )
