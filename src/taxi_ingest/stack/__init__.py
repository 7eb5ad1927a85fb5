"""The local stack: an embedded Postgres and a Prefect server, started on demand and left running.

url = start_database(settings)      # a libpq URL that psycopg2 and psql understand
server = launch_prefect(settings)   # returns at once ...
api_url = server.wait()             # ... and this when it answers; requests to it need server.key
status(settings), stop(settings)
"""

from dataclasses import dataclass

from taxi_ingest.settings import Settings
from taxi_ingest.stack.postgres import (
    database_status,
    is_embedded,
    psql_command,
    start_database,
    stop_database,
)
from taxi_ingest.stack.prefect_server import (
    PrefectServer,
    launch_prefect,
    prefect_key,
    prefect_status,
    stop_prefect,
)
from taxi_ingest.stack.residents import ServiceStatus

__all__ = [
    "PrefectServer",
    "ServiceStatus",
    "StackStatus",
    "is_embedded",
    "launch_prefect",
    "prefect_key",
    "psql_command",
    "start_database",
    "status",
    "stop",
    "stop_database",
    "stop_prefect",
]


@dataclass(frozen=True)
class StackStatus:
    """Both servers of the local stack."""

    database: ServiceStatus
    prefect: ServiceStatus


def status(settings: Settings) -> StackStatus:
    """Look at the local stack without starting anything; never raises."""
    return StackStatus(database_status(settings), prefect_status(settings))


def stop(settings: Settings) -> StackStatus:
    """Stop both servers, as far as we started them, wait for their end, and return what was running.

    Raises DatabaseError or PrefectError if one doesn't end.
    """
    try:
        database = stop_database(settings)
    finally:
        prefect = stop_prefect(settings)
    return StackStatus(database, prefect)
