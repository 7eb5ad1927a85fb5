"""A stream's rows through COPY BINARY, over one connection or several.

Batches are encoded in the threads that parse them, and handed out in order to whichever connection asks next,
each in a thread of its own: Arrow, pgpq and libpq all let go of the GIL, so that all of it overlaps.
"""

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psycopg2
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.types import binary_numeric
from taxi_ingest.read import Reject
from taxi_ingest.transform import CanonicalBatch, PlannedColumn, Stream, worked_ahead

_PART_ROWS = 10_000
"""A piece is encoded and sent in parts: the processor's cache holds one, libpq makes room for the largest."""
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
"""https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT"""


@dataclass(frozen=True)
class LoadProgress:
    """How far a load has come."""

    rows: int
    bytes: int
    """Of the file as it lies on disk."""


@dataclass(frozen=True)
class Counts:
    """The rows of a load. `removed` ones were dropped by the user's own step (added: negative)."""

    read: int = 0
    loaded: int = 0
    """By the word of the server, so that comparing it with the others proves that nothing is missing."""
    rejected: int = 0
    removed: int = 0
    oddities: Counter[str] = field(default_factory=Counter)
    """Rows that are odd though loaded, by kind."""

    def plus(self, read: int, loaded: int, rejected: int, oddities: Mapping[str, int]) -> "Counts":
        """These and a batch's: what of it is neither loaded nor rejected, was removed."""
        return Counts(
            read=self.read + read,
            loaded=self.loaded + loaded,
            rejected=self.rejected + rejected,
            removed=self.removed + read - loaded - rejected,
            oddities=self.oddities + Counter(oddities),
        )


@dataclass(frozen=True)
class _Encoded:
    """A piece as COPY wants it."""

    content: tuple[bytes, ...]
    rows: int
    rows_read: int
    rejects: tuple[Reject, ...]
    position: int
    oddities: Mapping[str, int]


class Supply:
    """The rows of a stream as COPY wants them, for all connections that ask. Where one fails, all do."""

    def __init__(
        self,
        stream: Stream,
        on_reject: Callable[[Reject], None],
        on_progress: Callable[[LoadProgress], None],
    ) -> None:
        """`on_reject` is called in the order of the file, and nothing is called twice at once."""
        self.counts = Counts()
        """Of what was handed out so far, but for the rows that the server says it has."""
        self._on_reject, self._on_progress = on_reject, on_progress
        self._pieces = worked_ahead(stream, _encoded)
        self._parts = self._all_parts()
        self._one_at_a_time = threading.Lock()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._one_at_a_time:
            self._parts.close()
            self._pieces.close()

    def next_part(self) -> bytes:
        """Some rows that nobody else gets; nothing at the end.

        Raises what reading raises, Misjudged, too, and what made another connection fail.
        """
        with self._one_at_a_time:
            if self._failure:
                raise self._failure
            try:
                return next(self._parts, b"")
            except BaseException as failure:
                self._failure = failure
                raise

    def fail(self, failure: BaseException) -> None:
        """Have all who ask from now on end with this failure, unless there was another before."""
        with self._one_at_a_time:
            self._failure = self._failure or failure

    def _all_parts(self) -> Generator[bytes, None, None]:
        for piece in self._pieces:
            yield from filter(None, piece.content)
            for reject in piece.rejects:
                self._on_reject(reject)
            self.counts = self.counts.plus(piece.rows_read, piece.rows, len(piece.rejects), piece.oddities)
            self._on_progress(LoadProgress(self.counts.read, piece.position))


def copy_rows(
    cursor: Cursor, table: sql.Composable, columns: Sequence[PlannedColumn], supply: Supply, freeze: bool
) -> int:
    """Copy what `supply` hands out into `table`, until it has no more; return how many rows the server took.

    `freeze` only for a table made in the same transaction. Raises what reading raises: Misjudged, too.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT binary{})").format(
        table,
        sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        sql.SQL(", FREEZE" if freeze else ""),
    )
    try:
        _copy(cursor, statement, _content(supply))
    except BaseException as failure:
        supply.fail(failure)
        raise
    return cursor.rowcount


def _content(supply: Supply) -> Iterator[bytes]:
    yield _HEADER
    while part := supply.next_part():
        yield part
    yield _TRAILER


def _copy(cursor: Cursor, statement: sql.Composable, content: Iterator[bytes]) -> None:
    """Send the content. Raises what making it raises, which comes here from the threads by their futures."""
    file = _CopyFile(content)
    try:
        cursor.copy_expert(statement, file)  # type: ignore[arg-type]  # COPY FROM needs no readline
    except psycopg2.Error as error:
        if file.failure:
            raise file.failure from None
        if "error in .read() call" in str(error):
            # A signal that struck before read() could take note of it.
            raise KeyboardInterrupt from None
        raise


class _CopyFile:
    """What psycopg2 reads from. Why that failed, it tells the server and nobody else: it is kept here."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self._content = content
        self.failure: BaseException | None = None

    def read(self, _size: int) -> bytes:
        """The next part, of any length (psycopg2 takes more than it asked for); empty at the end."""
        try:
            return next(self._content, b"")
        except BaseException as failure:
            self.failure = failure
            raise


def _encoded(batch: CanonicalBatch) -> _Encoded:
    return _Encoded(
        tuple(_binary(batch.rows)),
        batch.rows.num_rows,
        batch.rows_read,
        batch.rejects,
        batch.position,
        batch.oddities,
    )


def _binary(rows: pa.Table) -> Iterator[bytes]:
    """The rows as COPY BINARY wants them, without its header and trailer."""
    schema = pa.schema(
        (field.name, pa.binary() if pa.types.is_decimal(field.type) else field.type) for field in rows.schema
    )
    encoder = ArrowToPostgresBinaryEncoder(schema)
    encoder.write_header()
    for batch in rows.to_batches(max_chunksize=_PART_ROWS):
        columns = [
            binary_numeric(column) if pa.types.is_decimal(column.type) else column for column in batch.columns
        ]
        yield encoder.write_batch(pa.record_batch(columns, schema=schema))
    # pgpq keeps the rows of a small batch back until it is finished; then a trailer follows them.
    yield encoder.finish().removesuffix(_TRAILER)
