"""The shortest way to "the table already has this file": one that spares the second of importing Prefect.

Only for the local stack, and only while its server runs: the server is told of it by its REST API
(https://docs.prefect.io/v3/api-ref/rest-api), so that the dashboard shows the skip as a flow run.
"""

import os
import time
from base64 import b64encode
from pathlib import Path

import httpx

from taxi_ingest import stack
from taxi_ingest.databases import EmbeddedDatabase, choose_database
from taxi_ingest.errors import TaxiIngestError
from taxi_ingest.flows import marks
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.load import Database, LoadRecord, LoadResult, Target, look_back, parse_target
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import Source

_CONFIGURING_VARIABLES = ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")
_CONFIGURING_FILES = (
    ("prefect.toml", ""),
    ("pyproject.toml", "[tool.prefect"),
    (".env", "PREFECT_"),
)
"""Files of the current folder that configure Prefect if they hold this text
(https://docs.prefect.io/v3/concepts/settings-and-profiles)."""

_REQUEST_SECONDS = 5


def skip_if_loaded(source: Source, table: str, settings: Settings) -> Outcome | None:
    """The outcome if the table surely has the file already; None if anything is in doubt.

    It asks the ledger first: for a file that it doesn't know, nothing is read or fetched here.
    """
    began = time.monotonic()
    server, key = stack.status(settings).prefect, stack.prefect_key(settings)
    if not server.running or key is None or prefect_may_be_configured():
        return None
    target = parse_target(table)
    with httpx.Client(
        base_url=server.address, headers=_authorization(key), timeout=_REQUEST_SECONDS, trust_env=False
    ) as api:
        try:
            database = _database(api, settings)
            previous = look_back(database, target, source.url).file if database else None
            if database is None or previous is None:
                return None
            if not source.is_unchanged(previous.sha256, previous.validators) or _a_run_was_left(api):
                return None
            run_url = f"{server.address.removesuffix('/api')}/runs/flow-run/{_record(api, previous, target)}"
        except (TaxiIngestError, httpx.HTTPError):
            # The flow meets the same difficulty, and reports it where it is seen.
            return None
    return Outcome.of(LoadResult(previous, skipped=True), target, database, began, run_url)


def _authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(key.encode()).decode()}"}


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


def _database(api: httpx.Client, settings: Settings) -> Database | None:
    """The database, if it needs no block and runs."""

    def find_block(name: str) -> None:
        path = f"/block_types/slug/sqlalchemy-connector/block_documents/name/{name}"
        if api.get(path).status_code != httpx.codes.NOT_FOUND:
            raise _Doubt

    try:
        database = choose_database(settings, None, find_block)
    except _Doubt:
        return None
    return None if isinstance(database, EmbeddedDatabase) and not database.runs else database


class _Doubt(Exception):
    """There is a block: only Prefect can read it."""


def _a_run_was_left(api: httpx.Client) -> bool:
    """Whether there is a flow run to be put right, which the flow does."""
    unfinished = {
        "tags": {"all_": [marks.machine_tag()]},
        "state": {"type": {"not_any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
    }
    runs = api.post("/flow_runs/filter", json={"flow_runs": unfinished}).raise_for_status().json()
    return any(marks.is_dead(run["tags"]) for run in runs)


def _record(api: httpx.Client, previous: LoadRecord, target: Target) -> str:
    """Tell Prefect of the skip; return the flow run's id."""
    flow = api.post("/flows/", json={"name": "ingest"}).raise_for_status().json()
    run = api.post(
        "/flow_runs/",
        json={
            "name": str(target),
            "flow_id": flow["id"],
            "parameters": {"url": previous.source, "table": str(target)},
            "state": {
                "type": "COMPLETED",
                "name": "Skipped",
                "message": f"The table has this file already, as load {previous.load_id}.",
            },
        },
    )
    return str(run.raise_for_status().json()["id"])
