"""Rows that can't be represented: kept while COPY lasts, stored, shown."""

import csv
import io
import tempfile
from types import TracebackType
from typing import BinaryIO, Self

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.database import Database
from taxi_ingest.load.history import known_load
from taxi_ingest.read import Reject

_MEMORY_BYTES = 8 << 20
_SHOWN = 3
_LONGEST_SHOWN = 120


class RejectSpool:
    """Rejects wait here, beyond 8 MB on disk, while COPY has the connection."""

    def __init__(self, load_id: int) -> None:
        self._load_id = load_id
        self._bytes = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        self._text = io.TextIOWrapper(self._bytes, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text)
        self._first: list[Reject] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.close()

    def add(self, reject: Reject) -> None:
        """Keep a reject."""
        self._count += 1
        if len(self._first) < _SHOWN:
            self._first.append(reject)
        self._writer.writerow((self._load_id, reject.number, reject.column, reject.reason, reject.raw))

    def store(self, cursor: Cursor) -> None:
        """Write all of them to the ledger."""
        if not self._count:
            return
        self._text.flush()
        self._bytes.seek(0)
        cursor.copy_expert(
            "COPY taxi_ingest.rejects (load_id, number, column_name, reason, raw) FROM STDIN (FORMAT csv)",
            self._bytes,
        )

    @property
    def first_column(self) -> str | None:
        """The column for which the first one was rejected."""
        return self._first[0].column if self._first else None

    def first(self) -> str:
        """The first few in one line, to show."""
        return "; ".join(
            f"{reject.number}: {f'{reject.column}: ' if reject.column else ''}{reject.reason}"[
                :_LONGEST_SHOWN
            ]
            for reject in self._first
        )


def rejects_of(database: Database, load_id: int, limit: int | None) -> list[Reject]:
    """The first rejects of a load, or all. Raises UsageError for a load that there never was."""
    with database.connect() as connection, connection.cursor() as cursor:
        known_load(cursor, load_id)
        cursor.execute(
            "SELECT number, column_name, reason, raw FROM taxi_ingest.rejects "
            "WHERE load_id = %s ORDER BY number LIMIT %s",
            (load_id, limit),
        )
        return [Reject(*row) for row in cursor.fetchall()]


def write_rejects(database: Database, load_id: int, file: BinaryIO) -> None:
    """Write all rejects of a load as CSV. Raises UsageError for a load that there never was."""
    with database.connect() as connection, connection.cursor() as cursor:
        known_load(cursor, load_id)
        query = sql.SQL(
            "COPY (SELECT number, column_name, reason, raw FROM taxi_ingest.rejects "
            "WHERE load_id = {} ORDER BY number) TO STDOUT (FORMAT csv, HEADER)"
        )
        cursor.copy_expert(query.format(sql.Literal(load_id)), file)
