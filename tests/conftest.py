"""The world of the tests: real servers in folders of their own, started once a run."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from http_server import Server, serve
from taxi_ingest import stack
from taxi_ingest.load import Database, database_at
from taxi_ingest.load.address import join_dsn
from taxi_ingest.settings import Settings
from taxi_ingest.stack.account import as_account, give_to_account

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
PASSWORD = "geheim-7391"
TRIPS = "VendorID,lpep_pickup_datetime,total_amount\n1,2024-01-01 00:00:00,2.5\n2,2024-01-02 00:00:00,3.5\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# Before anything imports Prefect, which reads its settings then: neither the user's profile nor
# the user's own local stack may take part.
_HOME = Path(tempfile.mkdtemp(prefix="ti-"))
for _name in [name for name in os.environ if name.startswith(("PREFECT_", "TAXI_INGEST_", "PG"))]:
    del os.environ[_name]
os.environ |= {
    "PREFECT_HOME": str(_HOME / "prefect-home"),
    "TAXI_INGEST_HOME": str(_HOME / "home"),
    "TAXI_INGEST_CACHE_DIR": str(_HOME / "cache"),
    "TAXI_INGEST_DOWNLOAD_TRIES": "2",
    "TAXI_INGEST_PREFECT_PORT": str(free_port()),
}


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
    return stack.launch_prefect(settings).wait()


@pytest.fixture(scope="session")
def embedded_url(settings: Settings) -> str:
    return stack.start_database(settings)


@pytest.fixture(scope="session")
def system_url() -> Iterator[str]:
    """A server of the machine's own Postgres, on TCP and with a password."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb") or "/none")
    ]
    if not found[-1].exists():
        pytest.skip("no Postgres server is installed on this machine")
    folder = Path(tempfile.mkdtemp(prefix="ti-pg-"))
    give_to_account(folder)
    password = folder / "password"
    password.write_text(PASSWORD)
    give_to_account(password)
    data, port = folder / "data", free_port()
    run = {**as_account(), "check": True, "stdout": subprocess.DEVNULL}
    binaries = found[-1].parent
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password],
        **run,
    )
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run(
        [binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **run
    )
    yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
    subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
    shutil.rmtree(folder, ignore_errors=True)


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
    yield join_dsn("", {**parse_dsn(server), "dbname": name}, None)
    execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Database:
    return database_at(database_url)


@pytest.fixture
def embedded_database(embedded_database_url: str) -> Database:
    return database_at(embedded_database_url)


def execute(url: str, *statements: str) -> None:
    """Execute statements in one session, each committed at once."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


Query = Callable[[str], list[tuple[object, ...]]]


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall()
    connection.close()
    return rows


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A real HTTP server for the files in the test's folder."""
    with serve(tmp_path) as server:
        yield server


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    """A small CSV of the green dataset, with two trips."""
    path = tmp_path / "green_tripdata_2024-01.csv"
    path.write_text(TRIPS)
    return path


@pytest.fixture
def cli(prefect_server: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `taxi-ingest` as a user would, with the local Prefect server up."""
    del prefect_server
    return run_cli


def run_cli(
    *arguments: object, env: dict[str, str] | None = None, input: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("taxi-ingest"), *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=120,
    )


@pytest.fixture(scope="session")
def system_full_tablespace(system_url: str) -> Iterator[str]:
    """A tablespace of 12 MB on the machine's Postgres."""
    folder = Path(tempfile.mkdtemp(prefix="ti-full-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    give_to_account(folder)
    execute(system_url, f"CREATE TABLESPACE small LOCATION '{folder}'")
    yield "small"
    execute(system_url, "DROP TABLESPACE IF EXISTS small")
    subprocess.run(["umount", folder], check=False)
    folder.rmdir()
