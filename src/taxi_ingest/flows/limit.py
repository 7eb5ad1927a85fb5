"""A global concurrency limit of Prefect's: how many loads write to the database at once, on all hosts."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.sync import concurrency

_NAME = "taxi-ingest"

_LEASE_SECONDS = 60
"""How long a holder that is killed keeps its slot; Prefect allows no less."""


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
    if limit is None:
        yield
        return
    with concurrency(limit, strict=True, lease_duration=_LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield
