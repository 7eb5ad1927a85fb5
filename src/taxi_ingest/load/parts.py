"""A load's parts: each filled over a connection of its own, all visible by the load's one transaction.

The load's own connection fills the first part in the load's transaction. The others, companions, each commit
theirs before it ends, under a name to which nothing refers (`loading_8`), so that COPY can FREEZE there, too.
Until the load has attached them, it holds a lock on each of them: of parts whose load has died, it is free.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import ledger, partition
from taxi_ingest.load.copy import Counts, LoadProgress, Supply, copy_rows
from taxi_ingest.load.database import Database, one
from taxi_ingest.load.destination import Destination
from taxi_ingest.load.locks import Lock, try_lock
from taxi_ingest.read import Reject
from taxi_ingest.transform import Stream

_log = logging.getLogger(__name__)

_NEW_NUMBERS = """
SELECT nextval(pg_get_serial_sequence('taxi_ingest.loads', 'load_id')) FROM generate_series(1, %s)
"""

_FREE_CONNECTIONS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
"""

_KEPT_FREE = 3
"""So many connections are left to others."""


class Parts:
    """The parts of one load, while they are filled and until its transaction has them."""

    def __init__(
        self, cursor: Cursor, database: Database, destination: Destination, load_id: int, connections: int
    ) -> None:
        """`cursor` is that of the load's transaction; of `connections` fewer are used where few are free."""
        self._cursor, self._destination, self._load_id = cursor, destination, load_id
        numbers = _reserve(cursor, connections - 1) if destination.has_parts else []
        self._companions = [_Companion(database, destination, number) for number in numbers]
        self._threads = ThreadPoolExecutor(max(1, len(numbers)), thread_name_prefix="load")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        with ExitStack() as all_of_them:
            for companion in self._companions:
                all_of_them.callback(companion.close, discard=error is not None)

    def fill(
        self,
        stream: Stream,
        on_reject: Callable[[Reject], None],
        on_progress: Callable[[LoadProgress], None],
    ) -> Counts:
        """Copy all rows of `stream`; hand over each that could not be represented.

        Raises what reading raises, Misjudged, too, and what any of the connections fails with.
        """
        with Supply(stream, on_reject, on_progress) as supply:
            filled = [self._threads.submit(companion.fill, supply) for companion in self._companions]
            rows = _fill(self._cursor, self._destination, self._load_id, supply)
            rows += sum(each.result() for each in filled)
        return replace(supply.counts, loaded=rows)

    def settle(self) -> tuple[str, ...]:
        """Make all rows the target's; what the user should know of it. By then all is checked."""
        used = [companion for companion in self._companions if companion.rows]
        for committed in [self._threads.submit(companion.commit) for companion in used]:
            committed.result()
        others = [companion.part_id for companion in used]
        if self._destination.has_parts:
            ledger.note_parts(self._cursor, self._load_id, [self._load_id, *others])
        return self._destination.settle(self._cursor, self._load_id, others)


class _Companion:
    """A further connection of a load, which fills a part of it in another thread."""

    def __init__(self, database: Database, destination: Destination, part_id: int) -> None:
        self.part_id = part_id
        self.rows = 0
        self._database, self._destination = database, destination
        self._opened = ExitStack()
        self._connection: Connection | None = None
        self._committed = False

    def fill(self, supply: Supply) -> int:
        """Copy rows into the part as long as there are any; how many they were."""
        try:
            self._connection = self._opened.enter_context(self._database.connect())
        except DatabaseError as error:
            _log.info("The file is loaded over fewer connections: %s", error)
            return 0
        try:
            with self._connection.cursor() as cursor:
                self.rows = _fill(cursor, self._destination, self.part_id, supply)
                partition.set_aside(cursor, self.part_id)
        except BaseException as failure:
            supply.fail(failure)
            raise
        return self.rows

    def commit(self) -> None:
        """Commit the part, to which nothing refers yet."""
        assert self._connection, "it has rows"
        self._connection.commit()
        self._committed = True

    def close(self, discard: bool) -> None:
        """Close the connection; `discard` what it has committed, if it can: otherwise the next load does."""
        with self._opened, suppress(psycopg2.Error):
            if discard and self._committed and self._connection:
                with self._connection.cursor() as cursor:
                    cursor.execute("SET LOCAL lock_timeout = '500ms'")
                    partition.discard(cursor, self.part_id)
                self._connection.commit()


def _fill(cursor: Cursor, destination: Destination, part_id: int, supply: Supply) -> int:
    table = destination.prepare(cursor, part_id)
    rows = copy_rows(cursor, table, destination.plan.loaded, supply, freeze=destination.has_parts)
    destination.finish(cursor, part_id)
    return rows


def _reserve(cursor: Cursor, wanted: int) -> list[int]:
    """The numbers of further parts, locked for this load: as many as wanted, or as the server bears."""
    if wanted < 1:
        return []
    cursor.execute(_FREE_CONNECTIONS)
    free = one(cursor)[0] - _KEPT_FREE
    cursor.execute(_NEW_NUMBERS, (max(0, min(wanted, free)),))
    numbers = [number for (number,) in cursor.fetchall()]
    return [number for number in numbers if try_lock(cursor, Lock.PART, str(number))]


def remove_ownerless(cursor: Cursor) -> None:
    """Drop the parts whose loads died before they attached them; committed at once."""
    for part_id in find_ownerless(cursor):
        partition.discard(cursor, part_id)
        _log.info("%s, which a load left that was ended, was removed.", partition.aside(part_id))
    cursor.connection.commit()


def find_ownerless(cursor: Cursor) -> list[int]:
    """Those parts. They stay locked to the end of the transaction."""
    return [part_id for part_id in partition.those_aside(cursor) if try_lock(cursor, Lock.PART, str(part_id))]
