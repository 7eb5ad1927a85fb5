"""Where a table and the ledger disagree about whose rows are there, as someone has moved partitions by hand.

The ledger follows what is detached, attached again and renamed (history.py). What it can't follow leaves rows
missing or there twice: a part of a load without the others, parts of a load that has been undone or replaced
since, a load that is attached again beside the one that has taken its place.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import InconsistentError
from taxi_ingest.load import history, partition
from taxi_ingest.load.database import Database
from taxi_ingest.load.table import Target

Kind = Literal["torn", "ended", "twice"]


@dataclass(frozen=True)
class Disagreement:
    """Rows of a load that a table has otherwise than the ledger says."""

    kind: Kind
    load_id: int
    status: str
    """What the ledger says of the load."""
    source: str
    sha256: str
    dataset: str | None
    month: str | None
    schema: str
    table: str
    absent: Sequence[int]
    """Its parts that are not in the table."""
    detached: Sequence[int]
    """Those of them that are tables by themselves now."""
    whole: int | None
    """The latest load that the table has of the same file, whole."""

    @property
    def target(self) -> Target:
        """The table."""
        return Target(self.schema, self.table)

    @property
    def found(self) -> str:
        """What is wrong, in a sentence."""
        load = f"load {self.load_id}, from {self.source}"
        if self.kind == "ended":
            return (
                f"{self.target} has rows of {load}, which is {self.status}: someone has attached them again."
            )
        if self.kind == "twice":
            return (
                f"{self.target} has rows of {load}, and of the same file as load {self.whole}: someone has "
                "attached the earlier ones again."
            )
        detached = ", ".join(str(partition.target_of(part_id)) for part_id in self.detached)
        return f"{self.target} has a part of {load}; someone has " + (
            f"detached {detached}." if self.absent == self.detached else "dropped or moved another."
        )

    def mend(self, where: Sequence[str] = ()) -> str:
        """What helps; `where` are the flags that name the database."""
        undo = shlex.join(["taxi-ingest", "undo", str(self.load_id), *where])
        if self.kind != "torn":
            return f"Take them out: {undo}"
        attach = " ".join(map(self._attaching, self.detached))
        again = f"Attach it again: {attach} or remove" if self.absent == self.detached else "Remove"
        return f"{again} the rest, and load the file again: {undo}"

    def _attaching(self, part_id: int) -> str:
        part = partition.target_of(part_id)
        return f"ALTER TABLE {self.target.quoted} ATTACH PARTITION {part} FOR VALUES IN ({part_id});"

    def is_about(self, url: str, sha256: str, dataset: str | None, month: str | None) -> bool:
        """Whether it is about a file, or about another of the same month."""
        same_month = month is not None and (self.dataset, self.month) == (dataset, month)
        return self.source == url or self.sha256 == sha256 or same_month


_FIND = f"""
WITH held AS (
    SELECT inhparent, load_id, array_agg(_load_id) AS present
    FROM {partition.IN_TABLES} JOIN taxi_ingest.parts USING (_load_id)
    WHERE %(target)s::text IS NULL OR inhparent = to_regclass(%(target)s::text)
    GROUP BY 1, 2
), known AS (
    SELECT inhparent, loads.*, ARRAY(
        SELECT _load_id FROM taxi_ingest.parts
        WHERE parts.load_id = held.load_id AND _load_id <> ALL (present) ORDER BY 1) AS absent
    FROM held JOIN taxi_ingest.loads USING (load_id)
), compared AS (
    SELECT *, greatest(
        max(load_id) FILTER (WHERE status = 'loaded' AND absent = '{{}}')
            OVER (PARTITION BY inhparent, source),
        -- --keep-both may have had a load that replaces another bring what is there already.
        max(load_id) FILTER (WHERE status = 'loaded' AND absent = '{{}}' AND replaces IS NULL)
            OVER (PARTITION BY inhparent, sha256)) AS whole
    FROM known
), odd AS (
    SELECT *, CASE
        WHEN status <> 'loaded' THEN 'ended'
        WHEN whole > load_id OR whole < load_id AND absent <> '{{}}' THEN 'twice'
        WHEN absent <> '{{}}' THEN 'torn' END AS kind
    FROM compared
)
SELECT kind, load_id, status, source, sha256, dataset, month, nspname, relname, absent,
    ARRAY(SELECT _load_id FROM {partition.DETACHED} WHERE detached.load_id = odd.load_id ORDER BY 1), whole
FROM odd
JOIN pg_class ON pg_class.oid = inhparent
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE kind IS NOT NULL
ORDER BY nspname, relname, load_id
"""  # noqa: S608


def find(cursor: Cursor, target: Target | None = None) -> list[Disagreement]:
    """Those about a table, or about all; none where there is no ledger yet."""
    if not history.exists(cursor):
        return []
    history.execute(cursor, _FIND, {"target": target.quoted_whole if target else None})
    return [Disagreement(*row) for row in cursor.fetchall()]


def disagreements(database: Database, target: Target | None = None) -> list[Disagreement]:
    """Those about a table, or about all; none where there is no ledger yet."""
    with database.connect() as connection, connection.cursor() as cursor:
        return find(cursor, target)


def check_none(
    cursor: Cursor, target: Target, url: str, sha256: str, dataset: str | None, month: str | None
) -> None:
    """Raise InconsistentError where the table and the ledger disagree about a file, or about its month.

    Whether it is there already could be told neither way: loaded or skipped, rows would be there twice or
    missing.
    """
    for each in find(cursor, target):
        if each.is_about(url, sha256, dataset, month):
            raise InconsistentError(each.found, each.mend())
