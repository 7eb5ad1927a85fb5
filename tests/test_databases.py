"""Which database: one order of choice, and what a database is when it is shown or sent elsewhere."""

import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver
from pydantic import SecretStr

from conftest import PASSWORD
from taxi_ingest import Settings, prefect_api, stack
from taxi_ingest.databases import EmbeddedDatabase, choose_database
from taxi_ingest.errors import UsageError
from taxi_ingest.flows.blocks import BlockDatabase, create_block, find_block
from taxi_ingest.load import Database, database_at

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
    with pytest.raises(UsageError, match="no SqlAlchemyConnector block mine"):
        choose_database(wanted, "mine", _blocks(postgres_connector=_USUAL))


def _in_another_process(database: Database) -> str:
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).server_version())"
    sent = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(database), capture_output=True, check=True
    )
    return sent.stdout.decode().strip()


def test_a_database_can_be_sent_to_another_process(
    settings: Settings, prefect_server: str, system_url: str
) -> None:
    del prefect_server
    with prefect_api(settings):
        create_block("sent", system_url, overwrite=True)
        of_block = find_block("sent")
    embedded = choose_database(settings, None, _blocks())
    assert isinstance(of_block, BlockDatabase)
    for database in (database_at(system_url), of_block, embedded):
        assert _in_another_process(database) == database.server_version()


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
