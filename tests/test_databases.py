"""Which database: one order of choice, and what a database is when it is shown or sent elsewhere."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver
from pydantic import SecretStr

from helpers import PASSWORD, query
from taxi_ingest import Settings, prefect_api, stack
from taxi_ingest.errors import UsageError
from taxi_ingest.flows.blocks import BlockDatabase, create_block, find_block
from taxi_ingest.load import Database, database_at, parse_target, undo
from taxi_ingest.places.databases import EmbeddedDatabase, choose_database
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import local_file
from taxi_ingest.transform import open_stream

_NAMED = f"postgresql://me:{PASSWORD}@named/d"
_OF_BLOCK = database_at(f"postgresql://me:{PASSWORD}@block/d")
_USUAL = database_at(f"postgresql://me:{PASSWORD}@usual/d")


def _blocks(**known: Database) -> Callable[[str], Database | None]:
    return lambda name: known.get(name.replace("-", "_"))


@pytest.mark.parametrize(
    ("named", "block", "blocks", "chosen"),
    [
        (_NAMED, "mine", {"mine": _OF_BLOCK, "postgres_connector": _USUAL}, "postgresql://me@block/d"),
        (_NAMED, None, {"postgres_connector": _USUAL}, "postgresql://me@named/d"),
        (None, None, {"postgres_connector": _USUAL}, "postgresql://me@usual/d"),
        (None, "mine", {"mine": _OF_BLOCK}, "postgresql://me@block/d"),
    ],
)
def test_what_is_named_more_closely_goes_first(
    settings: Settings, named: str | None, block: str | None, blocks: dict[str, Database], chosen: str
) -> None:
    wanted = settings.model_copy(update={"database_url": named and SecretStr(named)})
    assert choose_database(wanted, block, _blocks(**blocks)).address == chosen


def test_without_any_it_is_the_local_stacks_which_is_started_only_when_it_is_used(settings: Settings) -> None:
    apart = settings.model_copy(update={"home": settings.home / "apart"})
    database = choose_database(apart, None, _blocks())
    assert isinstance(database, EmbeddedDatabase)
    assert not database.runs
    try:
        assert database.server_version().startswith("PostgreSQL ")
        assert database.runs
    finally:
        stack.stop_database(apart)


def test_a_block_that_names_the_local_stacks_database_is_that_database(
    settings: Settings, embedded_url: str
) -> None:
    usual = _blocks(postgres_connector=database_at(embedded_url))
    assert isinstance(choose_database(settings, None, usual), EmbeddedDatabase)


def test_a_named_block_that_is_not_there_is_an_error_though_another_database_is(settings: Settings) -> None:
    wanted = settings.model_copy(update={"database_url": SecretStr(_NAMED)})
    with pytest.raises(UsageError, match="There is no block mine"):
        choose_database(wanted, "mine", _blocks(postgres_connector=_USUAL))


_LOAD = """
import pickle, sys
from taxi_ingest.load import load_file
print(load_file(*pickle.load(sys.stdin.buffer)).record.load_id)
"""


def _of_block(url: str) -> Database:
    create_block("sent", url, overwrite=True)
    found = find_block("sent")
    assert isinstance(found, BlockDatabase)
    return found


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("way", [database_at, _of_block])
def test_a_database_that_was_sent_to_another_process_is_loaded_into_from_there(
    trips: Path, database_url: str, way: Callable[[str], Database], settings: Settings
) -> None:
    with prefect_api(settings):
        sent = way(database_url)
    # A connection that it has made stays here.
    assert sent.server_version().startswith("PostgreSQL ")
    stream, file = open_stream(trips, trips.name, 10), local_file(str(trips))
    work = pickle.dumps((stream, file, parse_target("green"), sent, Job(file.url, "green")))
    done = subprocess.run([sys.executable, "-c", _LOAD], input=work, stdout=subprocess.PIPE, check=True)
    assert (done.stdout, query(database_url, "SELECT count(*) FROM green")) == (b"1\n", [(2,)])
    assert undo(sent, 1).rows == 2


def test_so_is_the_local_stacks(settings: Settings, embedded_url: str) -> None:
    embedded = choose_database(settings, None, _blocks())
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).server_version())"
    work = pickle.dumps(embedded)
    done = subprocess.run([sys.executable, "-c", program], input=work, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() == database_at(embedded_url).server_version()


def test_a_database_that_is_shown_shows_no_password(settings: Settings) -> None:
    info = ConnectionComponents(
        driver=SyncDriver.POSTGRESQL_PSYCOPG2, username="me", password=PASSWORD, host="h", database="d"
    )
    secret = settings.model_copy(update={"database_url": SecretStr(_NAMED)})
    shown = [
        database_at(_NAMED),
        BlockDatabase("postgresql://me@h/d", SqlAlchemyConnector(connection_info=info)),
        EmbeddedDatabase("postgresql://me@h/d", secret),
    ]
    assert PASSWORD not in f"{shown!r} {[str(database) for database in shown]}"
