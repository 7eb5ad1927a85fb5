"""Which database: the one order of choice."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2 import Error
from psycopg2.extensions import connection as Connection

from taxi_ingest import stack
from taxi_ingest.errors import UsageError, nearest
from taxi_ingest.load import Database, database_at
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import DEFAULT_BLOCK


def choose_database(
    settings: Settings, block: str | None, find_block: Callable[[str], Database | None]
) -> Database:
    """The database of the block that is named, else that of TAXI_INGEST_DATABASE_URL, else that of the block
    `postgres-connector`, else the local stack's embedded Postgres.

    `find_block` is the database behind a Prefect block, None where there is no such block; where the choice
    needs none, it is not called. Raises UsageError for a named block that does not exist.
    """
    if block is None and settings.database_url:
        return database_at(settings.database_url.get_secret_value())
    found = find_block(block or DEFAULT_BLOCK)
    if found is None and block is not None:
        raise no_such_block(block)
    return _embedded(settings) if found is None else chosen_by_block(settings, found)


def chosen_by_block(settings: Settings, database: Database) -> Database:
    """The database that a block names; the local stack's is one that is started where it is needed."""
    return _embedded(settings) if stack.is_embedded(settings, database.address) else database


def _embedded(settings: Settings) -> "EmbeddedDatabase":
    return EmbeddedDatabase(database_at(stack.database_status(settings).address).address, settings)


def no_such_block(name: str, known: Iterable[str] = ()) -> UsageError:
    """The error for a block that is not there, with that of the known ones that was meant."""
    near = nearest(name, known)
    return UsageError(
        f"There is no block {name}.",
        f"Did you mean {near}?"
        if near
        else "`taxi-ingest blocks ls` lists them, `taxi-ingest blocks create` makes one.",
    )


@dataclass(frozen=True)
class EmbeddedDatabase(Database):
    """The local stack's database, started for each connection unless it runs or was stopped under a load."""

    settings: Settings

    @property
    def runs(self) -> bool:
        """Whether it would not have to be started."""
        return stack.database_status(self.settings).running

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """A connection, closed at the end. Raises DatabaseError where Postgres can't be started."""
        stack.enter()
        url = stack.start_database(self.settings, stack.enter)
        try:
            with database_at(url).open() as connection:
                yield connection
        except Error:
            # Where the user has stopped the server, a lost connection is not worth another try.
            stack.enter()
            raise
