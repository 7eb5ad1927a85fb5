"""The local stack: an embedded Postgres and a Prefect server, started on demand and left running.

url = start_database(settings)      # a libpq URL that psycopg2 and psql understand
server = launch_prefect(settings)   # returns at once ...
api_url = server.wait()             # ... and this when it answers; requests to it need server.key
status(settings), stop(settings)
"""

from collections.abc import Callable
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
from taxi_ingest.stack.usage import enter, use_of_stack, wait_for_ended, without_loads

__all__ = [
    "PrefectServer",
    "ServiceStatus",
    "StackStatus",
    "database_status",
    "enter",
    "is_embedded",
    "launch_prefect",
    "prefect_key",
    "psql_command",
    "start_database",
    "status",
    "stop",
    "stop_database",
    "stop_prefect",
    "use_of_stack",
]

_ENDING_SECONDS = 20


@dataclass(frozen=True)
class StackStatus:
    """Both servers of the local stack."""

    database: ServiceStatus
    prefect: ServiceStatus
    ended: tuple[str, ...] = ()
    """The tables of loads that a stop by force has ended."""


def status(settings: Settings) -> StackStatus:
    """Look at the local stack without starting anything; never raises."""
    return StackStatus(database_status(settings), prefect_status(settings))


def stop(
    settings: Settings, force: bool = False, on_wait: Callable[[list[str]], None] = lambda _: None
) -> StackStatus:
    """Stop both servers, as far as we started them, wait for their end, and return what was running.

    Loads that use them are waited for, and `on_wait` is told their tables; with `force` they fail, each
    with a DatabaseError. Raises DatabaseError or PrefectError if a server doesn't end.
    """
    with without_loads(settings, force, on_wait) as ended:
        try:
            database = stop_database(settings)
            # They have lost their connections now, and tell Prefect how they ended.
            wait_for_ended(settings, _ENDING_SECONDS)
        finally:
            prefect = stop_prefect(settings)
    return StackStatus(database, prefect, tuple(ended))
