"""Who calls a flow: brings what a flow parameter, which Prefect stores, can't be."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from taxi_ingest.errors import TaxiIngestError
from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded, Outcome
from taxi_ingest.load import LoadProgress
from taxi_ingest.places import Place
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import DownloadProgress, SourceFile


@dataclass(frozen=True)
class Child:
    """Which of its parent's children a flow run is."""

    flow_id: UUID
    """Prefect's id of the flow that it is a run of."""
    number: int


@dataclass(frozen=True)
class Caller:
    """The caller's settings, and how it follows the flow."""

    settings: Settings | None = None
    """Secrets included; None for those of the environment."""
    place: Place | None = None
    """The place of a parent flow, which has chosen it, and has said which tables are loaded, for all of its
    children."""
    tags: frozenset[str] = frozenset()
    """The flow run's, and not its tasks'."""
    child: Child | None = None
    """Which of several loads under one parent runs here; None for any other flow run."""
    load: str = ""
    """Which of several loads it is that runs here (`yellow 2019-01`); empty for the only one."""
    beside: int = 1
    """How many loads are carried out here at once."""
    about: Mapping[str, str | None] = field(default_factory=dict)
    """What is loaded here, for log lines that programs read: dataset, month, table, url."""
    on_download: Callable[[str, DownloadProgress], None] = lambda _, __: None
    """Told of which load the file is, and how far it has come."""
    on_load: Callable[[str, SourceFile, LoadProgress], None] = lambda _, __, ___: None
    on_plan: Callable[[Mapping[str, int | None]], None] = lambda _: None
    """Told what is going to be loaded: the names of all loads, with the rows that each is known to have."""
    on_end: Callable[[str, Outcome | NotLoaded], None] = lambda _, __: None
    """Told what has become of one of several loads, and its name."""
    on_outcome: Callable[[Outcome | BackfillOutcome], None] = lambda _: None
    """Told when all is committed, before Prefect is told."""
    on_failure: Callable[[TaxiIngestError], None] = lambda _: None
    """Told why the flow fails, before Prefect is told."""
    prefetched: Mapping[str, Future[SourceFile | None]] = field(default_factory=dict)
    """Downloads that were begun before the flow, by the address that the ledger knows."""


_NOBODY = Caller()
_caller: ContextVar[Caller] = ContextVar("caller", default=_NOBODY)


def caller() -> Caller:
    """The caller of the flow that runs now."""
    return _caller.get()


def settings_in_use() -> Settings:
    """The caller's settings, else those of the environment."""
    return caller().settings or Settings()


@contextmanager
def calling(**changes: Any) -> Iterator[None]:
    """Call flows inside this context as the same caller but for these fields."""
    token = _caller.set(replace(caller(), **changes))
    try:
        yield
    finally:
        _caller.reset(token)
