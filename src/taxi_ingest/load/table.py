"""The target table and its partitions: one load, one partition."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DataError, UsageError
from taxi_ingest.transform import PlannedColumn
from taxi_ingest.transform.types import ARROW_OF_POSTGRES, WIDER

_LONGEST_NAME_BYTES = 63
"""https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS"""

_SPELLINGS = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
}


@dataclass(frozen=True)
class Target:
    """A table, by its name as it stands: case, blanks and quotes in it count."""

    schema: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def sql(self) -> sql.Composable:
        return sql.Identifier(self.schema, self.name)

    @property
    def quoted(self) -> str:
        """The name as psql needs it."""
        parts = self.key if self.schema != "public" else (self.name,)
        return ".".join('"' + part.replace('"', '""') + '"' for part in parts)

    def __str__(self) -> str:
        plain = self.schema == "public" and "." not in self.name
        return self.name if plain else f"{self.schema}.{self.name}"


def parse_target(table: str) -> Target:
    """`table` in the schema public, or `schema.table`; only the first dot separates.

    Raises UsageError for a name that Postgres can't hold.
    """
    schema, dot, name = table.partition(".")
    target = Target(schema, name) if dot else Target("public", table)
    for part in target.key:
        if not part or "\0" in part or len(part.encode()) > _LONGEST_NAME_BYTES:
            raise UsageError(
                f"{table!r} is no table name.", "Names have 1 to 63 bytes; write TABLE or SCHEMA.TABLE."
            )
    return target


@dataclass(frozen=True)
class ExistingTable:
    """What is known of the target before a load."""

    partitioned: bool
    """Ours: partitioned by `_load_id`. Otherwise a plain table of the user's, which is appended to."""
    columns: dict[str, str]
    """Name -> Postgres type."""
    definitions: tuple[str, ...]
    """Its columns and check constraints as SQL, as a partition must have them."""


def look_up(cursor: Cursor, target: Target) -> ExistingTable | None:
    """The target as it is, or None where there is none.

    Raises DataError for what can't be loaded into: views, foreign tables, other partitionings.
    """
    cursor.execute(
        """
        SELECT class.oid, class.relkind::text, pg_get_partkeydef(class.oid)
        FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
        WHERE namespace.nspname = %s AND class.relname = %s
        """,
        target.key,
    )
    row = cursor.fetchone()
    if row is None:
        return None
    oid, kind, partition_key = row
    if kind not in ("r", "p") or (kind == "p" and partition_key != "LIST (_load_id)"):
        raise DataError(
            f"{target} exists, but is no table that can be loaded into.", "Choose another --table."
        )
    cursor.execute(
        """
        SELECT attname, format_type(atttypid, atttypmod),
            format('%%I %%s', attname, format_type(atttypid, atttypmod))
            || CASE WHEN attcollation <> typcollation
                THEN format(' COLLATE %%s', attcollation::regcollation) ELSE '' END
            || CASE attgenerated
                WHEN 's' THEN format(' GENERATED ALWAYS AS (%%s) STORED', pg_get_expr(adbin, adrelid))
                WHEN 'v' THEN format(' GENERATED ALWAYS AS (%%s) VIRTUAL', pg_get_expr(adbin, adrelid))
                ELSE coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), '') END
            || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
        FROM pg_attribute
        JOIN pg_type ON pg_type.oid = atttypid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        """,
        (oid,),
    )
    described = cursor.fetchall()
    columns = {name: _SPELLINGS.get(type, type) for name, type, _ in described}
    cursor.execute(
        """
        SELECT format('CONSTRAINT %%I %%s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE conrelid = %s AND contype = 'c' ORDER BY conname
        """,
        (oid,),
    )
    definitions = [definition for _, _, definition in described] + [text for (text,) in cursor.fetchall()]
    return ExistingTable(kind == "p", columns, tuple(definitions))


def lock_definition(cursor: Cursor, target: Target) -> None:
    """Wait until no one else makes or alters this table."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 1))", ("|".join(target.key),))


def create(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    """Make the target, partitioned by load, its columns commented with what they mean."""
    cursor.execute(create_statement(target, columns))
    _comment(cursor, target, columns)


def create_statement(target: Target, columns: Sequence[PlannedColumn]) -> sql.Composable:
    """The statement that makes the target."""
    return sql.SQL("CREATE TABLE {} (_load_id integer NOT NULL, {}) PARTITION BY LIST (_load_id)").format(
        target.sql, _definitions(columns)
    )


def create_with_key(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    """Make a plain table whose first column is its primary key."""
    cursor.execute(
        sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
            target.sql, _definitions(columns), sql.Identifier(columns[0].name)
        )
    )
    _comment(cursor, target, columns)


def delete_all(cursor: Cursor, target: Target) -> None:
    """Empty a table; readers see the old rows until the commit."""
    cursor.execute(sql.SQL("DELETE FROM {}").format(target.sql))


def add_columns(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    """Add columns that the table lacks; they are null in all earlier loads."""
    additions = [sql.SQL("ADD COLUMN {}").format(_definition(column)) for column in columns]
    cursor.execute(sql.SQL("ALTER TABLE {} {}").format(target.sql, sql.SQL(", ").join(additions)))
    _comment(cursor, target, columns)


def widen_column(cursor: Cursor, target: Target, column: PlannedColumn) -> None:
    """Give a column a type that holds its values and more.

    Where that is text, the values are spelled as Postgres spells them, whatever the session's settings: a
    double with all its digits, a time as ISO 8601 has it.
    """
    cursor.execute(
        sql.SQL(
            "SET LOCAL extra_float_digits = 1; SET LOCAL DateStyle = 'ISO'; SET LOCAL TimeZone = 'UTC';"
            "ALTER TABLE {} ALTER COLUMN {} TYPE {}"
        ).format(target.sql, sql.Identifier(column.name), sql.SQL(column.type))
    )


def _definitions(columns: Sequence[PlannedColumn]) -> sql.Composable:
    return sql.SQL(", ").join(map(_definition, columns))


def _definition(column: PlannedColumn) -> sql.Composable:
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type))


def _comment(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    comments = [
        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
            target.sql, sql.Identifier(column.name), sql.Literal(column.meaning)
        )
        for column in columns
        if column.meaning
    ]
    if comments:
        cursor.execute(sql.SQL("; ").join(comments))


def is_wider(type: str, than: str) -> bool:
    """Whether a column of type `than` can become `type` without losing a value."""
    return type in WIDER.get(than, ())


def check_loadable(target: Target, column: PlannedColumn, existing_type: str) -> None:
    """Raise DataError where a column of the table has a type that the file's values can't be put into."""
    if existing_type not in ARROW_OF_POSTGRES:
        raise DataError(
            f"Column {column.name!r} of {target} has the type {existing_type}, the file's has {column.type}.",
            "Load into another --table, or change the column's type first.",
        )


def partition_target(load_id: int) -> Target:
    """The table that holds the rows of a load."""
    return Target("taxi_ingest", f"load_{load_id}")


def create_partition(cursor: Cursor, columns: Sequence[PlannedColumn], load_id: int) -> None:
    """Make the partition of a table that is yet to be made.

    A partition is attached only after the copy: COPY can FREEZE into a table of its own transaction.
    The constant default puts the load's id into rows that COPY brings without it.
    """
    cursor.execute(
        sql.SQL("CREATE TABLE {} (_load_id integer NOT NULL DEFAULT {}, {})").format(
            partition_target(load_id).sql, sql.Literal(load_id), _definitions(columns)
        )
    )


def create_partition_of(cursor: Cursor, existing: ExistingTable, load_id: int) -> None:
    """Make a partition of a table that exists; see `create_partition`.

    Not by LIKE, which would lock that table against a replacement for as long as the copy lasts.
    """
    cursor.execute(
        sql.SQL(
            "CREATE TABLE {partition} ({definitions});"
            "ALTER TABLE {partition} ALTER COLUMN _load_id SET DEFAULT {load_id}"
        ).format(
            partition=partition_target(load_id).sql,
            definitions=sql.SQL(", ".join(existing.definitions)),
            load_id=sql.Literal(load_id),
        )
    )


def prove_partition(cursor: Cursor, load_id: int) -> None:
    """Have all rows looked at (0.08 s for 1.4 million), so that attaching them needs no look any more.

    A constraint that is there from the start would cost 0.2 s while copying.
    """
    cursor.execute(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT _load_id_proven CHECK (_load_id = {})").format(
            partition_target(load_id).sql, sql.Literal(load_id)
        )
    )


def attach(cursor: Cursor, target: Target, load_id: int) -> None:
    """Make the load's rows, which are proven to be its, part of the table."""
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {target} ATTACH PARTITION {partition} FOR VALUES IN ({load_id});"
            "ALTER TABLE {partition} DROP CONSTRAINT _load_id_proven"
        ).format(target=target.sql, partition=partition_target(load_id).sql, load_id=sql.Literal(load_id))
    )


def drop_partition(cursor: Cursor, target: Target, load_id: int) -> None:
    """Take the rows of a load out of the table."""
    partition = partition_target(load_id).sql
    cursor.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {}; DROP TABLE {}").format(target.sql, partition, partition)
    )


def table_with(cursor: Cursor, load_id: int) -> Target | None:
    """The table that a load's rows are a partition of now, whatever it was called then."""
    cursor.execute(
        """
        SELECT namespace.nspname, class.relname
        FROM pg_inherits
        JOIN pg_class class ON class.oid = inhparent
        JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
        WHERE inhrelid = to_regclass(%s)
        """,
        (partition_target(load_id).quoted,),
    )
    row = cursor.fetchone()
    return Target(*row) if row else None
