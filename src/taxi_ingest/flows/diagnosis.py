"""Prefect, as flows would use it: which API, whether it takes us, and whose version it is."""

import os
from dataclasses import dataclass

import httpx
import prefect
from prefect.client.orchestration import get_client
from prefect.context import get_settings_context
from prefect.settings import load_profiles

from taxi_ingest import stack
from taxi_ingest.errors import PrefectError
from taxi_ingest.flows.api import failures_explained, own_api_url, prefect_api
from taxi_ingest.flows.blocks import find_block
from taxi_ingest.load import Database
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import DEFAULT_BLOCK
from taxi_ingest.stack.prefect_server import prefect_database_is_locked

_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


@dataclass(frozen=True)
class PrefectFound:
    """The API that flows would use."""

    address: str
    origin: str
    """Who has chosen it."""
    version: str
    """The server's; empty where it does not run, and the next load starts it."""

    @property
    def is_ours(self) -> bool:
        """Whether the server is of the version that we have ourselves, but for the last number."""
        return not self.version or _series(self.version) == _series(prefect.__version__)


def examine_prefect(settings: Settings) -> PrefectFound:
    """Ask the API that flows would use; starts nothing.

    Raises PrefectError for a profile that is not there, and where the API can't be reached or refuses us.
    """
    _check_profile()
    own = own_api_url()
    if own is None:
        return _local(settings)
    return PrefectFound(own, _origin(), _asked(settings, own))


def find_block_if_running(settings: Settings, name: str) -> Database | None:
    """The database behind a block, as `find_block` has it, but nothing is started for that.

    Raises PrefectError where nobody can tell what a named block is.
    """
    if own_api_url() or stack.status(settings).prefect.running:
        with prefect_api(settings):
            return find_block(name)
    if name != DEFAULT_BLOCK:
        raise PrefectError(
            f"The block {name} can't be read: Prefect's server is stopped.", "`taxi-ingest up`"
        )
    return None


def _check_profile() -> None:
    wanted, names = os.environ.get("PREFECT_PROFILE"), load_profiles().names
    if wanted and wanted not in names:
        raise PrefectError(
            f"PREFECT_PROFILE names {wanted}, which is no profile.",
            f"There are {', '.join(sorted(names))}: `prefect profile ls`.",
        )


def _origin() -> str:
    if os.environ.get("PREFECT_API_URL"):
        return "PREFECT_API_URL"
    profile = get_settings_context().profile
    names = {setting.name for setting in profile.settings}
    return f"Prefect's profile {profile.name}" if "PREFECT_API_URL" in names else "a file of this folder"


def _local(settings: Settings) -> PrefectFound:
    status = stack.status(settings).prefect
    if prefect_database_is_locked(settings):
        raise PrefectError(
            "The local Prefect server's database is locked by another program.",
            "End what has prefect.db open (an SQLite browser, a backup); `taxi-ingest down` ends the server.",
        )
    if status.running:
        return PrefectFound(status.address, "the local stack", _asked(settings, status.address))
    if status.note.endswith("another program"):
        raise PrefectError(
            f"The local Prefect server can't start: {status.note}.",
            "Set TAXI_INGEST_PREFECT_PORT to a free port, or end that program, or set PREFECT_API_URL.",
        )
    return PrefectFound(status.address, "the local stack", "")


def _asked(settings: Settings, address: str) -> str:
    """The server's version. Raises PrefectError."""
    with prefect_api(settings), failures_explained(), get_client(sync_client=True) as client:
        try:
            # Health and version are told without a key.
            client.request("POST", "/flow_runs/count", json={})
            return client.api_version()
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in _REFUSED:
                raise
            raise PrefectError(
                f"Prefect's API at {address} refuses our key.",
                "Set PREFECT_API_AUTH_STRING, or for Prefect Cloud PREFECT_API_KEY, to the right one.",
            ) from error


def _series(version: str) -> list[str]:
    return version.split(".")[:2]
