"""SqlAlchemyConnector blocks: the databases that Prefect knows by name.

A block is made of ConnectionComponents, whose password Prefect stores encrypted; a plain URL would
stand in its database in the clear.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, get_args
from uuid import UUID

from prefect.client.orchestration import get_client
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
    names = [document["name"] for document in documents([_BLOCK_TYPE])]
    return [BlockInfo(name, _connector_address(_load(name))) for name in names]


def documents(types: Sequence[str], name: str | None = None, secrets: bool = False) -> list[dict[str, Any]]:
    """The blocks of these types as Prefect's API has them, by name; secrets masked unless told."""
    wanted: dict[str, Any] = {"block_types": {"slug": {"any_": types}}, "include_secrets": secrets}
    if name is not None:
        wanted["block_documents"] = {"name": {"any_": [name]}}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/block_documents/filter", json=wanted).json()
    return sorted((document for document in found if document["name"]), key=lambda each: str(each["name"]))


@dataclass(frozen=True)
class Use:
    """What a block is named for."""

    types: tuple[str, ...]
    """Which serve for it."""
    lack: str = ""
    """What is wrong with any other: that it `names no database`."""
    hint: str = ""


ANY = Use(get_args(BlockType))
_DATABASE = Use(
    (_BLOCK_TYPE,),
    "names no database",
    f"Name one of type {_BLOCK_TYPE}: `taxi-ingest blocks ls` lists all.",
)


def find_document(name: str, use: Use) -> dict[str, Any] | None:
    """The block of this name that serves for a use, as Prefect's API has it, secrets too; None without one.

    It may also be called as Prefect writes it, `gcs-bucket/NAME`. Raises UsageError where several types have
    one.
    """
    found = documents(use.types, name.rpartition("/")[2], secrets=True)
    found = [each for each in found if name in _names_of(each)]
    if len(found) > 1:
        paths = ", ".join(_names_of(each)[0] for each in found)
        raise UsageError(f"There are {len(found)} blocks {name}.", f"Name one: {paths}.")
    return found[0] if found else None


def existing_document(name: str, use: Use) -> dict[str, Any]:
    """The same. Raises UsageError where there is none, with the one that was meant, or why that is none."""
    if document := find_document(name, use):
        return document
    others = documents(ANY.types)
    for other in others:
        if name in _names_of(other):
            raise UsageError(f"The block {name} is of type {type_of(other)}, which {use.lack}.", use.hint)
    raise no_such_block(name, [other["name"] for other in others])


def type_of(document: dict[str, Any]) -> str:
    """Prefect's name of a block's type."""
    return str(document["block_type"]["slug"])


def _names_of(document: dict[str, Any]) -> tuple[str, str]:
    """As Prefect writes it, and alone."""
    return f"{type_of(document)}/{document['name']}", str(document["name"])


def remove_block(name: str) -> None:
    """Have Prefect forget a block of a database or a cloud. Raises UsageError where there is none."""
    document = existing_document(name, ANY)
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


def find_block(name: str) -> Database | None:
    """The database behind a block; None where there is no block of the usual name.

    Raises UsageError where there is none of another, with the one that was meant, and for one of another
    type; DatabaseError for a block that is not for Postgres, or for a driver that is not ours.
    """
    document = find_document(name, _DATABASE)
    if document is None and name == DEFAULT_BLOCK:
        return None
    return database_of(document or existing_document(name, _DATABASE))


def database_of(document: dict[str, Any]) -> Database:
    """The database behind a block that names one. Raises DatabaseError for one that is not ours."""
    name = document["name"]
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
