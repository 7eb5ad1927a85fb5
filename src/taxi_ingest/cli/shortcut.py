"""The shortest way to "the table already has this file": one that spares the second of importing Prefect.

Only for the local stack, and only while its server runs: that is told of it, so that the dashboard shows the
skip as a flow run.
"""

import time

import httpx

from taxi_ingest.cli.local_api import local_api, may_have_block, prefect_may_be_configured
from taxi_ingest.errors import TaxiIngestError
from taxi_ingest.flows import process_marks
from taxi_ingest.flows.labels import run_name, tags_of_load
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.load import Database, LoadRecord, LoadResult, Target, parse_target
from taxi_ingest.places import Place, Postgres, place_at
from taxi_ingest.places.databases import EmbeddedDatabase, choose_database
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import Source
from taxi_ingest.stack.prefect_app import LOOK


def skip_if_loaded(source: Source, table: str, settings: Settings, to: str | None = None) -> Outcome | None:
    """The outcome if the table surely has the file already; None if anything is in doubt.

    It asks the ledger first: for a file that it doesn't know, nothing is read or fetched here.
    """
    began = time.monotonic()
    api = None if prefect_may_be_configured() else local_api(settings)
    if api is None:
        return None
    target = parse_target(table)
    with api:
        try:
            place = place_at(to) if to is not None else _postgres(api, settings)
            previous = place.look_back(target, source).file if place else None
            if place is None or previous is None:
                return None
            if not source.is_unchanged(previous.sha256, previous.validators) or _a_run_was_left(api):
                return None
            run_url = str(api.base_url.join(f"{LOOK}/runs/flow-run/{_record(api, previous, target)}"))
        except (TaxiIngestError, httpx.HTTPError):
            # The flow meets the same difficulty, and reports it where it is seen.
            return None
    return Outcome.of(LoadResult(previous, skipped=True), target, place, time.monotonic() - began, run_url)


def _postgres(api: httpx.Client, settings: Settings) -> Place | None:
    """The database, if it needs no block and runs."""

    def find_block(name: str) -> Database | None:
        if may_have_block(api, name):
            raise _Doubt
        return None

    try:
        database = choose_database(settings, None, find_block)
    except _Doubt:
        return None
    return None if isinstance(database, EmbeddedDatabase) and not database.runs else Postgres(database)


class _Doubt(Exception):
    """There is a block: only Prefect can read it."""


def _a_run_was_left(api: httpx.Client) -> bool:
    """Whether there is a flow run to be put right, which the flow does."""
    unfinished = {
        "tags": {"all_": [process_marks.machine_tag()]},
        "state": {"type": {"not_any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
    }
    runs = api.post("/flow_runs/filter", json={"flow_runs": unfinished}).raise_for_status().json()
    return any(process_marks.is_dead(run["flow_version"]) for run in runs)


def _record(api: httpx.Client, previous: LoadRecord, target: Target) -> str:
    """Tell Prefect of the skip; return the flow run's id."""
    flow = api.post("/flows/", json={"name": "ingest"}).raise_for_status().json()
    run = api.post(
        "/flow_runs/",
        json={
            "name": run_name(previous.source, str(target)),
            "tags": sorted(tags_of_load(previous.source, str(target))),
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
