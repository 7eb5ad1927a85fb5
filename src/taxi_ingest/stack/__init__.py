"""The local stack: an embedded Postgres and a Prefect server, started on demand and left running.

url = start_database(settings)      # a libpq URL that psycopg2 and psql understand
server = launch_prefect(settings)   # returns at once ...
api_url = server.wait()             # ... and this when it answers; requests to it need server.key
status(settings), stop(settings)

Who uses it, `stop` learns from files: a load has one in `settings.home/loads` while it runs. It holds the
table's name and is locked, so that it says nothing any more once its process is gone. It is renamed to tell
the load that the stack was stopped under it, and not to start it again.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from taxi_ingest.errors import DatabaseError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack import prefect_server, removal, tcp
from taxi_ingest.stack.postgres import (
    database_status,
    is_embedded,
    psql_command,
    psql_program,
    renew_password,
    runs_otherwise,
    start_database,
    stop_database,
)
from taxi_ingest.stack.prefect_server import (
    PrefectServer,
    keep_for,
    prefect_key,
    prefect_runs_otherwise,
    prefect_status,
    stop_prefect,
)
from taxi_ingest.stack.removal import Removal, planned_removal
from taxi_ingest.stack.residents import ServiceStatus, lock, private_folder
from taxi_ingest.stack.tcp import Ways, ways

__all__ = [
    "PrefectServer",
    "Removal",
    "ServiceStatus",
    "StackStatus",
    "Ways",
    "database_status",
    "enter",
    "is_embedded",
    "keep_for",
    "launch_as_set",
    "launch_prefect",
    "planned_removal",
    "prefect_key",
    "prefect_status",
    "psql_command",
    "psql_program",
    "remove",
    "set_port",
    "start_as_set",
    "start_database",
    "status",
    "stop",
    "stop_database",
    "stop_prefect",
    "use_of_stack",
    "ways",
]

_ENDING_SECONDS = 20
_RUNNING, _ENDED = ".running", ".ended"
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class StackStatus:
    """Both servers of the local stack."""

    database: ServiceStatus
    prefect: ServiceStatus
    ended: tuple[str, ...] = ()
    """The tables of loads that a stop by force has ended."""


def status(settings: Settings) -> StackStatus:
    """Look at the local stack without starting anything; never raises."""
    return StackStatus(database_status(settings), prefect_status(settings))


def stop(
    settings: Settings, force: bool = False, on_wait: Callable[[list[str]], None] = lambda _: None
) -> StackStatus:
    """Stop both servers, as far as we started them, wait for their end, and return what was running.

    Loads that use them are waited for, and `on_wait` is told their tables; with `force` they fail, each
    with a DatabaseError. Raises DatabaseError or PrefectError if a server doesn't end.
    """
    with without_loads(settings, force, on_wait) as ended:
        return _stop(settings, ended)


def remove(
    settings: Settings,
    force: bool = False,
    on_wait: Callable[[list[str]], None] = lambda _: None,
    everything: bool = False,
) -> tuple[StackStatus, Removal]:
    """Stop both servers as `stop` does, and take away for good all that they keep in the home folder.

    With `everything` the downloads go, too, and whatever else there is of ours outside of databases. Returns
    what was running, and what was taken away.
    """
    if not (planned := planned_removal(settings, everything)).parts:
        return status(settings), planned
    with without_loads(settings, force, on_wait) as ended:
        before = _stop(settings, ended)
        return before, removal.remove(settings, lambda: _runs(settings), everything)


def _runs(settings: Settings) -> bool:
    now = status(settings)
    return now.database.pid is not None or now.prefect.pid is not None


def _stop(settings: Settings, ended: list[str]) -> StackStatus:
    try:
        database = stop_database(settings)
        # They have lost their connections now, and tell Prefect how they ended.
        _wait_for_ended(settings, _ENDING_SECONDS)
    finally:
        prefect = stop_prefect(settings)
    return StackStatus(database, prefect, tuple(ended))


def set_port(settings: Settings, port: int | None) -> None:
    """Have the local database listen on a port of 127.0.0.1 at all starts to come, or with None on none.

    Raises UsageError where the environment sets another, DatabaseError where the port is taken.
    """
    if port and port != database_status(settings).port:
        tcp.check_free(port)
    tcp.keep_port(settings, port)


def start_as_set(settings: Settings, on_wait: Callable[[list[str]], None] = lambda _: None) -> str:
    """Start the local database, also anew where it `runs_otherwise` than is set; return its libpq URL.

    Loads that use it are waited for before it is stopped, and `on_wait` is told their tables; other
    sessions end. Raises DatabaseError as `start_database` does.
    """
    if not runs_otherwise(settings):
        url = start_database(settings)
        renew_password(settings)
        return url
    port = tcp.wanted_port(settings)
    if port and port != database_status(settings).port:
        tcp.check_free(port)
    with without_loads(settings, False, on_wait):
        stop_database(settings)
        return start_database(settings)


def launch_prefect(settings: Settings) -> PrefectServer:
    """Start the local Prefect server unless one runs, and return at once (see prefect_server.py).

    One that runs from before an upgrade, or is to keep its history otherwise, is started anew, unless a load
    uses it.
    """
    renew = bool(prefect_runs_otherwise(settings)) and not _loads(settings)
    return prefect_server.launch_prefect(settings, renew)


def launch_as_set(settings: Settings, on_wait: Callable[[list[str]], None] = lambda _: None) -> PrefectServer:
    """The same, but loads that use it are waited for; `on_wait` is told their tables."""
    if not prefect_runs_otherwise(settings):
        return prefect_server.launch_prefect(settings)
    with without_loads(settings, False, on_wait):
        return prefect_server.launch_prefect(settings, renew=True)


def _loads(settings: Settings) -> dict[Path, str]:
    with _registering(settings):
        return _live(settings, _RUNNING)


class _Use:
    """A load's use of the local stack, which begins when it first enters."""

    def __init__(self, table: str, settings: Settings) -> None:
        self._table, self._settings = table, settings
        self._path: Path | None = None
        self._descriptor = -1

    def enter(self) -> None:
        if self._path is None:
            self._begin()
        elif not self._path.exists():
            raise DatabaseError(
                "The local stack was stopped while the load ran (taxi-ingest down --force).",
                "Nothing is half-loaded; run the same command again, which starts the stack.",
            )

    def _begin(self) -> None:
        with _registering(self._settings):
            self._descriptor, name = tempfile.mkstemp(suffix=_RUNNING, dir=_loads_folder(self._settings))
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, self._table.encode(errors="replace"))
            self._path = Path(name)

    def leave(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(_ENDED).unlink(missing_ok=True)
            os.close(self._descriptor)


_use: ContextVar[_Use | None] = ContextVar("use", default=None)


@contextmanager
def use_of_stack(table: str, settings: Settings) -> Iterator[None]:
    """A load into `table`, which enters the local stack if it needs it."""
    use = _Use(table, settings)
    token = _use.set(use)
    try:
        yield
    finally:
        _use.reset(token)
        use.leave()


def enter() -> None:
    """In a load, tell `down` that it needs the local stack from now on; elsewhere nothing.

    From the second time on, see that the load may go on: raises DatabaseError where `down` has ended it.
    """
    if use := _use.get():
        use.enter()


@contextmanager
def without_loads(
    settings: Settings, force: bool, on_wait: Callable[[list[str]], None]
) -> Iterator[list[str]]:
    """Wait until no load uses the local stack or, with `force`, end their use; none begins inside.

    `on_wait` is told the tables of those waited for, whenever they change. Yields the tables of those ended.
    """
    if not settings.home.expanduser().is_dir():
        yield []
        return
    told: list[str] = []
    while True:
        with _registering(settings):
            loads = _live(settings, _RUNNING)
            if force or not loads:
                for path in loads:
                    with suppress(FileNotFoundError):
                        path.rename(path.with_suffix(_ENDED))
                yield sorted(loads.values())
                return
        if (tables := sorted(loads.values())) != told:
            on_wait(tables)
            told = tables
        time.sleep(_PAUSE_SECONDS)


def _wait_for_ended(settings: Settings, seconds: float) -> None:
    """Give the loads whose use was ended some seconds to notice, and to tell Prefect."""
    deadline = time.monotonic() + seconds
    while _live(settings, _ENDED) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)


def _live(settings: Settings, suffix: str) -> dict[Path, str]:
    """The files of loads whose process lives, and their tables; those of killed ones are removed."""
    found = {}
    for path in _loads_folder(settings).glob(f"*{suffix}"):
        try:
            with path.open("r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found[path] = file.read().decode(errors="replace")
                else:
                    path.unlink()
        except FileNotFoundError:
            continue
        except PermissionError:
            found[path] = "of another user's"
    return found


def _registering(settings: Settings) -> AbstractContextManager[None]:
    private_folder(_loads_folder(settings), DatabaseError)
    return lock(_loads_folder(settings) / "lock", DatabaseError)


def _loads_folder(settings: Settings) -> Path:
    return settings.home.expanduser().resolve() / "loads"
