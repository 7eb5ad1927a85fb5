"""Which Prefect flows run against: the user's own API, or the local stack's server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_UI_URL,
    temporary_settings,
)

from taxi_ingest import stack
from taxi_ingest.errors import PrefectError
from taxi_ingest.flows.caller import calling
from taxi_ingest.settings.environment import Settings
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
        PREFECT_UI_URL: server.dashboard_url,
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
