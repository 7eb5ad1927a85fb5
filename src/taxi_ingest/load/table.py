"""The table that is loaded into."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError, DataError, UsageError
from taxi_ingest.load.database import one
from taxi_ingest.load.locks import Lock, wait_for_lock
from taxi_ingest.load.types import POSTGRES, name_of, short_name
from taxi_ingest.transform import PlannedColumn

LEDGER_SCHEMA = "taxi_ingest"
"""Where the ledger and the partitions are."""

_RESERVED_PREFIX = "pg_"
"""Postgres' own schemas, those of temporary tables among them
(https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-CATALOG)."""

LOAD_ID = "_load_id integer NOT NULL"
"""The definition of the column that the table is partitioned by; that of a partition has a default."""

_MARK = "taxi-ingest: load "
"""How the comment on a table begins that taxi-ingest made and replaces whole."""


@dataclass(frozen=True)
class Target:
    """A table, by its name as it stands: case, blanks and quotes in it count."""

    schema: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """Schema and name, as the catalogue has them."""
        return self.schema, self.name

    @property
    def sql(self) -> sql.Composable:
        """The name with its schema, quoted, as part of a statement."""
        return sql.Identifier(self.schema, self.name)

    @property
    def quoted(self) -> str:
        """The name as psql needs it."""
        return _quoted(self.key if self.schema != "public" else (self.name,))

    @property
    def quoted_whole(self) -> str:
        """The name with its schema, as to_regclass needs it in a session of ours."""
        return _quoted(self.key)

    def __str__(self) -> str:
        plain = self.schema == "public" and "." not in self.name
        return self.name if plain else f"{self.schema}.{self.name}"


def _quoted(parts: tuple[str, ...]) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def parse_target(table: str) -> Target:
    """`table` in the schema public, or `schema.table`; only the first dot separates.

    Raises UsageError for a name that Postgres can't hold, and for one in a schema of Postgres' or ours.
    """
    schema, dot, name = table.partition(".")
    target = Target(schema, name) if dot else Target("public", table)
    if not all(map(_is_name, target.key)):
        raise UsageError(
            f"{table!r} is no table name.", "Names have 1 to 63 bytes; write TABLE or SCHEMA.TABLE."
        )
    if dot and _is_reserved(schema):
        raise UsageError(
            f"{table!r} is in a schema that Postgres or taxi-ingest has for itself.",
            "Choose another schema, or none: write TABLE or SCHEMA.TABLE.",
        )
    return target


def check_schema(schema: str) -> None:
    """Raise UsageError for a name that no schema of a user's can have."""
    if not _is_name(schema):
        raise UsageError(f"{schema!r} is no schema's name.", "Names have 1 to 63 bytes.")
    if _is_reserved(schema):
        raise UsageError(
            f"{schema!r} is a schema that Postgres or taxi-ingest has for itself.", "Choose another."
        )


_PLACE = """
SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = space.oid AND relname = %s),
    has_schema_privilege(space.oid, 'USAGE') AND has_schema_privilege(space.oid, 'CREATE'), current_user
FROM pg_namespace AS space WHERE nspname = %s
"""
"""Whether a table is there, and whether it might be made; no row where there is no such schema."""


def check_place(cursor: Cursor, target: Target) -> None:
    """Raise DatabaseError where a table is not, and can't be made: what is certain before a file is read."""
    cursor.execute(_PLACE, (target.name, target.schema))
    found = cursor.fetchone()
    schema = sql.Identifier(target.schema).as_string(cursor)
    if found is None:
        raise DatabaseError(
            f"There is no schema {target.schema}.",
            f"Make it first (CREATE SCHEMA {schema}), or name another one.",
        )
    exists, may_make, user = found
    if not (exists or may_make):
        role = sql.Identifier(user).as_string(cursor)
        raise DatabaseError(
            f"{user} may make no table in the schema {target.schema}.",
            f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}",
        )


def _is_name(name: str) -> bool:
    return bool(name) and "\0" not in name and len(name.encode()) <= POSTGRES.name_bytes


def _is_reserved(schema: str) -> bool:
    """Whether a schema is no user's, however its name is spelled: nearly such a name is a slip, too."""
    bare = schema.strip(' "').casefold()
    return bare.startswith(_RESERVED_PREFIX) or bare in ("information_schema", LEDGER_SCHEMA)


@dataclass(frozen=True)
class ExistingTable:
    """What is known of the target before a load."""

    partitioned: bool
    """Ours: partitioned by `_load_id`. Otherwise a plain table of the user's, which is appended to."""
    columns: dict[str, str]
    """Name -> Postgres type."""
    definitions: tuple[str, ...]
    """Its columns and check constraints as SQL, as a partition must have them."""
    optional: frozenset[str] = frozenset()
    """The columns that are just null in a row which has no value for them, and in no check's way."""

    def definitions_of(self, names: Collection[str]) -> list[str]:
        """Those of some columns."""
        return [text for name, text in zip(self.columns, self.definitions, strict=False) if name in names]


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
            || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END,
            NOT attnotnull AND adbin IS NULL
        FROM pg_attribute
        JOIN pg_type ON pg_type.oid = atttypid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        """,
        (oid,),
    )
    described = cursor.fetchall()
    columns = {name: short_name(type) for name, type, *_ in described}
    cursor.execute(
        """
        SELECT format('CONSTRAINT %%I %%s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE conrelid = %s AND contype = 'c' ORDER BY conname
        """,
        (oid,),
    )
    checks = [text for (text,) in cursor.fetchall()]
    definitions = [definition for _, _, definition, _ in described] + checks
    optional = frozenset(name for name, *_, is_optional in described if is_optional and not checks)
    return ExistingTable(kind == "p", columns, tuple(definitions), optional)


def lock_definition(cursor: Cursor, target: Target) -> None:
    """Wait until no one else makes or alters this table."""
    wait_for_lock(cursor, Lock.DEFINITION, "|".join(target.key))


def views_on(cursor: Cursor, target: Target, columns: Sequence[str]) -> list[str]:
    """The views that use one of these columns of the table or of its partitions: their types are fixed."""
    cursor.execute(
        """
        SELECT DISTINCT format('%%I.%%I', namespace.nspname, seen.relname)
        FROM pg_depend
        JOIN pg_rewrite rule ON rule.oid = objid
        JOIN pg_class seen ON seen.oid = rule.ev_class
        JOIN pg_namespace namespace ON namespace.oid = seen.relnamespace
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE pg_depend.classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
          AND refobjid IN (SELECT to_regclass(%(table)s) UNION ALL
                           SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(table)s))
          AND attname = ANY (%(columns)s)
        ORDER BY 1
        """,
        {"table": target.quoted_whole, "columns": list(columns)},
    )
    return [name for (name,) in cursor.fetchall()]


def create(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    """Make the target, partitioned by load, its columns commented with what they mean."""
    cursor.execute(create_statement(target, columns))
    _comment(cursor, target, columns)


def create_statement(target: Target, columns: Sequence[PlannedColumn]) -> sql.Composable:
    """The statement that makes the target."""
    return sql.SQL("CREATE TABLE {} ({}, {}) PARTITION BY LIST (_load_id)").format(
        target.sql, sql.SQL(LOAD_ID), definitions(columns)
    )


def create_with_key(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    """Make a plain table whose first column is its primary key."""
    cursor.execute(
        sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
            target.sql, definitions(columns), sql.Identifier(columns[0].name)
        )
    )
    _comment(cursor, target, columns)


def mark(cursor: Cursor, target: Target, load_id: int) -> None:
    """Write down on the table itself that it is ours, and what its rows are.

    A comment goes with the table wherever it is renamed, moved or restored from a dump.
    """
    comment = f"{_MARK}{load_id}, content {_content(cursor, target)}"
    cursor.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(target.sql, sql.Literal(comment)))


def is_marked(cursor: Cursor, target: Target) -> bool:
    """Whether taxi-ingest has made this table and filled it."""
    return _comment_of(cursor, target).startswith(_MARK)


def has_foreign_rows(cursor: Cursor, target: Target) -> bool:
    """Whether a marked table holds anything but the rows that it was filled with."""
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(target.sql))
    if not one(cursor)[0]:
        return False
    return not _comment_of(cursor, target).endswith(f", content {_content(cursor, target)}")


def lock_rows(cursor: Cursor, target: Target) -> None:
    """Let no one else change the table's rows; readers may go on."""
    cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(target.sql))


def count_rows(cursor: Cursor, target: Target) -> int:
    """How many rows a table has."""
    cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(target.sql))
    return int(one(cursor)[0])


def delete_all(cursor: Cursor, target: Target) -> None:
    """Empty a table; readers see the old rows until the commit."""
    cursor.execute(sql.SQL("DELETE FROM {}").format(target.sql))


def _comment_of(cursor: Cursor, target: Target) -> str:
    cursor.execute(
        "SELECT coalesce(obj_description(to_regclass(%s), 'pg_class'), '')", (target.quoted_whole,)
    )
    return str(one(cursor)[0])


def _content(cursor: Cursor, target: Target) -> str:
    """A digest of all rows of a (small) table, in whatever order they lie."""
    cursor.execute(
        sql.SQL(
            "SELECT encode(sha256(coalesce(string_agg(line, '\\x0a' ORDER BY line), '')), 'hex')"
            " FROM (SELECT convert_to(content::text, 'UTF8') AS line FROM {} AS content) AS lines"
        ).format(target.sql)
    )
    return str(one(cursor)[0])


def add_columns(cursor: Cursor, target: Target, columns: Sequence[PlannedColumn]) -> None:
    """Add columns that the table lacks; they are null in all earlier loads."""
    additions = [sql.SQL("ADD COLUMN {}").format(definition(column)) for column in columns]
    cursor.execute(sql.SQL("ALTER TABLE {} {}").format(target.sql, sql.SQL(", ").join(additions)))
    _comment(cursor, target, columns)


def widen_column(cursor: Cursor, target: Target, column: PlannedColumn) -> None:
    """Give a column a type that holds its values and more; where that is text, as our sessions spell them."""
    cursor.execute(
        sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}").format(
            target.sql, sql.Identifier(column.name), sql.SQL(name_of(column.type))
        )
    )


def definitions(columns: Sequence[PlannedColumn]) -> sql.Composable:
    """The columns as a CREATE TABLE has them."""
    return sql.SQL(", ").join(map(definition, columns))


def definition(column: PlannedColumn) -> sql.Composable:
    """A column as a CREATE TABLE has it."""
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(name_of(column.type)))


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
