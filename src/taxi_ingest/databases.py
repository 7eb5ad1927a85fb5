"""Which database a load goes to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from psycopg2 import Error
from psycopg2.extensions import connection as Connection

from taxi_ingest import stack
from taxi_ingest.load import Database, database_at
from taxi_ingest.load.address import address_of
from taxi_ingest.settings import DEFAULT_BLOCK, Settings


def find_database(block: str | None, settings: Settings) -> Database:
    """The block's, else the settings', else that of `postgres-connector`, else the embedded Postgres.

    Raises UsageError for an unknown block, DatabaseError where the embedded Postgres can't start.
    """
    if block is None and settings.database_url:
        return database_at(settings.database_url.get_secret_value())
    if block is None and not _default_block_exists():
        return _embedded(settings)
    # 0.2 s to import, which only those with a block pay.
    from taxi_ingest.flows.blocks import database_of_block

    database = database_of_block(block or DEFAULT_BLOCK)
    return _embedded(settings) if stack.is_embedded(settings, database.address) else database


@dataclass(frozen=True)
class EmbeddedDatabase(Database):
    """The local stack's database, started for each connection unless it runs, or was stopped under a load."""

    settings: Settings = field(repr=False)

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """As of any database. Raises DatabaseError where Postgres can't start."""
        stack.enter()
        stack.start_database(self.settings, stack.enter)
        try:
            with database_at(self.address).open() as connection:
                yield connection
        except Error:
            # Where the user has stopped the server, a lost connection is not worth another try.
            stack.enter()
            raise


def _embedded(settings: Settings) -> Database:
    stack.enter()
    return EmbeddedDatabase(address_of(stack.start_database(settings, stack.enter)), settings)


def _default_block_exists() -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_block_document_by_name(DEFAULT_BLOCK, "sqlalchemy-connector", include_secrets=False)
        except ObjectNotFound:
            return False
    return True
