"""A stream's rows through COPY BINARY.

Pieces are cut off by one thread, parsed and encoded by several, and sent in order by the caller's:
Arrow, pgpq and libpq all let go of the GIL, so the three overlap. At most `_AHEAD` pieces are under
way, whatever the file's size.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace

import psycopg2
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.types import binary_numeric
from taxi_ingest.read import Piece, Reject
from taxi_ingest.transform import Stream

_WORKERS = min(4, os.cpu_count() or 1)
_AHEAD = _WORKERS + 1
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

    def plus(self, piece: "_Encoded") -> "Counts":
        """These and a piece's."""
        return Counts(
            read=self.read + piece.rows_read,
            loaded=self.loaded + piece.rows,
            rejected=self.rejected + len(piece.rejects),
            removed=self.removed + piece.rows_read - piece.rows - len(piece.rejects),
            oddities=self.oddities + Counter(piece.oddities),
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


def copy_rows(
    cursor: Cursor,
    table: sql.Composable,
    stream: Stream,
    on_reject: Callable[[Reject], None],
    on_progress: Callable[[LoadProgress], None],
    freeze: bool,
) -> Counts:
    """Copy all rows of `stream` into `table`; hand over each that could not be represented.

    `freeze` only for a table made in the same transaction. Raises what reading raises: Misjudged, too.
    """
    counts = Counts()

    def content(pieces: Iterator[_Encoded]) -> Iterator[bytes]:
        nonlocal counts
        yield _HEADER
        for piece in pieces:
            yield from filter(None, piece.content)
            for reject in piece.rejects:
                on_reject(reject)
            counts = counts.plus(piece)
            on_progress(LoadProgress(counts.read, piece.position))
        yield _TRAILER

    statement = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT binary{})").format(
        table,
        sql.SQL(", ").join(sql.Identifier(column.name) for column in stream.plan.loaded),
        sql.SQL(", FREEZE" if freeze else ""),
    )
    with (
        ThreadPoolExecutor(_WORKERS + 1, thread_name_prefix="load") as pool,
        closing(_encode(pool, stream)) as pieces,
    ):
        _copy(cursor, statement, content(pieces))
    return replace(counts, loaded=cursor.rowcount)


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


def _encode(pool: ThreadPoolExecutor, stream: Stream) -> Generator[_Encoded, None, None]:
    """The pieces in order, a few of them parsed and encoded ahead."""
    convert = stream.converter()
    pieces = stream.pieces()

    def encode(piece: Piece) -> _Encoded:
        batch = convert(piece)
        return _Encoded(
            tuple(_binary(batch.rows)),
            batch.rows.num_rows,
            batch.rows_read,
            batch.rejects,
            batch.position,
            batch.oddities,
        )

    under_way: deque[Future[_Encoded]] = deque()
    following = pool.submit(next, pieces, None)
    try:
        while (piece := following.result()) is not None:
            following = pool.submit(next, pieces, None)
            under_way.append(pool.submit(encode, piece))
            if len(under_way) >= _AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


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
