"""Making, refreshing and dropping the views of a schema: each in one transaction, all or nothing.

What somebody else has made is never touched: neither a relation that has the name of a view, nor what others
have built upon ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg2 import errors, sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError, DataError, UsageError
from taxi_ingest.load import Database, Target, parse_target
from taxi_ingest.load.assignment import count_without_zones
from taxi_ingest.load.database import one
from taxi_ingest.load.migrations import upgrade
from taxi_ingest.load.table import check_schema
from taxi_ingest.load.trust import check_ledger, strangers_owning
from taxi_ingest.load.waiting import patiently, wait_for
from taxi_ingest.views.definitions import MARK, VIEWS, View, code_values
from taxi_ingest.views.sources import Source, find_sources

_KINDS = {"v": "VIEW", "m": "MATERIALIZED VIEW"}


@dataclass(frozen=True)
class Made:
    """The views that there are now."""

    schema: str
    views: tuple[str, ...]
    materialized: tuple[str, ...]
    """Those of them that are materialised."""
    tables: Mapping[str, Target]
    """Dataset -> the table that they read."""
    missing: tuple[str, ...]
    """Datasets of which nothing is loaded: their trips are not there, or their zones have no names."""
    notes: tuple[str, ...]


_DISPENSABLE = ("zone_shapes",)
"""Datasets that nobody misses: zones have their names without outlines."""


@dataclass(frozen=True)
class _Existing:
    """A view of ours that is there."""

    oid: int
    kind: str
    grants: tuple[str, ...]
    """The statements that let others read it as they may now."""


def make_views(
    database: Database,
    *,
    schema: str = "public",
    tables: Sequence[str] = (),
    materialize: bool | None = None,
) -> Made:
    """Make the views in a schema, or bring them up to date with what is loaded and with this version.

    Args:
        database: Where the tables are.
        schema: Where the views are to be.
        tables: The tables that they are to read, where several hold a dataset.
        materialize: Whether those that sum up are to keep their rows; None leaves each as it is.

    Raises UsageError, DataError or DatabaseError where the views can't be made; nothing has changed then.
    """
    check_schema(schema)
    wanted = [parse_target(table) for table in tables]
    with database.transaction() as cursor:
        existing = _entered(cursor, schema)
        upgrade(cursor)
        sources = find_sources(cursor, wanted, _read_now(cursor, schema))
        return _Making(cursor, schema, sources, existing, materialize).made()


def drop_views(database: Database, schema: str = "public") -> list[str]:
    """Drop our views of a schema; return their names.

    Raises DataError where others have built something upon them; nothing has changed then.
    """
    check_schema(schema)
    with database.transaction() as cursor:
        existing = _entered(cursor, schema, among_others=True)
        patiently(cursor, lambda: _drop(cursor, schema, existing))
        return list(existing)


def refresh_views(database: Database, schema: str = "public") -> list[str]:
    """Bring the rows of the materialised views up to date, which can be read meanwhile; return their names.

    Raises UsageError where there are none.
    """
    check_schema(schema)
    with database.transaction() as cursor:
        existing = _entered(cursor, schema, among_others=True)
        names = [name for name, view in existing.items() if view.kind == "m"]
        if not names:
            raise UsageError(
                f"There are no materialised views in the schema {schema}.",
                "Make them: taxi-ingest views --materialize",
            )
        for name in names:
            _refresh(cursor, Target(schema, name))
        return names


def _entered(cursor: Cursor, schema: str, among_others: bool = False) -> dict[str, _Existing]:
    """Our views of a schema, which nobody else changes until the transaction ends.

    Raises DataError for what has a view's name and is not ours, unless ours are looked for `among_others`.
    """
    check_ledger(cursor)
    wait_for(cursor, [f"views|{schema}"], f"changing the views of the schema {schema}")
    cursor.execute(_EXISTING, {"schema": schema, "names": [view.name for view in VIEWS], "mark": MARK})
    found = cursor.fetchall()
    ours = {name: _Existing(*rest) for name, is_ours, *rest in found if is_ours}
    others = [str(Target(schema, name)) for name, is_ours, *_ in found if not is_ours]
    if others and not among_others:
        raise DataError(
            f"taxi-ingest did not make {', '.join(others)}, and leaves it as it is.",
            "Rename it, or have the views in a schema of their own: CREATE SCHEMA answers; taxi-ingest views "
            "--schema answers",
        )
    if strangers := strangers_owning(cursor, [view.oid for view in ours.values()]):
        raise DatabaseError(
            f"The views in the schema {schema} belong to {strangers}.",
            f"Run it as {strangers}, or choose another --schema.",
        )
    return ours


_EXISTING = """
SELECT relname, relkind IN ('v', 'm') AND starts_with(coalesce(obj_description(pg_class.oid, 'pg_class'), ''),
        %(mark)s),
    pg_class.oid, relkind::text, ARRAY(
        SELECT format('GRANT %%s ON %%I.%%I TO %%s%%s', privilege_type, nspname, relname,
            CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM aclexplode(relacl) WHERE grantee <> relowner)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname = ANY (%(names)s)
ORDER BY array_position(%(names)s, relname::text)
"""

_READ_NOW = """
SELECT DISTINCT table_space.nspname, source.relname
FROM pg_class AS seen
JOIN pg_rewrite ON ev_class = seen.oid
JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
JOIN pg_class AS source ON refclassid = 'pg_class'::regclass AND refobjid = source.oid
JOIN pg_namespace AS table_space ON table_space.oid = source.relnamespace
JOIN pg_namespace AS view_space ON view_space.oid = seen.relnamespace
WHERE view_space.nspname = %s AND seen.relname = ANY (%s) AND source.relkind IN ('r', 'p')
"""


def _read_now(cursor: Cursor, schema: str) -> set[Target]:
    """The tables that the views of a schema read, whatever they were called once."""
    cursor.execute(_READ_NOW, (schema, [view.name for view in VIEWS]))
    return {Target(*row) for row in cursor.fetchall()}


def _notes(cursor: Cursor, source: Source) -> Iterator[str]:
    """What someone who reads the views should know of the table that they read."""
    if source.target and (loads := count_without_zones(cursor, source.target)):
        yield (
            f"Loads of {source.target} that have coordinates only: {loads}. Their zones are null; "
            "`taxi-ingest zones --assign` finds them."
        )
    if source.target and source.missing:
        yield f"{source.target} has no column {', '.join(source.missing)}: null in the views."
    if source.others:
        others = ", ".join(map(str, source.others))
        yield f"{source.dataset.name} is read from {source.target}, and not from {others} (see --table)."


@dataclass(frozen=True)
class _Making:
    """The making of a schema's views."""

    cursor: Cursor
    schema: str
    sources: Sequence[Source]
    existing: Mapping[str, _Existing]
    materialize: bool | None

    def made(self) -> Made:
        patiently(self.cursor, self._make_plain)
        for view in self._materialized:
            self._keep_rows(view)
        self._grant_again()
        return Made(
            self.schema,
            tuple(view.name for view in VIEWS),
            tuple(view.name for view in self._materialized),
            {source.dataset.name: source.target for source in self.sources if source.target},
            tuple(
                source.dataset.name
                for source in self.sources
                if source.target is None and source.dataset.name not in _DISPENSABLE
            ),
            tuple(note for source in self.sources for note in _notes(self.cursor, source)),
        )

    @property
    def _materialized(self) -> list[View]:
        return [view for view in VIEWS if self._is_materialized(view)]

    def _is_materialized(self, view: View) -> bool:
        if not view.key:
            return False
        has_rows = view.name in self.existing and self.existing[view.name].kind == "m"
        return has_rows if self.materialize is None else self.materialize

    def _make_plain(self) -> None:
        """Replace each view under those who read it; where its columns are others now, drop all and begin
        anew."""
        self.cursor.execute("SAVEPOINT before_views")
        try:
            _drop(self.cursor, self.schema, {n: v for n, v in self.existing.items() if self._turns_plain(n)})
            self._replace()
        except errors.InvalidTableDefinition:
            self.cursor.execute("ROLLBACK TO SAVEPOINT before_views")
            _drop(self.cursor, self.schema, self.existing)
            self._replace()

    def _turns_plain(self, name: str) -> bool:
        view = next(view for view in VIEWS if view.name == name)
        return self.existing[name].kind == "m" and not self._is_materialized(view)

    def _replace(self) -> None:
        """Replace what is another now: a view that is the same is not locked against those who read it."""
        for view in VIEWS:
            if not self._is_materialized(view):
                new, target = self._new(view), self._target(view)
                self._create("VIEW", view, new)
                same = self._is_the_same(new, target)
                self.cursor.execute(sql.SQL("DROP VIEW {}").format(new.sql))
                if not same:
                    self._create("OR REPLACE VIEW", view, target)
                self._describe("VIEW", view)

    def _keep_rows(self, view: View) -> None:
        """Fill a new one beside that which is read, and put it in its place; one that is the same is only
        brought up to date."""
        new, target = self._new(view), self._target(view)
        self._create("MATERIALIZED VIEW", view, new, "WITH NO DATA")
        if self._is_the_same(new, target):
            self.cursor.execute(sql.SQL("DROP MATERIALIZED VIEW {}").format(new.sql))
            _refresh(self.cursor, target)
            return
        key = sql.SQL(", ").join(map(sql.Identifier, view.key))
        self.cursor.execute(
            sql.SQL("REFRESH MATERIALIZED VIEW {new}; CREATE UNIQUE INDEX {index} ON {new} ({key})").format(
                new=new.sql, index=sql.Identifier(f"{new.name}_key"), key=key
            )
        )
        self.cursor.execute(sql.SQL("ANALYZE {}").format(new.sql))
        patiently(self.cursor, lambda: self._put_in_place(view, new))
        self._describe("MATERIALIZED VIEW", view)

    def _put_in_place(self, view: View, new: Target) -> None:
        if view.name in self.existing and _kind(self.cursor, self._target(view)):
            _drop(self.cursor, self.schema, {view.name: self.existing[view.name]})
        self.cursor.execute(
            sql.SQL("ALTER MATERIALIZED VIEW {} RENAME TO {}; ALTER INDEX {} RENAME TO {}").format(
                new.sql,
                sql.Identifier(view.name),
                sql.Identifier(self.schema, f"{new.name}_key"),
                sql.Identifier(f"{view.name}_key"),
            )
        )

    def _is_the_same(self, new: Target, old: Target) -> bool:
        if _kind(self.cursor, new) != _kind(self.cursor, old):
            return False
        definition = "pg_get_viewdef(to_regclass(%s))"
        self.cursor.execute(
            f"SELECT {definition} = {definition}",
            (new.quoted_whole, old.quoted_whole),
        )
        return bool(one(self.cursor)[0])

    def _create(self, what: str, view: View, target: Target, ending: str = "") -> None:
        parts = {source.dataset.name: source.query for source in self.sources}
        query = view.query({"schema": sql.Identifier(self.schema), **parts, **code_values()})
        self.cursor.execute(
            sql.SQL("CREATE {} {} AS {} {}").format(sql.SQL(what), target.sql, query, sql.SQL(ending))
        )

    def _describe(self, what: str, view: View) -> None:
        self.cursor.execute(
            sql.SQL("COMMENT ON {} {} IS {}").format(
                sql.SQL(what), self._target(view).sql, sql.Literal(view.comment)
            )
        )

    def _grant_again(self) -> None:
        """Those who might read a view that was dropped may read the one in its place."""
        for name, view in self.existing.items():
            self.cursor.execute("SELECT to_regclass(%s)::oid", (Target(self.schema, name).quoted_whole,))
            if one(self.cursor)[0] != view.oid:
                for statement in view.grants:
                    self.cursor.execute(statement)

    def _target(self, view: View) -> Target:
        return Target(self.schema, view.name)

    def _new(self, view: View) -> Target:
        """What a view is called until it is known whether it is another than the one that is there."""
        return Target(self.schema, f"{view.name}_being_made")


def _kind(cursor: Cursor, target: Target) -> str | None:
    cursor.execute(
        "SELECT (SELECT relkind::text FROM pg_class WHERE oid = to_regclass(%s))", (target.quoted_whole,)
    )
    kind = one(cursor)[0]
    return None if kind is None else str(kind)


def _refresh(cursor: Cursor, target: Target) -> None:
    """Fill a materialised view anew; who reads it goes on, unless it has never been filled."""
    cursor.execute("SELECT relispopulated FROM pg_class WHERE oid = to_regclass(%s)", (target.quoted_whole,))
    how = "CONCURRENTLY" if one(cursor)[0] else ""
    cursor.execute(sql.SQL("REFRESH MATERIALIZED VIEW {} {}").format(sql.SQL(how), target.sql))


def _drop(cursor: Cursor, schema: str, views: Mapping[str, _Existing]) -> None:
    """Drop views of ours, but nothing that others have built upon them. Raises DataError where they have."""
    try:
        for kind in ("m", "v"):
            names = [sql.Identifier(schema, name) for name, view in views.items() if view.kind == kind]
            if names:
                statement = sql.SQL("DROP {} {}").format(sql.SQL(_KINDS[kind]), sql.SQL(", ").join(names))
                cursor.execute(statement)
    except errors.DependentObjectsStillExist as error:
        built = "; ".join((error.diag.message_detail or "").splitlines())
        raise DataError(
            f"Something is built upon these views, which would go with them: {built}.",
            "Drop it yourself first (keep its definition, to make it again afterwards).",
        ) from error
