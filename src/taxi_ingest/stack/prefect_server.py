"""A resident Prefect server on 127.0.0.1, its SQLite and its log under `settings.home/prefect`.

`server.json` there remembers the process that we started. Whatever else answers on the port was
started by someone else: a Prefect server is used and never stopped, any other program is an error.
Nothing here imports Prefect, which takes a second.
"""

import http.client
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import psutil

from taxi_ingest.errors import PrefectError
from taxi_ingest.settings import Settings
from taxi_ingest.stack.residents import (
    ServiceStatus,
    command_line,
    ends,
    environment,
    lock,
    private_folder,
    process,
    tail,
)

_APP = "prefect.server.api.server:create_app"
_STOP_SECONDS = 15


class _Listener(Enum):
    """Who answers on a port."""

    NOBODY = "nobody"
    PREFECT = "a Prefect server"
    OTHER = "another program"


@dataclass(frozen=True)
class _Record:
    """The server that we started: its process (pid and time of creation, as pids are recycled) and port."""

    pid: int
    created: float
    port: int

    def process(self) -> psutil.Process | None:
        """Our server's process if it still lives; never one that merely has the same pid."""
        found = process(self.pid)
        if found is None or _APP not in command_line(found):
            return None
        # The kernel's idea of when it booted moves with the clock, and creation times with it.
        return found if abs(found.create_time() - self.created) < 2 else None


@dataclass(frozen=True)
class PrefectServer:
    """A local Prefect server that runs or is starting; `pid` is None if someone else started it."""

    port: int
    pid: int | None
    log: Path

    @property
    def address(self) -> str:
        """Its dashboard's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.address}/api"

    def answers(self) -> bool:
        """Whether it is up by now."""
        return _listener(self.port, timeout_seconds=2) is _Listener.PREFECT

    def wait(self, timeout_seconds: float = 60) -> str:
        """Wait until the server answers, and return its API's URL.

        Raises PrefectError with the end of its log if it ends before that or takes longer.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            ended = self.pid is not None and process(self.pid) is None
            listener = _listener(self.port, timeout_seconds=2)
            if listener is _Listener.PREFECT:
                return self.api_url
            if ended:
                raise _port_taken(self.port) if listener is _Listener.OTHER else self._failure("ended")
            time.sleep(0.05)
        raise self._failure(f"did not answer within {timeout_seconds:g} seconds")

    def _failure(self, what: str) -> PrefectError:
        end = tail(self.log)
        reason = end.splitlines()[-1].strip() if end else "its log is empty, as on a full disk"
        return PrefectError(
            f"The local Prefect server {what} while it was starting: {reason}",
            f"If its database is broken, move {self.log.with_name('prefect.db')} away (it holds the history"
            f" of runs and the blocks) and try again. The log {self.log} ends with:\n{end}",
        )


def launch_prefect(settings: Settings) -> PrefectServer:
    """Start the local Prefect server in the background unless one runs, and return at once.

    The server listens some three seconds later, at its very first start ten: `wait()` for it. Raises
    PrefectError if the port is taken by another program or the folder can't be written.
    """
    folder = _folder(settings)
    log = folder / "server.log"
    with lock(folder.parent / "prefect.lock", PrefectError):
        # Prefect puts a lock file into the dashboard's folder, but doesn't make that.
        private_folder(folder / "dashboard", PrefectError)
        record = _read_record(folder)
        if record and record.process():
            return PrefectServer(record.port, record.pid, log)
        listener = _listener(settings.prefect_port, timeout_seconds=2)
        if listener is _Listener.OTHER:
            raise _port_taken(settings.prefect_port)
        if listener is _Listener.PREFECT:
            return PrefectServer(settings.prefect_port, None, log)
        try:
            record = _spawn(folder, settings.prefect_port, log)
        except OSError as problem:
            raise PrefectError(
                f"The local Prefect server could not be started: {problem}.",
                f"Check that the disk isn't full and that you may write to {folder}.",
            ) from problem
    return PrefectServer(record.port, record.pid, log)


def prefect_status(settings: Settings) -> ServiceStatus:
    """Look whether the local Prefect server runs, without starting it; never raises."""
    record = _read_record(_folder(settings))
    if record and record.process():
        return _own_status(record, settings.prefect_port)
    server = PrefectServer(settings.prefect_port, None, _folder(settings) / "server.log")
    listener = _listener(server.port, timeout_seconds=0.2)
    if listener is _Listener.PREFECT:
        return ServiceStatus(server.api_url, True, None, "started by someone else")
    if listener is _Listener.OTHER:
        return ServiceStatus(server.api_url, False, None, f"port {server.port} is taken by another program")
    return ServiceStatus(server.api_url, False, None, "stale pid file" if record else "")


def stop_prefect(settings: Settings) -> ServiceStatus:
    """Stop the Prefect server that we started, wait for its end, and return what its status was.

    Raises PrefectError if it belongs to another user.
    """
    before = prefect_status(settings)
    folder = _folder(settings)
    if _read_record(folder) is None:
        return before
    with lock(folder.parent / "prefect.lock", PrefectError):
        record = _read_record(folder)
        if record and (running := record.process()):
            _terminate(running)
        (folder / "server.json").unlink(missing_ok=True)
    return before


def _own_status(record: _Record, wanted_port: int) -> ServiceStatus:
    listener = _listener(record.port, timeout_seconds=0.2)
    if listener is _Listener.NOBODY:
        note = "starting"
    elif listener is _Listener.OTHER:
        note = "does not answer"
    elif record.port != wanted_port:
        note = f"started on port {record.port}; `taxi-ingest down` first, to move it to {wanted_port}"
    else:
        note = ""
    url = PrefectServer(record.port, record.pid, Path()).api_url
    return ServiceStatus(url, listener is _Listener.PREFECT, record.pid, note)


def _folder(settings: Settings) -> Path:
    return settings.home.expanduser().resolve() / "prefect"


def _port_taken(port: int) -> PrefectError:
    return PrefectError(
        f"Port {port} of 127.0.0.1 is taken by a program that is no Prefect server.",
        "Set TAXI_INGEST_PREFECT_PORT to a free port, or end that program.",
    )


def _listener(port: int, timeout_seconds: float) -> _Listener:
    """Who listens on a port of 127.0.0.1: a Prefect server tells its version, a JSON string."""
    # No urllib: it would ask the proxy that the user's environment names.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", "/api/admin/version")
        version = json.loads(connection.getresponse().read(1000))
    except ConnectionRefusedError:
        return _Listener.NOBODY
    except (OSError, http.client.HTTPException, ValueError):
        return _Listener.OTHER
    finally:
        connection.close()
    return _Listener.PREFECT if isinstance(version, str) and version[:1].isdigit() else _Listener.OTHER


def _read_record(folder: Path) -> _Record | None:
    try:
        content = json.loads((folder / "server.json").read_text())
        return _Record(int(content["pid"]), float(content["created"]), int(content["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_record(folder: Path, record: _Record) -> None:
    unfinished = folder / "server.json.new"
    unfinished.write_text(json.dumps(asdict(record)))
    unfinished.replace(folder / "server.json")


def _spawn(folder: Path, port: int, log: Path) -> _Record:
    """Start the server in a session of its own, so that Ctrl-C in the user's terminal doesn't reach it."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            _command(port),
            cwd=folder.parent,
            env={**environment(), **_prefect_settings(folder, port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    record = _Record(started.pid, psutil.Process(started.pid).create_time(), port)
    _write_record(folder, record)
    return record


def _command(port: int) -> list[str]:
    """The command that `prefect server start --background` runs, bar its log level."""
    spec = find_spec("prefect")
    if spec is None or spec.origin is None:
        raise PrefectError("Prefect isn't installed.", "Install taxi-ingest again: it brings Prefect along.")
    # -P: the current folder holds a folder named prefect.
    command = [sys.executable, "-P", "-m", "uvicorn", "--app-dir", str(Path(spec.origin).parent.parent)]
    command += ["--factory", _APP, "--host", "127.0.0.1", "--port", str(port), "--lifespan", "on"]
    # An open dashboard holds connections, for which a server that stops would wait for ever.
    command += ["--log-level", "warning", "--timeout-keep-alive", "5", "--timeout-graceful-shutdown", "3"]
    return command


def _prefect_settings(folder: Path, port: int) -> dict[str, str]:
    """The server's settings; all but these are Prefect's defaults, whatever profile the user has."""
    api_url = PrefectServer(port, None, folder).api_url
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_UI_API_URL": api_url,
        # By default the dashboard is unpacked into the installed package, which may be read-only.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "dashboard"),
        # Neither the server nor the dashboard in the browser reports to anyone.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
        # By default any web page that the user opens could read this API, and so the blocks' secrets.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT__SERVER_FINAL": "1",
    }


def _terminate(running: psutil.Process) -> None:
    try:
        running.terminate()
        if not ends(running, _STOP_SECONDS):
            running.kill()
            ends(running, _STOP_SECONDS)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as problem:
        raise PrefectError(
            f"The local Prefect server (process {running.pid}) belongs to another user.",
            "Stop it as the user who started it.",
        ) from problem
