"""The protocol of a place that tables are in: look back, load, undo, list; and what many loads ask beside."""

import codecs
import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple
from datetime import datetime
from typing import BinaryIO

from taxi_ingest.errors import TaxiIngestError, UsageError
from taxi_ingest.load import (
    Coverage,
    Disagreement,
    Filter,
    LoadProgress,
    LoadRecord,
    LoadResult,
    LookBack,
    Pace,
    Preview,
    Target,
    Undone,
)
from taxi_ingest.read import Reject
from taxi_ingest.settings.job import Job, LoadOptions
from taxi_ingest.sources import Source, SourceFile
from taxi_ingest.transform import Stream


class Place(ABC):
    """Where tables are: a Postgres, a lake. A value that can be printed without showing a secret.

    To make one connects to nothing. What the place refuses, its methods raise as DatabaseError.
    """

    keeps_failures: bool = False
    """Whether a try that failed is known afterwards, so that `--reprocess failed` finds it."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is, without what is secret: `place_at` of it is this place again."""

    def check(  # noqa: B027
        self, options: LoadOptions, tables: Collection[Target] = (), sources: Collection[Source] = ()
    ) -> None:
        """Raise UsageError for what it can't do of this, before anything starts; connect to nothing."""

    # The four of the protocol

    @abstractmethod
    def look_back(self, target: Target, source: Source) -> LookBack:
        """What is known of a table and of a file in it; nothing where there is nothing yet."""

    @abstractmethod
    def load(
        self,
        stream: Stream,
        file: SourceFile,
        target: Target,
        job: Job,
        *,
        flow_run_url: str | None = None,
        beside: int = 1,
        on_progress: Callable[[LoadProgress], None] = lambda _: None,
    ) -> LoadResult:
        """Load a file into a table, once, all or nothing: on any error the place is as it was.

        A file that the table has is skipped; one that has changed since replaces its own rows, no others.
        After a TransientDatabaseError the same call may be made again: `flow_run_url` then tells whose load
        is found there. `beside` says how many files are loaded at once.
        """

    @abstractmethod
    def undo(self, load_id: int) -> Undone:
        """Take a load's rows out again; returns what was. UsageError where that can't be done."""

    @abstractmethod
    def list_loads(self, wanted: Filter) -> list[LoadRecord]:
        """The loads that fit the filter, oldest first."""

    @abstractmethod
    def look(self, target: Target) -> list[str]:
        """A command that shows a table's first rows."""

    @abstractmethod
    def find_load(self, load_id: int, target: Target | None = None) -> LoadRecord:
        """A load by its number, of this table if one is named. Raises UsageError where there was none."""

    # What a run wants to know beside

    @abstractmethod
    def preview(self, stream: Stream, file: SourceFile, target: Target, job: Job) -> Preview:
        """What `load` would do with the file, writing nothing. Raises what `load` would, where known."""

    def rejects(self, target: Target, load_id: int, limit: int | None = None) -> list[Reject]:
        """The first rejects of a load into a table, or all."""
        del target, load_id, limit
        return []

    def write_rejects(self, target: Target, load_id: int, file: BinaryIO) -> None:
        """Write all rejects of a load into a table as CSV."""
        lines = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
        lines.writerow(("number", "column_name", "reason", "raw"))
        lines.writerows(astuple(reject) for reject in self.rejects(target, load_id))

    # What many loads want to know: of all loads, unless a place knows a shorter way

    def coverage(self, target: Target, dataset: str, months: Sequence[str]) -> Coverage:
        """Which of these months (`2024-01`) of a dataset a table has, and how the tries of others ended."""
        loads = self.list_loads(Filter(target, dataset, status="loaded"))
        return Coverage({load.month: load for load in loads if load.month and load.month in months}, {})

    def disagreements(self, target: Target | None = None) -> list[Disagreement]:
        """What a table, or any, has otherwise than its ledger says; nothing where nobody can bring that
        about."""
        del target
        return []

    def holders(self) -> list[tuple[str, Target]]:
        """Each dataset of which months were loaded, and a table that holds them."""
        loads = self.list_loads(Filter(status="loaded"))
        return list(
            dict.fromkeys((load.dataset, load.target) for load in loads if load.dataset and load.month)
        )

    def pace(self, dataset: str) -> Pace | None:
        """How fast a dataset was loaded, and how much room its rows take; None where nothing tells."""
        del dataset
        return None

    def free_bytes(self) -> int | None:
        """How much room is left; None where it can't be told, or is no question."""
        return None

    def table_hint(self, target: Target) -> str:
        """Of a table that has no loads: the one that was meant, or where they are told."""
        del target
        return f"`taxi-ingest loads --to {self.address}` lists what was loaded."

    # What is done around loads; nothing where there is nothing to do

    def prepare(self) -> None:  # noqa: B027
        """Get ready for many loads."""

    def loading_many(self, targets: Sequence[Target], wait: bool) -> AbstractContextManager[None]:
        """Be known as who loads many files into these tables. Raises BusyError where another is
        and we are not to `wait`."""
        del targets, wait
        return nullcontext()

    def note_attempt(  # noqa: B027
        self,
        error: TaxiIngestError,
        *,
        target: Target,
        source: str,
        started_at: datetime,
        dataset: str | None = None,
        month: str | None = None,
        flow_run_url: str | None = None,
    ) -> None:
        """Keep that a try failed, where the place keeps that."""

    def committed_runs(self, flow_run_urls: list[str]) -> set[str]:
        """Those of the flow runs whose load was committed."""
        loads = self.list_loads(Filter())
        return {load.flow_run_url for load in loads if load.flow_run_url} & set(flow_run_urls)


def of_table(load: LoadRecord, target: Target | None) -> LoadRecord:
    """The load, if it is of the table that was named, if any. Raises UsageError for another's."""
    if target not in (None, load.target):
        raise UsageError(
            f"Load {load.load_id} is none of {target}: it is of {load.target}.", "Leave --table out."
        )
    return load
