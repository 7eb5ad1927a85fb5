"""Which runs of workers still show signs of life.

A worker that is killed can't tell how its runs ended: they seem to go on for ever. But each run sends an
event every half minute (https://docs.prefect.io/v3/advanced/detect-zombie-flows), until it can't any more.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType

HEARTBEAT_SECONDS = 30
"""How often a run shows that it lives; Prefect allows no less."""

SILENCE_SECONDS = 90
"""After how long without a sign a run is given up."""

LOST = "It has shown no sign of life for too long."
"""Why a run is ended that has not ended itself."""

_START_SECONDS = 600
"""The same while a run is being started, where a machine may have to be found for it first."""

_EVENTS = {
    "event": {"name": ["prefect.flow-run.heartbeat"]},
    "occurred": {"since": "2020-01-01T00:00:00Z", "until": "2120-01-01T00:00:00Z"},
}


@dataclass(frozen=True)
class _Sign:
    state: UUID | None
    heartbeat: str | None
    seen: float
    """By this process's monotonic clock: hosts differ on the time of day."""


class Pulse:
    """Listens to runs: each is to be shown to it again and again."""

    def __init__(self, client: SyncPrefectClient, starts_at_once: bool) -> None:
        self._client = client
        self._start_seconds = SILENCE_SECONDS if starts_at_once else _START_SECONDS
        self._signs: dict[UUID, _Sign] = {}

    def listen_anew(self) -> None:
        """Forget for how long the runs have been silent: for a time they could not be heard."""
        self._signs.clear()

    def is_lost(self, run: FlowRun) -> bool:
        """Whether a run was begun, has not ended, and has not shown a sign for too long."""
        if run.state_type not in (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING):
            return False
        patience = self._start_seconds if run.state_type == StateType.PENDING else SILENCE_SECONDS
        sign = self._signs.get(run.id)
        if sign is None or sign.state != run.state_id:
            self._signs[run.id] = _Sign(run.state_id, None, time.monotonic())
            return False
        silent = time.monotonic() - sign.seen
        if silent < SILENCE_SECONDS / 2:
            return False
        heartbeat = self._last_heartbeat(run)
        if heartbeat != sign.heartbeat:
            self._signs[run.id] = _Sign(run.state_id, heartbeat, time.monotonic())
            return False
        return silent > patience

    def _last_heartbeat(self, run: FlowRun) -> str | None:
        wanted = {**_EVENTS, "any_resource": {"id": [f"prefect.flow-run.{run.id}"]}}
        answer = self._client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
        events = answer.json()["events"]
        return str(events[0]["id"]) if events else None
