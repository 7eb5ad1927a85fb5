"""What tests do over and over: run the command line, ask Postgres, load a file, wait for something."""

import atexit
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

from ports import free_port
from taxi_ingest.load import Database, LoadProgress, LoadResult, Preview, load_file, parse_target, preview
from taxi_ingest.load.database import join_dsn
from taxi_ingest.settings.job import Job, Names
from taxi_ingest.sources import SourceFile, local_file
from taxi_ingest.stack.account import as_account, give_to_account
from taxi_ingest.transform import Stream, open_stream
from warm import warmed

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
PASSWORD = "geheim-7391"
"""That of the machine's own Postgres."""
PROGRAM = str(Path(sys.executable).with_name("taxi-ingest"))

Cli = Callable[..., subprocess.CompletedProcess[str]]
Publish = Callable[..., Path]
Rows = list[tuple[Any, ...]]
Result = TypeVar("Result")


# The environment

_USUAL: dict[str, str] = {}


def set_up_environment(home: Path) -> None:
    """Neither the user's Prefect profile nor the user's own local stack may take part.

    To be called before anything imports Prefect, which reads its settings then.
    """
    clouds = ("GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_", "BIGQUERY_", "AWS_", "AZURE_")
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "TAXI_INGEST_", "PG", *clouds))]:
        del os.environ[name]
    os.environ |= {
        "PREFECT_HOME": str(home / "prefect-home"),
        "TAXI_INGEST_HOME": str(home / "home"),
        "TAXI_INGEST_CACHE_DIR": str(home / "cache"),
        "TAXI_INGEST_DOWNLOAD_TRIES": "2",
        "TAXI_INGEST_PREFECT_PORT": str(free_port()),
        # Nor may the user's clouds.
        "CLOUDSDK_CONFIG": str(home / "gcloud"),
        "AWS_CONFIG_FILE": str(home / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "True",
    }
    _USUAL.update(os.environ)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at a folder; the test is skipped where that is not permitted."""
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _quick() -> str | None:
    with suppress(OSError):
        if shutil.disk_usage("/dev/shm").free > 6 * 2**30:
            return "/dev/shm"
    return None


QUICK = _quick()
"""Where servers' folders are: in memory, if there is room, which makes a database in a tenth of the time."""


# Processes


def run_cli(
    *arguments: object,
    env: dict[str, str] | None = None,
    input: str | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run `taxi-ingest` to its end; without its imports, unless those would be others than ours."""
    return run_program(*arguments, env=env, input=input, cwd=cwd, timeout=timeout, program=_quick_program())


@cache
def _quick_program() -> str:
    lasting = ExitStack()
    atexit.register(lasting.close)
    return str(lasting.enter_context(warmed(PROGRAM, _USUAL, Path.cwd())))


def run_program(
    *arguments: object,
    env: dict[str, str] | None = None,
    input: str | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
    program: str = PROGRAM,
) -> subprocess.CompletedProcess[str]:
    """Run `taxi-ingest` to its end, from the start of Python on."""
    return subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=timeout,
    )


def start_cli(
    *arguments: object,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stderr: int | None = None,
    program: str = PROGRAM,
) -> "subprocess.Popen[str]":
    """Start `taxi-ingest`; what it prints is in pipes, but for a `stderr` that is given."""
    return subprocess.Popen(
        [program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if stderr is None else stderr,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


def on_terminal(
    *arguments: object, columns: int, env: dict[str, str] | None = None, plain: bool = True
) -> tuple[int, str, str]:
    """Run `taxi-ingest` with its stderr on a terminal: the exit code, what that has shown, and stdout.

    `plain` is without what the terminal obeys.
    """
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {**(env or {}), "TERM": "xterm-256color"}
    process = start_cli(*arguments, env=env, stderr=terminal, program=_quick_program())
    os.close(terminal)
    shown = b""
    # Linux's way to say that the other end is closed.
    with suppress(OSError):
        while part := os.read(main, 65536):
            shown += part
    os.close(main)
    stdout, _ = process.communicate(timeout=60)
    seen = shown.decode()
    return process.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen) if plain else seen, stdout


def run_python(
    code: str, *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python of its own, to its end; `env` is all of its environment."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


# Waiting


def until(
    condition: Callable[[], object],
    told: Callable[[], object] = lambda: "",
    process: "subprocess.Popen[str] | None" = None,
) -> None:
    """Wait until a condition holds; fail after 100 s with what is `told`, or if a process has ended."""
    deadline = time.monotonic() + 100
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


class Background(Generic[Result]):
    """A load, or other work, in a thread; its result or its error."""

    def __init__(self, act: Callable[[], Result]) -> None:
        self.results: list[Result | BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()

    def _run(self, act: Callable[[], Result]) -> None:
        try:
            self.results.append(act())
        except BaseException as error:
            self.results.append(error)

    def result(self, seconds: float = 60) -> Result:
        self._thread.join(seconds)
        [result] = self.results
        if isinstance(result, BaseException):
            raise result
        return result


# Postgres

COPYING = "query LIKE 'COPY%'"
WAITING = "wait_event_type = 'Lock'"
WAITING_FOR_A_LOAD = "wait_event = 'advisory'"
"""States of a session."""


def execute(url: str, *statements: str) -> None:
    """Execute statements in one session, each committed at once."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def query(url: str, statement: str) -> Rows:
    """Its rows; what it changed is committed."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def value(url: str, statement: str) -> Any:
    """The one value of the one row of a query."""
    [[value]] = query(url, statement)
    return value


def held(url: str, statement: str) -> Connection:
    """A session in whose transaction this has been executed; it holds its locks until it is closed."""
    connection = psycopg2.connect(url)
    connection.cursor().execute(statement)
    return connection


def url_with(url: str, **parts: str) -> str:
    """A database's address with other parts: `dbname`, `user`, `password`, `host`, `port`."""
    return join_dsn("", {**parse_dsn(url), **parts}, None)


def sessions(url: str, condition: str) -> int:
    """How many sessions of this database are in a state."""
    return int(
        value(
            url,
            "SELECT count(*) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}",
        )
    )


def until_session(url: str, condition: str) -> None:
    """Wait until a session of this database is in a state."""
    until(lambda: sessions(url, condition), lambda: condition)


def end_copies(url: str) -> None:
    """Cut off whoever is copying into this database, as an administrator can."""
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND {COPYING}",
    )


def exists(url: str, table: str) -> bool:
    return bool(value(url, f"SELECT to_regclass('{table}') IS NOT NULL"))


@contextmanager
def own_postgres(address: str = "127.0.0.1", clients: str = "127.0.0.1/32") -> Iterator[str]:
    """A server of the machine's own Postgres, at an address of TCP, for these clients and with a password."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(shutil.which("initdb") or "/none")
    ]
    if not found[-1].exists():
        pytest.skip("no Postgres server is installed on this machine")
    folder = Path(tempfile.mkdtemp(prefix="ti-pg-", dir=QUICK))
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
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"host all all {clients} scram-sha-256\n")
    options = f"-c listen_addresses={address} -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run(
        [binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **run
    )
    try:
        yield f"postgresql://postgres:{PASSWORD}@{address}:{port}/postgres"
    finally:
        subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder, ignore_errors=True)


# Loads


def loaded(
    file: Path | SourceFile,
    database: Database,
    table: str = "trips",
    *,
    stream: Stream | None = None,
    chunk_size: int = 2,
    names: Names = "tlc",
    flow_run_url: str | None = None,
    on_progress: Callable[[LoadProgress], None] = lambda _: None,
    **how: Any,
) -> LoadResult:
    """Load a file through the library; `how` are its other options."""
    source = file if isinstance(file, SourceFile) else local_file(str(file))
    return load_file(
        stream or open_stream(source.path, source.name, chunk_size, names=names),
        source,
        parse_target(table),
        database,
        Job(source.url, table, **how),
        flow_run_url=flow_run_url,
        on_progress=on_progress,
    )


def together(url: str, connections: int) -> Callable[[LoadProgress], None]:
    """Lets a load go on only when so many of its connections copy, so that each gets rows."""

    begun = threading.Event()

    def wait(_: LoadProgress) -> None:
        if not begun.is_set():
            until(lambda: sessions(url, COPYING) >= connections)
            begun.set()
        # So that the others have their turn.
        time.sleep(0.005)

    return wait


def looked_ahead(path: Path, database: Database, table: str = "trips", **how: Any) -> Preview:
    """What the library says would become of a file; `how` as for `loaded`."""
    stream = open_stream(path, path.name, 2)
    return preview(stream, local_file(str(path)), parse_target(table), database, Job(str(path), table, **how))


def totals(url: str, table: str = "trips") -> list[object]:
    """What each trip of a table has cost, in order."""
    return [amount for (amount,) in query(url, f"SELECT total_amount FROM {table} ORDER BY 1")]


def said(log: pytest.LogCaptureFixture) -> list[str]:
    """What load/ has told in log lines."""
    return [record.getMessage() for record in log.records if record.name.startswith("taxi_ingest.load")]
