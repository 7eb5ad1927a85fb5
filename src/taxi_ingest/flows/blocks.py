"""SqlAlchemyConnector blocks: the databases that Prefect knows by name.

A block is made of ConnectionComponents, whose password Prefect stores encrypted; a plain URL would
stand in its database in the clear.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, get_args
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn

from taxi_ingest.errors import DatabaseError, UsageError
from taxi_ingest.load import Database, database_at
from taxi_ingest.load.database import address_of, secrets_at
from taxi_ingest.places.databases import no_such_block
from taxi_ingest.settings.job import DEFAULT_BLOCK, BlockType

if TYPE_CHECKING:
    from prefect_sqlalchemy import SqlAlchemyConnector
    from sqlalchemy.engine import URL

_BLOCK_TYPE = "sqlalchemy-connector"
_DRIVERS = ("postgresql", "postgresql+psycopg2")


@dataclass(frozen=True)
class BlockInfo:
    """A block as it may be shown: without its password."""

    name: str
    address: str
    type: str = _BLOCK_TYPE


def create_block(name: str, dsn: str, overwrite: bool) -> BlockInfo:
    """Try a connection to `dsn` (a libpq URL or key=value string), then save it as a block.

    Raises DatabaseError where the connection fails, UsageError for a name that is taken or not
    allowed; then nothing is saved.
    """
    from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver

    check_name(name)
    if not overwrite and name in (block.name for block in list_blocks()):
        raise UsageError(f"There is a block {name} already.", "Choose another --name, or --overwrite it.")
    if in_the_clear := ", ".join(sorted(secrets_at(dsn).keys() - {"password"})):
        raise UsageError(
            f"A block would keep {in_the_clear} in the clear: only its password is encrypted.",
            "Leave it out of the block, and give it by a service file of libpq's (PGSERVICE).",
        )
    with database_at(dsn).connect():
        pass
    parameters = parse_dsn(dsn)
    components = ConnectionComponents(
        driver=SyncDriver.POSTGRESQL_PSYCOPG2,
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        host=None if parameters.get("host", "").startswith("/") else parameters.pop("host", None),
        port=parameters.pop("port", None),
        database=parameters.pop("dbname", None),
        query=parameters or None,
    )
    SqlAlchemyConnector(connection_info=components).save(name, overwrite=overwrite)
    return BlockInfo(name, address_of(dsn))


def check_name(name: str) -> None:
    """Raise UsageError for what Prefect takes for no name of a block."""
    if not name or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise UsageError(
            f"{name!r} is no name for a block.", "Use lower-case letters, digits and dashes: my-postgres."
        )


def list_blocks() -> list[BlockInfo]:
    """All SqlAlchemyConnector blocks that Prefect has, by name."""
    return [BlockInfo(name, _connector_address(_load(name))) for name in _names()]


def _names() -> list[str]:
    return [document["name"] for document in documents([_BLOCK_TYPE])]


def documents(types: Sequence[str], secrets: bool = False) -> list[dict[str, Any]]:
    """The blocks of these types as Prefect's API has them, by name; their secrets are masked unless told."""
    wanted = {"block_types": {"slug": {"any_": types}}, "include_secrets": secrets}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/block_documents/filter", json=wanted).json()
    return sorted((document for document in found if document["name"]), key=lambda each: str(each["name"]))


def named(found: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The one of these documents that is called so, or as Prefect writes it, `gcs-bucket/NAME`.

    Raises UsageError where several types have one.
    """
    by_path = {f"{document['block_type']['slug']}/{document['name']}": document for document in found}
    paths = [path for path in by_path if name in (path, path.partition("/")[2])]
    if len(paths) > 1:
        raise UsageError(f"There are {len(paths)} blocks {name}.", f"Name one: {', '.join(paths)}.")
    return by_path[paths[0]] if paths else None


def remove_block(name: str) -> None:
    """Have Prefect forget a block of a database or a cloud. Raises UsageError where there is none."""
    found = documents(get_args(BlockType))
    document = named(found, name)
    if document is None:
        raise no_such_block(name, [each["name"] for each in found], "block")
    with get_client(sync_client=True) as client:
        client.delete_block_document(UUID(document["id"]))


@dataclass(frozen=True)
class BlockDatabase(Database):
    """The database that a block names, connected to through the block."""

    connector: "SqlAlchemyConnector" = field(repr=False)

    @property
    def secrets(self) -> dict[str, str]:
        """What its address must not show: libpq's parameter -> its value."""
        return secrets_at(_connector_dsn(self.connector))

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """A new connection by the block, closed at the end. Raises DatabaseError where none is to be had."""
        from sqlalchemy.exc import DBAPIError

        try:
            # A connector has one connection; several threads may want one each.
            own = type(self.connector)(**vars(self.connector))
            with own as connector, connector.get_connection(begin=False) as connection:
                try:
                    yield cast(Connection, connection.connection.driver_connection)
                except BaseException:
                    # Or SQLAlchemy would roll back first, and log at length that it can't on a lost one.
                    connection.invalidate()
                    raise
        except DBAPIError as error:
            raise (error.orig or error) from error


def check_block(name: str | None) -> None:
    """Raise UsageError for a block that is named and not there."""
    if name and find_block(name) is None:
        raise no_such_block(name)


def find_block(name: str) -> Database | None:
    """The database behind a block; None where there is no block of the usual name.

    Raises UsageError where there is none of another, with the one that was meant; DatabaseError for a block
    that is not for Postgres, or for a driver that is not ours.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_block_document_by_name(name, _BLOCK_TYPE, include_secrets=False)
        except ObjectNotFound:
            if name == DEFAULT_BLOCK:
                return None
            raise no_such_block(name, _names()) from None
    connector = _load(name)
    _check_driver(name, _url_of(connector).drivername)
    return BlockDatabase(_connector_address(connector), connector)


def _check_driver(name: str, driver: str) -> None:
    if driver not in _DRIVERS:
        raise DatabaseError(
            f"The block {name} is for {driver}: data is loaded into Postgres, over psycopg2.",
            f"`taxi-ingest blocks create --name {name} --overwrite` makes one that is.",
        )


def _load(name: str) -> "SqlAlchemyConnector":
    # 0.2 s to import, which only those with a block pay.
    from prefect_sqlalchemy import SqlAlchemyConnector

    return cast(SqlAlchemyConnector, SqlAlchemyConnector.load(name))


def _url_of(connector: "SqlAlchemyConnector") -> "URL":
    from prefect_sqlalchemy import ConnectionComponents

    info = connector.connection_info
    url = info.create_url() if isinstance(info, ConnectionComponents) else connector._rendered_url
    return cast("URL", url)


def _connector_address(connector: "SqlAlchemyConnector") -> str:
    return address_of(_connector_dsn(connector))


def _connector_dsn(connector: "SqlAlchemyConnector") -> str:
    url = _url_of(connector)
    parameters: dict[str, Any] = {
        "user": url.username,
        "password": url.password,
        "host": url.host,
        "port": url.port,
        "dbname": url.database,
        **{key: value for key, value in url.query.items() if isinstance(value, str)},
    }
    return str(make_dsn(**{key: value for key, value in parameters.items() if value is not None}))
