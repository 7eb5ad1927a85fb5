"""The local Prefect server, asked by its REST API (https://docs.prefect.io/v3/api-ref/rest-api), which spares
the second of importing Prefect."""

import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import httpx

from taxi_ingest import stack
from taxi_ingest.settings.environment import Settings

_CONFIGURING_VARIABLES = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
_CONFIGURING_FILES = (
    ("prefect.toml", ""),
    ("pyproject.toml", "[tool.prefect"),
    (".env", "PREFECT_"),
)
"""Files of the current folder that configure Prefect if they hold this text
(https://docs.prefect.io/v3/concepts/settings-and-profiles)."""

_REQUEST_SECONDS = 5


def prefect_may_be_configured() -> bool:
    """Whether the user may have named another API; to know for sure, Prefect must be imported."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    return (
        any(name in os.environ for name in _CONFIGURING_VARIABLES)
        or (home / "profiles.toml").exists()
        or any(_holds(Path(name), text) for name, text in _CONFIGURING_FILES)
    )


def _holds(path: Path, text: str) -> bool:
    try:
        return text in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def local_api(settings: Settings) -> httpx.Client | None:
    """The API of the local server; None where that does not run."""
    server, key = stack.status(settings).prefect, stack.prefect_key(settings)
    if not server.running or key is None:
        return None
    authorization = {"Authorization": f"Basic {b64encode(key.encode()).decode()}"}
    return httpx.Client(
        base_url=server.address, headers=authorization, timeout=_REQUEST_SECONDS, trust_env=False
    )


def may_have_block(api: httpx.Client, name: str) -> bool:
    """Whether there is a block that names a database; only Prefect can read it. Raises httpx.HTTPError."""
    path = f"/block_types/slug/sqlalchemy-connector/block_documents/name/{name}"
    return api.get(path).status_code != httpx.codes.NOT_FOUND


def block_names(api: httpx.Client, types: Sequence[str]) -> list[str]:
    """The blocks of these types. Raises httpx.HTTPError."""
    wanted = {"block_types": {"slug": {"any_": types}}, "include_secrets": False}
    found = api.post("/block_documents/filter", json=wanted).raise_for_status().json()
    return sorted(document["name"] for document in found if document["name"])
