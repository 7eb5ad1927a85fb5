"""How a flow is called: against which Prefect, by whom, and where Prefect's log lines go.

Which Prefect: the user's own API, or the local stack's server. A `Caller` brings what a flow parameter, which
Prefect stores, can't be.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from traceback import walk_tb
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.logging.configuration import setup_logging
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_UI_URL,
    temporary_settings,
)
from rich.console import Console
from rich.text import Text

from taxi_ingest import stack
from taxi_ingest.errors import PrefectError, printable, printable_lines, without_login
from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded, Outcome
from taxi_ingest.load import Database, LoadProgress
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import DownloadProgress, SourceFile
from taxi_ingest.stack.prefect_server import prefect_status


def own_api_url() -> str | None:
    """The API that the user's Prefect profile, `PREFECT_API_URL` or project files name, if any."""
    return PREFECT_API_URL.value() or None


def uses_local_server(settings: Settings) -> bool:
    """Whether flows run against the local stack's server."""
    return own_api_url() == prefect_status(settings).address


@contextmanager
def prefect_api(settings: Settings, server: stack.PrefectServer | None = None) -> Iterator[str]:
    """Run flows with these settings against the user's own API, else the local server, started if needed.

    Yields the API's URL. `server` is the local one where the caller launched it beforehand. Raises
    PrefectError where the API can't be reached or breaks off.
    """
    own = own_api_url()
    updates = {} if own else _local_settings(server or stack.launch_prefect(settings))
    with temporary_settings(updates), calling(settings=settings), failures_explained():
        if own:
            _check_reachable(own)
        yield own or str(updates[PREFECT_API_URL])


def restart_local_server(settings: Settings) -> bool:
    """Start the local server again where it is gone and flows run against it; whether it answers now."""
    if not uses_local_server(settings):
        return False
    return stack.launch_prefect(settings).wait() == own_api_url()


@dataclass(frozen=True)
class Dashboard:
    """Where the flows' runs are shown."""

    url: str
    login_page: Path | None
    """A local file that opens it logged in; None for a dashboard that isn't ours."""


def dashboard(settings: Settings) -> Dashboard:
    """The dashboard that shows the flows' runs; the local server is started if needed."""
    if own_api_url():
        return Dashboard(str(PREFECT_UI_URL.value() or "").rstrip("/"), None)
    server = stack.launch_prefect(settings)
    server.wait()
    return Dashboard(server.dashboard_url, server.login_page())


def _local_settings(server: stack.PrefectServer) -> dict[Any, str | None]:
    api_url = server.wait()
    _spare_proxies(f"127.0.0.1:{server.port}")
    return {
        PREFECT_API_URL: api_url,
        PREFECT_API_AUTH_STRING: server.key,
        # A key of the user's for another API is not the local one's business.
        PREFECT_API_KEY: None,
        PREFECT_UI_URL: api_url.removesuffix("/api"),
        # A heartbeat's thread is joined in whole seconds: each flow would last at least one.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }


def _spare_proxies(place: str) -> None:
    """Keep what this process sends to the local server from the proxies that the environment names.

    For the whole process, as Prefect sends logs and events from threads that outlive the flow, and reads
    the environment for each connection. Both spellings are set, since the lower-case one wins.
    """
    spared = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    if place not in spared.split(","):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{spared},{place}".lstrip(",")


def _check_reachable(api_url: str) -> None:
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
    if failure is not None:
        raise PrefectError(
            f"Prefect's API at {api_url} can't be reached.",
            "Start that server, or unset PREFECT_API_URL (or the profile's) to use the local stack.",
        ) from failure


@contextmanager
def failures_explained() -> Iterator[None]:
    """Raise PrefectError for what Prefect's client raises where its API can't be reached or breaks off."""
    try:
        yield
    except Exception as error:
        if not _is_prefects(error):
            raise
        raise PrefectError(
            f"Prefect refused: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}",
            "Is its server still running? `taxi-ingest status` tells of the local one.",
        ) from error


def _is_prefects(error: Exception) -> bool:
    """Whether Prefect has raised it. Its client tells by a bare RuntimeError that an API can't be used."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    by_client = str(frame.f_globals["__name__"]).startswith("prefect.client.")
    return isinstance(error, PrefectException | httpx.HTTPError) or (
        by_client and isinstance(error, RuntimeError)
    )


@dataclass(frozen=True)
class Caller:
    """The caller's settings, and how it follows the flow."""

    settings: Settings | None = None
    """Secrets included; None for those of the environment."""
    database: Database | None = None
    """The database of a parent flow, which has chosen it, and has said which tables are loaded, for all of
    its children."""
    tags: frozenset[str] = frozenset()
    """The flow run's, and not its tasks'."""
    load: str = ""
    """Which of several loads it is that runs here (`yellow 2019-01`); empty for the only one."""
    on_download: Callable[[str, DownloadProgress], None] = lambda _, __: None
    """Told of which load the file is, and how far it has come."""
    on_load: Callable[[str, SourceFile, LoadProgress], None] = lambda _, __, ___: None
    on_plan: Callable[[Mapping[str, int | None]], None] = lambda _: None
    """Told what is going to be loaded: the names of all loads, with the rows that each is known to have."""
    on_end: Callable[[str, Outcome | NotLoaded], None] = lambda _, __: None
    """Told what has become of one of several loads, and its name."""
    on_outcome: Callable[[Outcome | BackfillOutcome], None] = lambda _: None
    """Told when all is committed, before Prefect is told."""
    prefetched: Mapping[str, Future[SourceFile | None]] = field(default_factory=dict)
    """Downloads that were begun before the flow, by the address that the ledger knows."""


_NOBODY = Caller()
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def caller() -> Caller:
    """The caller of the flow that runs now."""
    return _caller.get()


def settings_in_use() -> Settings:
    """The caller's settings, else those of the environment."""
    return caller().settings or Settings()


@contextmanager
def calling(**changes: Any) -> Iterator[None]:
    """Call flows inside this context as the same caller but for these fields."""
    token = _caller.set(replace(caller(), **changes))
    try:
        yield
    finally:
        _caller.reset(token)


_SHOWN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "taxi_ingest")


FOR_ALL = {"for_all": True}
"""Of a log line's `extra`: it is shown to whoever watches, where others of its level are only with `-v`."""


class PrefectLogHandler(logging.Handler):
    """Prefect's log lines on our console, above the live bar instead of through it: warnings, or all.

    A failed run's traceback stays in Prefect's own log: the command line says the error once.
    """

    def __init__(self, console: Console, verbose: bool = False) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._least = logging.INFO if verbose else logging.WARNING

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or not record.name.startswith(_SHOWN_LOGGERS):
            return
        if record.levelno < self._least and not hasattr(record, "for_all"):
            return
        form = "%H:%M:%S" if self._console.is_terminal else "%Y-%m-%d %H:%M:%S"
        moment = time.strftime(form, time.localtime(record.created))
        task, flow = getattr(record, "task_name", None), getattr(record, "flow_name", None)
        run = caller().load or task or flow or "prefect"
        message = printable_lines(without_login(record.getMessage()))
        line = Text.assemble((f"{moment} ", "dim"), (f"{printable(run):<14} ", "cyan"), message)
        self._console.print(line, soft_wrap=True)


def show_prefect_logs(console: Console, quiet: bool, verbose: bool = False) -> None:
    """Send Prefect's log lines to `console`, warnings or all, or nowhere."""
    setup_logging()
    # Else Prefect complains on stderr, past all handlers, of log lines that it could not send.
    logging.raiseExceptions = False
    handler = logging.NullHandler() if quiet else PrefectLogHandler(console, verbose)
    logging.getLogger().handlers[:] = [handler]
