"""The shortest way to "already file" is taken only where nothing is in doubt."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from rich.console import Console

from builders import TRIPS
from helpers import execute, free_port, loaded, url_with
from http_server import Server
from prefect_runs import block, flow_run, id_of, seeming_run
from taxi_ingest import Settings, prefect_api, stack
from taxi_ingest.cli.shortcut import skip_if_loaded
from taxi_ingest.cli.watch import Watch, run_ingest
from taxi_ingest.flows import process_marks
from taxi_ingest.load import database_at
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import Cache, parse_source

Set = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def known(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A file, and the URL of a database whose table `green` has it."""
    path = tmp_path_factory.mktemp("known") / "green_tripdata_2024-01.csv"
    path.write_text(TRIPS)
    execute(embedded_url, "CREATE DATABASE known")
    url = url_with(embedded_url, dbname="known")
    loaded(path, database_at(url), "green")
    yield path, url
    execute(embedded_url, "DROP DATABASE known WITH (FORCE)")


@pytest.fixture
def file(prefect_server: str, known: tuple[Path, str], tmp_path: Path, monkeypatch: Set) -> Path:
    """The file; the settings name the database, the current folder is empty."""
    del prefect_server
    path, url = known
    path.write_text(TRIPS)
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", url)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.chdir(tmp_path)
    return path


def test_what_is_surely_there_is_skipped_and_prefect_shows_it(file: Path) -> None:
    outcome = skip_if_loaded(parse_source(str(file)), "green", Settings())
    assert outcome
    assert (outcome.status, outcome.rows_loaded) == ("skipped", 2)
    with prefect_api(Settings()):
        run = flow_run(id_of(outcome.flow_run_url))
    assert (run.name, run.state_name) == ("green 2024-01 -> green", "Skipped")


def _write(name: str, text: str) -> Callable[[Path, Set], None]:
    def write(_: Path, __: Set) -> None:
        path = Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    return write


def _set(name: str, value: str) -> Callable[[Path, Set], None]:
    return lambda _, monkeypatch: monkeypatch.setenv(name, value)


def _not_running(_: Path, monkeypatch: Set) -> None:
    monkeypatch.setenv("TAXI_INGEST_HOME", "home")
    monkeypatch.setenv("TAXI_INGEST_PREFECT_PORT", str(free_port()))


DOUBTS: dict[str, Callable[[Path, Set], None]] = {
    "the file has changed": lambda file, _: file.write_text(file.read_text() + "1,2024-01-03 00:00:00,1\n"),
    "the file is gone": lambda file, _: file.unlink(),
    "the server does not run": _not_running,
    "the database does not answer": _set("TAXI_INGEST_DATABASE_URL", "postgresql://me@127.0.0.1:1/db"),
    "another API": _set("PREFECT_API_URL", "http://127.0.0.1:1/api"),
    "another profile": _set("PREFECT_PROFILE", "work"),
    "other profiles": _set("PREFECT_PROFILES_PATH", "elsewhere.toml"),
    "profiles": _write("prefect/profiles.toml", ""),
    "prefect.toml": _write("prefect.toml", ""),
    "pyproject.toml": _write("pyproject.toml", "[tool.prefect.api]\nurl = 'http://127.0.0.1:1/api'\n"),
    ".env": _write(".env", "PREFECT_API_URL=http://127.0.0.1:1/api\n"),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_where_anything_is_in_doubt_the_flow_decides(file: Path, monkeypatch: Set, doubt: str) -> None:
    DOUBTS[doubt](file, monkeypatch)
    assert skip_if_loaded(parse_source(str(file)), "green", Settings()) is None


def test_of_a_table_that_has_not_got_the_file_nothing_is_in_doubt_either(file: Path) -> None:
    assert skip_if_loaded(parse_source(str(file)), "other", Settings()) is None


def test_the_default_block_goes_before_the_local_database(
    file: Path, known: tuple[Path, str], settings: Settings, monkeypatch: Set
) -> None:
    monkeypatch.delenv("TAXI_INGEST_DATABASE_URL")
    local = stack.start_database(settings)
    execute(local, "DROP SCHEMA IF EXISTS taxi_ingest CASCADE; DROP TABLE IF EXISTS green")
    loaded(file, database_at(local), "green")
    assert skip_if_loaded(parse_source(str(file)), "green", Settings())
    with prefect_api(Settings()):
        block(known[1], "postgres-connector")
        try:
            assert skip_if_loaded(parse_source(str(file)), "green", Settings()) is None
        finally:
            with get_client(sync_client=True) as client:
                found = client.read_block_document_by_name("postgres-connector", "sqlalchemy-connector")
                client.request("DELETE", "/block_documents/{id}", path_params={"id": found.id})
    execute(local, "DROP SCHEMA taxi_ingest CASCADE; DROP TABLE green")


@pytest.mark.parametrize(
    ("machine", "process", "left"),
    [
        (process_marks.machine_tag(), "process:00000000/1/1", True),
        (process_marks.machine_tag(), process_marks.process_mark(os.getpid()), False),
        ("machine:another", "process:00000000/1/1", False),
    ],
    ids=["killed", "alive", "of another machine"],
)
def test_a_run_that_was_left_is_put_right_by_the_flow(
    file: Path, machine: str, process: str, left: bool
) -> None:
    with prefect_api(Settings()), seeming_run(machine, process=process):
        assert (skip_if_loaded(parse_source(str(file)), "green", Settings()) is None) == left


@pytest.mark.parametrize("validators", [True, False])
def test_a_download_is_known_by_what_its_server_says_of_it(
    file: Path, known: tuple[Path, str], server: Server, tmp_path: Path, validators: bool
) -> None:
    server.without_validators, server.folder = not validators, file.parent
    url = server.url(file.name)
    source = parse_source(url).fetch(tmp_path, Cache(tmp_path / "cache", 0))
    assert source
    table = f"far_{validators}".lower()
    loaded(source, database_at(known[1]), table)
    asked = len(server.requests)
    assert bool(skip_if_loaded(parse_source(url), table, Settings())) == validators
    assert len(server.requests) - asked == validators
    file.write_text(file.read_text() + "1,2024-01-03 00:00:00,1\n")
    assert skip_if_loaded(parse_source(url), table, Settings()) is None


@pytest.mark.parametrize(
    ("wish", "is_short"),
    [
        ({}, True),
        ({"if_loaded": "replace"}, False),
        ({"if_loaded": "fail"}, False),
        ({"dry_run": True}, False),
        ({"block": "mine"}, False),
    ],
)
def test_the_short_way_is_gone_only_where_a_skip_is_wanted(
    trips: Path, monkeypatch: Set, wish: dict[str, Any], is_short: bool
) -> None:
    monkeypatch.setattr("taxi_ingest.cli.watch.skip_if_loaded", lambda *_: "short")
    monkeypatch.setattr("taxi_ingest.cli.watch._Run.watched", lambda _: "long")
    went = run_ingest(Job(str(trips), "green", **wish), Watch(Settings(), Console(quiet=True), True, False))
    assert went == ("short" if is_short else "long")  # type: ignore[comparison-overlap]
