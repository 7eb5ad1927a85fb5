"""The world of the tests: real servers in folders of their own, started once a run."""

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import httpx
import hypothesis
import pytest

from bigquery_server import BigQueryServer, bigquery_server
from bucket_servers import (
    Bucket,
    GcsServer,
    azure_environment,
    azure_server,
    gcs_server,
    make_azure_container,
    s3_environment,
    s3_server,
)
from builders import TRIPS, written
from helpers import (
    QUICK,
    Cli,
    Publish,
    execute,
    own_postgres,
    run_cli,
    set_up_environment,
    small_disk,
    url_with,
)
from http_server import Server, serve
from taxi_ingest import stack
from taxi_ingest.load import Database, database_at
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack.account import give_to_account
from taxi_ingest.tlc.sample import write_sample

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_HOME = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
_TABLES = _HOME / "prefect.db"
set_up_environment(_HOME)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: the last ones that are left when a worker has nothing more to do are quick."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def settings() -> Iterator[Settings]:
    """The settings of the tests' own local stack; what of it was started is stopped at the end."""
    folder = Path.cwd()
    work = _HOME / "work"
    work.mkdir()
    os.chdir(work)
    settings = Settings()
    yield settings
    os.chdir(folder)
    _send_prefects_logs()
    stack.stop(settings)
    shutil.rmtree(_HOME, ignore_errors=True)


def _send_prefects_logs() -> None:
    """Else Prefect complains at exit, behind pytest's last line, that its server is gone."""
    if "prefect" in sys.modules:
        from prefect.logging.handlers import APILogHandler

        APILogHandler().flush()


@pytest.fixture(scope="session")
def prefect_server(settings: Settings) -> str:
    """The local Prefect server's API, running."""
    url = stack.launch_prefect(settings).wait(timeout_seconds=600)
    with closing(sqlite3.connect(settings.home / "prefect" / "prefect.db")) as database:
        database.execute(f"VACUUM INTO '{_TABLES}'")
    return url


@pytest.fixture(scope="session")
def with_tables(prefect_server: str, settings: Settings) -> Callable[[Path], None]:
    """Give a local stack's home what its Prefect server would first spend nine seconds on.

    Those are empty tables, and the kinds of blocks, with the file that says that they have been entered.
    """
    del prefect_server

    def give(home: Path) -> None:
        for folder in (home, home / "prefect"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for made in (_TABLES, settings.home / "prefect" / "memo_store.toml"):
            shutil.copy(made, home / "prefect")

    return give


@pytest.fixture(scope="session")
def embedded_url(settings: Settings) -> str:
    url = stack.start_database(settings)
    # Nothing here outlives the machine.
    execute(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    return url


@pytest.fixture(scope="session")
def system_url() -> Iterator[str]:
    """A server of the machine's own Postgres, on TCP and with a password."""
    with own_postgres() as url:
        yield url


_numbers = count()


@pytest.fixture(params=["embedded", "system"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new, empty database, on the embedded Postgres and on the machine's own."""
    yield from _fresh_database(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def embedded_database_url(embedded_url: str) -> Iterator[str]:
    """A new, empty database, for what does not depend on the server."""
    yield from _fresh_database(embedded_url)


def _fresh_database(server: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    execute(server, f"CREATE DATABASE {name}")
    yield url_with(server, dbname=name)
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Database:
    return database_at(database_url)


@pytest.fixture
def embedded_database(embedded_database_url: str) -> Database:
    return database_at(embedded_database_url)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A real HTTP server for the files in the test's folder."""
    with serve(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """An emulator of Google Cloud Storage; the test is skipped where there is none."""
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an emulator of S3; the test is skipped where there is none."""
    with s3_server() as url:
        yield url


@pytest.fixture(scope="session")
def azure() -> Iterator[str]:
    """The address of an emulator of Azure's storage; the test is skipped where there is none."""
    with azure_server() as url:
        yield url


@pytest.fixture
def gcs_bucket(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket in Google Cloud Storage, which the environment names."""
    name = f"taxi-{next(_numbers)}"
    gcs.make_bucket(name)
    return _named_by_environment(Bucket("gs", name, gcs.environment), monkeypatch)


@pytest.fixture
def s3_bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket in S3, which the environment names."""
    name = f"taxi-{next(_numbers)}"
    httpx.put(f"{s3}/{name}", trust_env=False).raise_for_status()
    return _named_by_environment(Bucket("s3", name, s3_environment(s3)), monkeypatch)


@pytest.fixture
def azure_bucket(azure: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new container in Azure, which the environment names."""
    name = f"taxi-{next(_numbers)}"
    make_azure_container(azure, name)
    return _named_by_environment(Bucket("az", name, azure_environment(azure)), monkeypatch)


@pytest.fixture
def bigquery(monkeypatch: pytest.MonkeyPatch) -> Iterator[BigQueryServer]:
    """A project in BigQuery with one empty dataset, which the environment names."""
    with bigquery_server() as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        yield server


def _named_by_environment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return bucket


@pytest.fixture(params=["gcs", "s3", "azure"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A new bucket in each of the clouds."""
    made: Bucket = request.getfixturevalue(f"{request.param}_bucket")
    return made


@pytest.fixture
def publish(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Publish a month's file on the mirror that the settings name."""
    monkeypatch.setenv("TAXI_INGEST_TLC_URL", server.url(""))
    monkeypatch.setenv("TAXI_INGEST_DOWNLOAD_TRIES", "1")
    monkeypatch.setenv("TAXI_INGEST_CACHE_DIR", str(tmp_path / "cache"))

    def publish(month: str, rows: int = 20, dataset: str = "yellow") -> Path:
        return write_sample(dataset, month, tmp_path / f"{dataset}_tripdata_{month}.parquet", rows)

    return publish


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a local stack; not pytest's, to which root's sessions close the way for Postgres."""
    folder = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    """A small CSV of the green dataset, with two trips."""
    return written(tmp_path, TRIPS, "green_tripdata_2024-01.csv")


@pytest.fixture
def api(prefect_server: str, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The local Prefect server, and a new database that the settings name."""
    from taxi_ingest import prefect_api  # which imports Prefect

    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    with prefect_api(Settings()) as url:
        assert url == prefect_server
        yield url


@pytest.fixture
def cli(prefect_server: str) -> Cli:
    """Run `taxi-ingest` as a user would, with the local Prefect server up."""
    del prefect_server
    return run_cli


@pytest.fixture(scope="session")
def system_full_tablespace(system_url: str) -> Iterator[str]:
    """A tablespace of 12 MB on the machine's Postgres."""
    folder = Path(tempfile.mkdtemp(prefix="ti-full-"))
    with small_disk(folder, "size=12m"):
        give_to_account(folder)
        execute(system_url, f"CREATE TABLESPACE small LOCATION '{folder}'")
        yield "small"
        execute(system_url, "DROP TABLESPACE IF EXISTS small")
    folder.rmdir()
