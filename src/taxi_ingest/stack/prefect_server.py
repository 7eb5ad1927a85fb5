"""A resident Prefect server on 127.0.0.1, its SQLite, its key and its log under `settings.home/prefect`.

`server.json` there remembers the process that we started. Only that process is trusted, and only while
it is the one that listens on the port: whatever else is there gets nothing from us, not even a request.
Nothing here imports Prefect, which takes a second.
"""

import html
import http.client
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil

from taxi_ingest.errors import PrefectError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack.logs import earlier
from taxi_ingest.stack.ports import is_taken, listens
from taxi_ingest.stack.prefect_app import LOGIN_PATH, LOOK
from taxi_ingest.stack.residents import (
    ServiceStatus,
    await_end,
    command_line,
    environment,
    home_folder,
    lock,
    make_secret,
    open_private,
    private_folder,
    process,
    read_secret,
    read_unfollowed,
    tail,
    write_private,
)

_APP = "taxi_ingest.stack.prefect_app:create_app"
_KEYLESS_APP = "prefect.server.api.server:create_app"
"""What versions before the key have started, and may have left running."""
_USUAL_KEEP_DAYS = 90
"""For how many days the history of runs is kept: as long as Prefect keeps it, where it is to forget any."""
_MOST_EVENT_DAYS = 7
"""For how long Prefect keeps events, of which a run has dozens, unless told."""
_STOP_SECONDS = 15
_ANSWER_SECONDS = 2
"""A server that has just begun is busy for a moment, and runs all the same."""
_LOCKED_SECONDS = 3


@dataclass(frozen=True)
class _Record:
    """The server that we started: its process, and how it was started."""

    pid: int
    port: int
    releases: str = ""
    """Of what it was started; empty for versions that did not write it down."""
    keep_days: int = _USUAL_KEEP_DAYS

    def process(self, folder: Path) -> psutil.Process | None:
        """Our server's process if it still lives; never one that merely has the same pid."""
        found = process(self.pid)
        arguments = command_line(found) if found else []
        is_server = {_APP, _KEYLESS_APP}.intersection(arguments) and str(self.port) in arguments
        if found is None or not is_server:
            return None
        with suppress(psutil.Error):
            if found.uids().real == os.geteuid() and found.cwd() == str(folder.parent):
                return found
        return None


@dataclass(frozen=True)
class PrefectServer:
    """The local Prefect server, which runs or is starting."""

    port: int
    pid: int
    log: Path
    key: str = field(repr=False)
    """What its API asks for. Whoever has it may do everything there, and read the blocks' passwords."""

    @property
    def dashboard_url(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}{LOOK}"

    @property
    def api_url(self) -> str:
        """Where Prefect's clients find it."""
        return f"http://127.0.0.1:{self.port}/api"

    def answers(self) -> bool:
        """Whether it is up by now."""
        found = process(self.pid)
        return found is not None and listens(found, self.port) and _is_healthy(self.port)

    def wait(self, timeout_seconds: float = 60) -> str:
        """Wait until the server answers, and return its API's URL.

        Raises PrefectError with the end of its log if it ends before that or takes longer.
        """
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            if self.answers():
                return self.api_url
            if process(self.pid) is None:
                raise _port_taken(self.port) if is_taken(self.port) else self._failure("ended")
            time.sleep(0.05)
        raise PrefectError(
            f"The local Prefect server has not answered within {timeout_seconds:g} s, and still starts.",
            f"Run the same command again in a minute. The log {self.log} may say more.",
        )

    def login_page(self) -> Path:
        """A page in the private folder that logs a browser in.

        A browser's command line can be read by every user of the machine, so the key is in this file only,
        and the browser sends it as a form: it gets into no address and no history.
        """
        page = self.log.with_name("login.html")
        url = f"http://127.0.0.1:{self.port}{LOGIN_PATH}"
        write_private(page, _LOGIN.format(url=url, key=html.escape(self.key)))
        return page

    def _failure(self, what: str) -> PrefectError:
        end = tail(self.log)
        reason = end.splitlines()[-1].strip() if end else "its log is empty, as on a full disk"
        return PrefectError(
            f"The local Prefect server {what} while it was starting: {reason}",
            f"If its database is broken, move {self.log.with_name('prefect.db')} away (it holds the history"
            f" of runs and the blocks) and try again. The log {self.log} ends with:\n{end}",
        )


_LOGIN = """\
<!DOCTYPE html><meta charset="utf-8"><title>taxi-ingest</title>
<form method="post" action="{url}"><input type="hidden" name="key" value="{key}">
<button>Open the dashboard</button></form>
<script>document.forms[0].submit()</script>
"""


def launch_prefect(settings: Settings, renew: bool = False) -> PrefectServer:
    """Start the local Prefect server in the background unless one runs, and return at once.

    With `renew` one that `runs_otherwise` is started anew. The server listens some three seconds later, at
    its very first start ten: `wait()` for it. Raises PrefectError if the port is taken by another program or
    the folder can't be written.
    """
    folder = _folder(settings)
    log = folder / "server.log"
    with lock(folder.parent / "prefect.lock", PrefectError):
        private_folder(folder, PrefectError).chmod(0o700)
        record = _read_record(folder)
        key = read_secret(folder / "key")
        if record and (running := record.process(folder)):
            if key and _APP in command_line(running) and not (renew and _otherwise(record, settings)):
                return PrefectServer(record.port, record.pid, log, key)
            _terminate(running)  # it knows no key, or one that is lost
        if is_taken(settings.prefect_port):
            raise _port_taken(settings.prefect_port)
        try:
            # Prefect puts a lock file into the dashboard's folder, but doesn't make that.
            private_folder(folder / "dashboard", PrefectError)
            key = key or make_secret(folder / "key")
            record = _spawn(folder, settings.prefect_port, log, key, kept_days(settings))
        except OSError as problem:
            raise PrefectError(
                f"The local Prefect server could not be started: {problem}.",
                f"Check that the disk isn't full and that you may write to {folder}.",
            ) from problem
    return PrefectServer(record.port, record.pid, log, key)


def prefect_status(settings: Settings) -> ServiceStatus:
    """Look whether the local Prefect server runs, without starting it; never raises."""
    folder = _folder(settings)
    record = _read_record(folder)
    if record and (running := record.process(folder)):
        return _own_status(record, running, settings)
    port = settings.prefect_port
    note = "stale pid file" if record else ""
    if is_taken(port):
        note = f"port {port} is taken by another program"
    return ServiceStatus(f"http://127.0.0.1:{port}/api", False, None, note)


def prefect_runs_otherwise(settings: Settings) -> str:
    """In what the server that runs is another than one that is started now would be; empty if in nothing."""
    folder = _folder(settings)
    record = _read_record(folder)
    return _otherwise(record, settings) if record and record.process(folder) else ""


def _otherwise(record: _Record, settings: Settings) -> str:
    if record.releases != _releases():
        return f"started before an upgrade, by {record.releases or 'an older version'}"
    days = kept_days(settings)
    return f"keeps runs for {record.keep_days} days, not {days} yet" if record.keep_days != days else ""


def _releases() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("taxi-ingest", "prefect"))


def kept_days(settings: Settings) -> int:
    """For how many days the local server keeps the history of runs."""
    try:
        return int(read_unfollowed(_days_file(settings)))
    except (OSError, ValueError):
        return _USUAL_KEEP_DAYS


def keep_for(settings: Settings, days: int) -> None:
    """Remember for how many days it is to keep them, from its next start on."""
    private_folder(home_folder(settings), PrefectError)
    write_private(_days_file(settings), f"{days}\n")


def _days_file(settings: Settings) -> Path:
    return home_folder(settings) / "prefect.keep_days"


def prefect_key(settings: Settings) -> str | None:
    """The key that the local server's API asks for, if there is one by now."""
    return read_secret(_folder(settings) / "key")


def prefect_database_is_locked(settings: Settings) -> bool:
    """Whether somebody keeps the local server's SQLite from being written, for seconds."""
    path = _folder(settings) / "prefect.db"
    if not path.exists():
        return False
    with closing(sqlite3.connect(path.as_uri() + "?mode=rw", uri=True, timeout=_LOCKED_SECONDS)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
    return False


def stop_prefect(settings: Settings) -> ServiceStatus:
    """Stop the Prefect server that we started, wait for its end, and return what its status was."""
    before = prefect_status(settings)
    folder = _folder(settings)
    if _read_record(folder) is None:
        return before
    with lock(folder.parent / "prefect.lock", PrefectError):
        record = _read_record(folder)
        if record and (running := record.process(folder)):
            _terminate(running)
        (folder / "server.json").unlink(missing_ok=True)
    return before


def _own_status(record: _Record, running: psutil.Process, settings: Settings) -> ServiceStatus:
    answers, wanted_port = False, settings.prefect_port
    if _KEYLESS_APP in command_line(running):
        note = "of an older version, without a key; the next run starts it anew"
    elif not listens(running, record.port):
        note = "starting"
    elif not (answers := _is_healthy(record.port)):
        note = "does not answer"
    elif record.port != wanted_port:
        note = f"started on port {record.port}; `taxi-ingest down` first, to move it to {wanted_port}"
    elif note := _otherwise(record, settings):
        note += "; the next load that finds no other under way starts it anew, or `taxi-ingest up` does"
    return ServiceStatus(f"http://127.0.0.1:{record.port}/api", answers, record.pid, note)


def _folder(settings: Settings) -> Path:
    return home_folder(settings) / "prefect"


# Who has the port


def _port_taken(port: int) -> PrefectError:
    return PrefectError(
        f"Port {port} of 127.0.0.1 is taken by a program that this taxi-ingest has not started; nothing was"
        " sent to it.",
        "Set TAXI_INGEST_PREFECT_PORT to a free port, or end that program. If it is a Prefect server of your"
        f" own that you want to use, set PREFECT_API_URL=http://127.0.0.1:{port}/api.",
    )


def _is_healthy(port: int) -> bool:
    """Whether a server of ours takes requests; this one needs no key."""
    # No urllib: it would ask the proxy that the user's environment names.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# Its files


def _read_record(folder: Path) -> _Record | None:
    try:
        content = json.loads((folder / "server.json").read_text())
        releases, keep_days = content.get("releases", ""), content.get("keep_days", _USUAL_KEEP_DAYS)
        return _Record(int(content["pid"]), int(content["port"]), str(releases), int(keep_days))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _spawn(folder: Path, port: int, log: Path, key: str, keep_days: int) -> _Record:
    """Start the server in a session of its own, so that Ctrl-C in the user's terminal doesn't reach it."""
    with suppress(FileNotFoundError):
        # It may say why the last one ended.
        log.replace(earlier(log))
    output = open_private(log, os.O_WRONLY | os.O_APPEND)
    try:
        started = subprocess.Popen(
            _command(port),
            cwd=folder.parent,
            env={**environment(), **_prefect_settings(folder, port, key), **_retention(keep_days)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(output)
    record = _Record(started.pid, port, _releases(), keep_days)
    write_private(folder / "server.json", json.dumps(asdict(record)))
    return record


def _command(port: int) -> list[str]:
    """The command that `prefect server start --background` runs, bar its log level, and with our guard."""
    spec = find_spec("prefect")
    if spec is None or spec.origin is None:
        raise PrefectError("Prefect isn't installed.", "Install taxi-ingest again: it brings Prefect along.")
    # -P: the current folder holds a folder named prefect.
    command = [sys.executable, "-P", "-m", "uvicorn", "--app-dir", str(Path(spec.origin).parent.parent)]
    command += ["--factory", _APP, "--host", "127.0.0.1", "--port", str(port), "--lifespan", "on"]
    # An open dashboard holds connections, for which a server that stops would wait for ever.
    command += ["--log-level", "warning", "--timeout-keep-alive", "5", "--timeout-graceful-shutdown", "3"]
    return command


def _prefect_settings(folder: Path, port: int, key: str) -> dict[str, str]:
    """The server's settings; all but these are Prefect's defaults, whatever profile the user has."""
    api_url = f"http://127.0.0.1:{port}/api"
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        # From the process's current folder on: whatever the home is called, no URL has to spell it.
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder.name}/prefect.db",
        "PREFECT_API_URL": api_url,
        # In the environment, which only its owner may read, and never on the command line.
        "PREFECT_SERVER_API_AUTH_STRING": key,
        "PREFECT_API_AUTH_STRING": key,
        "PREFECT_SERVER_UI_API_URL": api_url,
        # By default the dashboard is unpacked into the installed package, which may be read-only.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder / "dashboard"),
        # By default a restart forgets who holds a slot of a concurrency limit, and it stays taken for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # By default each state of each task run is a transaction of its own.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
        # A call that is answered 503 costs its caller seconds: the log tells why.
        "PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true",
        # Neither the server nor the dashboard in the browser reports to anyone.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
        # By default any web page that the user opens could read this API, and so the blocks' secrets.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT__SERVER_FINAL": "1",
    }


def _retention(keep_days: int) -> dict[str, str]:
    """Have the server delete, each hour, the runs that ended before that, with all that belongs to them.

    By default it keeps runs for ever (https://docs.prefect.io/v3/advanced/database-maintenance).
    """
    vacuum = "PREFECT_SERVER_SERVICES_DB_VACUUM"
    return {
        f"{vacuum}_ENABLED": "events,flow_runs",
        f"{vacuum}_RETENTION_PERIOD": str(keep_days * 24 * 60 * 60),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{min(keep_days, _MOST_EVENT_DAYS)}D",
    }


def _terminate(running: psutil.Process) -> None:
    for end in (running.terminate, running.kill):
        with suppress(psutil.NoSuchProcess):
            end()
        if not await_end([running], _STOP_SECONDS):
            return
