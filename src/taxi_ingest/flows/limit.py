"""A global concurrency limit of Prefect's: how many loads write to the database at once, on all hosts."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

_NAME = "taxi-ingest"

_LEASE_SECONDS = 60
"""How long a holder that is killed keeps its slot; Prefect allows no less."""

_OUTAGE_SECONDS = 300
"""How long Prefect's server may be gone before a load that wants a slot fails."""
_PAUSE_SECONDS = 1


def make_limit(client: SyncPrefectClient, slots: int, forget: bool) -> str:
    """Make the limit, or change it, to so many loads at once; returns its name.

    With `forget` nobody holds a slot any more: a server that keeps its leases in memory, as is usual, has
    lost those that there were when it was restarted, and would keep their slots for ever.
    """
    client.upsert_global_concurrency_limit_by_name(_NAME, slots)
    if forget:
        client.update_global_concurrency_limit(_NAME, GlobalConcurrencyLimitUpdate(active_slots=0))
    return _NAME


@contextmanager
def holding(limit: str | None) -> Iterator[None]:
    """Hold one of the limit's slots, waiting for it; nothing without a limit.

    Raises ConcurrencySlotAcquisitionError where there is no such limit, which would else limit nothing. A
    load that is under way goes on where Prefect can't be told of it.
    """
    with ExitStack() as held:
        if limit:
            _acquire(limit, held)
        yield


def _acquire(limit: str, held: ExitStack) -> None:
    """Take a slot for as long as `held` lasts; a server that restarts is waited for."""
    deadline = time.monotonic() + _OUTAGE_SECONDS
    while True:
        try:
            held.enter_context(
                concurrency(
                    limit, strict=True, lease_duration=_LEASE_SECONDS, raise_on_lease_renewal_failure=False
                )
            )
            return
        except ConcurrencySlotAcquisitionError as error:
            if not _is_outage(error.__cause__) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)


def _is_outage(cause: BaseException | None) -> bool:
    """Whether the server could not be asked; without a cause there is no such limit."""
    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
    return cause is not None
