"""Which place: what an address names by its scheme, else a block, else the one database."""

from collections.abc import Callable, Mapping
from pathlib import Path

from taxi_ingest.errors import UsageError, nearest, without_login
from taxi_ingest.load import Database, database_at
from taxi_ingest.places.databases import choose_database, chosen_by_block
from taxi_ingest.places.place import Place
from taxi_ingest.places.postgres import Postgres
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources.local import DATA_NAME

_FORMS = (
    "Write postgresql://host/database, bigquery://project/dataset, gs://bucket/prefix, s3://…, az://… or a "
    "folder: ./lake."
)


def choose_place(
    settings: Settings,
    to: str | None,
    block: str | None,
    find_database: Callable[[str], Database | None],
    open_block: Callable[[str, str | None], Place | Database],
) -> Place:
    """The place that a block opens, or an address names; else the database that `choose_database` chooses.

    `open_block` is the database or the bucket that a block names, or what it opens of an address.
    """
    if block is not None:
        opened = open_block(block, to)
        return opened if isinstance(opened, Place) else Postgres(chosen_by_block(settings, opened))
    if to is not None:
        return place_at(to)
    return Postgres(choose_database(settings, None, find_database))


def place_at(to: str) -> Place:
    """The place behind an address; connects to nothing.

    Raises UsageError for what is no address of a place, and for one with a login: what a flow gets as a
    parameter, Prefect stores and shows.
    """
    if without_login(to) != to and not is_postgres(to):
        raise UsageError(
            "The address of --to has a login in it, which Prefect would show.",
            "Give it by the environment, as the cloud's own tools take it, or name a --block.",
        )
    scheme, separator, _ = to.partition("://")
    if not separator:
        return _folder(to)
    if scheme.lower() not in _PLACES:
        raise _no_such_kind(scheme.lower(), to)
    return _PLACES[scheme.lower()](to)


def is_postgres(to: str) -> bool:
    """Whether it is the address of a database, which may have a password in it."""
    return _PLACES.get(to.partition("://")[0].partition("+")[0].lower()) is _postgres


def _postgres(to: str) -> Place:
    database = database_at(to)
    if database.secrets:
        raise UsageError(
            "The database's address has a password in it, which Prefect would show.",
            "Name a block, or set TAXI_INGEST_DATABASE_URL, PGPASSWORD or ~/.pgpass.",
        )
    return Postgres(database)


def _folder(to: str) -> Place:
    """A folder that is written as one, or is there."""
    path = Path(to.removeprefix("file://"))
    if not path.is_dir():
        _check_written(to)
        _check_no_file(to)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{to} is a file.", "Name a folder for the lake.")
    from taxi_ingest.places.lake import lake_at

    return lake_at(path.absolute())


def _check_written(to: str) -> None:
    """Raise UsageError for a bare word, which is rather a slip, and so is `s3:/taxi`."""
    scheme, colon, rest = to.partition(":")
    kind = _kind_of(scheme.lower()) if colon else None
    if kind and not rest.startswith("//"):
        hint = f"Did you mean {kind}://{rest.lstrip('/')}?"
    elif "/" not in to:
        hint = f"A folder? Write ./{to}. {_FORMS}"
    else:
        return
    raise UsageError(f"{to!r} is no address of a place to load into.", hint)


def _bucket(to: str) -> Place:
    from taxi_ingest.places.lake import lake_in

    _check_no_file(to)
    return lake_in(to)


def _check_no_file(to: str) -> None:
    """Raise UsageError for what is called like a file of a table, where a folder or a prefix should be."""
    folder, _, name = to.rpartition("/")
    if DATA_NAME.search(name):
        raise UsageError(
            f"{to} is called like a file, but a lake is where many are.", f"Did you mean {folder}/?"
        )


def _bigquery(to: str) -> Place:
    from taxi_ingest.places.bigquery import parse_address

    return parse_address(to)


_PLACES: Mapping[str, Callable[[str], Place]] = {
    "postgresql": _postgres,
    "postgres": _postgres,
    "file": _folder,
    "gs": _bucket,
    "s3": _bucket,
    "az": _bucket,
    "bigquery": _bigquery,
}
"""Scheme -> what opens the place behind an address; a place's own libraries are imported there."""

_ALSO_CALLED = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "abfs": "az", "abfss": "az", "bq": "bigquery"}


def _kind_of(scheme: str) -> str | None:
    """The scheme that is meant by one, however it is called."""
    return scheme if scheme in _PLACES else _ALSO_CALLED.get(scheme)


def _no_such_kind(scheme: str, to: str) -> UsageError:
    meant = _kind_of(scheme) or nearest(scheme, _PLACES)
    hint = f"Did you mean {meant}://{to.partition('://')[2]}?" if meant else _FORMS
    return UsageError(f"Nothing can be loaded into {scheme}://.", hint)
