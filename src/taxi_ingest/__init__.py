"""New York's taxi trips into Postgres: fast, exactly once, visible in Prefect.

from taxi_ingest import Settings, ingest, prefect_api

with prefect_api(Settings()):
    outcome = ingest(url="green_tripdata_2024-01.parquet", table="green_tripdata")
"""

import os
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

if TYPE_CHECKING:
    from taxi_ingest.flows.api import prefect_api
    from taxi_ingest.flows.ingest import ingest
    from taxi_ingest.flows.outcome import Outcome
    from taxi_ingest.settings.environment import Settings
    from taxi_ingest.sources import month_address

__all__ = [
    "DataError",
    "DatabaseError",
    "Outcome",
    "PrefectError",
    "Settings",
    "SourceError",
    "TaxiIngestError",
    "UsageError",
    "ingest",
    "month_address",
    "prefect_api",
]

_HOMES = {
    "Outcome": "taxi_ingest.flows.outcome",
    "Settings": "taxi_ingest.settings.environment",
    "ingest": "taxi_ingest.flows.ingest",
    "month_address": "taxi_ingest.sources",
    "prefect_api": "taxi_ingest.flows.api",
}


def __getattr__(name: str) -> Any:
    # Prefect takes a second to import: only those who use the flow pay for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
