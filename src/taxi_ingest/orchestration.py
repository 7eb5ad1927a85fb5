"""Which Prefect a flow runs against: the user's own API, or the local stack's server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_UI_URL,
    temporary_settings,
)

from taxi_ingest import stack
from taxi_ingest.errors import PrefectError
from taxi_ingest.settings import Settings
from taxi_ingest.stack.prefect_server import prefect_status


def own_api_url() -> str | None:
    """The API that the user's Prefect profile, `PREFECT_API_URL` or project files name, if any."""
    return PREFECT_API_URL.value() or None


def uses_local_server(settings: Settings) -> bool:
    """Whether flows run against the local stack's server."""
    return own_api_url() == prefect_status(settings).address


@contextmanager
def prefect_api(settings: Settings, server: stack.PrefectServer | None = None) -> Iterator[str]:
    """Run flows against the user's own API, else the local server, which is started if needed.

    Yields the API's URL. `server` is the local one where the caller launched it beforehand. Raises
    PrefectError where the API can't be reached or breaks off.
    """
    own = own_api_url()
    updates = {} if own else _local_settings((server or stack.launch_prefect(settings)).wait())
    with temporary_settings(updates), _failures_explained():
        if own:
            _check_reachable(own)
        yield own or str(updates[PREFECT_API_URL])


def dashboard(settings: Settings) -> str:
    """The address of the dashboard that shows the flows' runs; the local server is started if needed."""
    if own_api_url():
        return str(PREFECT_UI_URL.value() or "").rstrip("/")
    server = stack.launch_prefect(settings)
    server.wait()
    return server.address


def _local_settings(api_url: str) -> dict[Any, str | None]:
    return {
        PREFECT_API_URL: api_url,
        PREFECT_UI_URL: api_url.removesuffix("/api"),
        # A heartbeat's thread is joined in whole seconds: each flow would last at least one.
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }


def _check_reachable(api_url: str) -> None:
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
    if failure is not None:
        raise PrefectError(
            f"Prefect's API at {api_url} can't be reached.",
            "Start that server, or unset PREFECT_API_URL (or the profile's) to use the local stack.",
        ) from failure


@contextmanager
def _failures_explained() -> Iterator[None]:
    try:
        yield
    except (PrefectException, httpx.HTTPError) as error:
        raise PrefectError(
            f"Prefect refused: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}",
            "Is its server still running? `taxi-ingest status` tells of the local one.",
        ) from error
