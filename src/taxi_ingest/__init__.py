"""New York's taxi trips into Postgres: fast, exactly once, visible in Prefect.

from taxi_ingest import Settings, ingest, prefect_api

with prefect_api(Settings()):
    outcome = ingest(url="green_tripdata_2024-01.parquet", table="green_tripdata")
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from taxi_ingest.errors import (
    DatabaseError,
    DataError,
    PrefectError,
    SourceError,
    TaxiIngestError,
    UsageError,
)

# Prefect reports home from the moment it is imported, and keeps a device id, unless this is set
# (https://docs.prefect.io/v3/concepts/telemetry). Whoever wants that sets it to 0.
os.environ.setdefault("DO_NOT_TRACK", "1")
# Arrow's own choice has Linux clear huge pages over and over: a lake's month takes half as much CPU again
# (https://arrow.apache.org/docs/cpp/env_vars.html).
if sys.platform == "linux":
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")

if TYPE_CHECKING:
    from taxi_ingest.flows.api import prefect_api
    from taxi_ingest.flows.backfill import backfill
    from taxi_ingest.flows.files import ingest_files
    from taxi_ingest.flows.ingest import ingest, ingest_month
    from taxi_ingest.flows.outcome import BackfillOutcome, MonthsFailed, Outcome
    from taxi_ingest.settings.environment import Settings
    from taxi_ingest.sources.months import month_address

__all__ = [
    "BackfillOutcome",
    "DataError",
    "DatabaseError",
    "MonthsFailed",
    "Outcome",
    "PrefectError",
    "Settings",
    "SourceError",
    "TaxiIngestError",
    "UsageError",
    "backfill",
    "ingest",
    "ingest_files",
    "ingest_month",
    "month_address",
    "prefect_api",
]

_HOMES = {
    "BackfillOutcome": "taxi_ingest.flows.outcome",
    "MonthsFailed": "taxi_ingest.flows.outcome",
    "Outcome": "taxi_ingest.flows.outcome",
    "Settings": "taxi_ingest.settings.environment",
    "backfill": "taxi_ingest.flows.backfill",
    "ingest": "taxi_ingest.flows.ingest",
    "ingest_files": "taxi_ingest.flows.files",
    "ingest_month": "taxi_ingest.flows.ingest",
    "month_address": "taxi_ingest.sources.months",
    "prefect_api": "taxi_ingest.flows.api",
}


def __getattr__(name: str) -> Any:
    # Prefect takes a second to import: only those who use the flow pay for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
