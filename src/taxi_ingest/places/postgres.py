"""Postgres as a place: what load/ does, behind the protocol."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

from taxi_ingest import load as loading
from taxi_ingest import stack
from taxi_ingest.errors import TaxiIngestError
from taxi_ingest.load import (
    Coverage,
    Database,
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
from taxi_ingest.places.place import Place, of_table
from taxi_ingest.read import Reject
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import Source, SourceFile
from taxi_ingest.transform import Stream


@dataclass(frozen=True)
class Postgres(Place):
    """A database."""

    database: Database
    keeps_failures = True

    @property
    def address(self) -> str:
        """A libpq URL without a password."""
        return self.database.address

    def look_back(self, target: Target, source: Source) -> LookBack:
        """What the ledger knows."""
        return loading.look_back(self.database, target, source.url)

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
        """Copy the rows into a partition of their own and attach it, in one transaction."""
        return loading.load_file(
            stream,
            file,
            target,
            self.database,
            job,
            flow_run_url=flow_run_url,
            beside=beside,
            on_progress=on_progress,
        )

    def undo(self, load_id: int) -> Undone:
        """Detach and drop the load's partition."""
        return loading.undo(self.database, load_id)

    def list_loads(self, wanted: Filter) -> list[LoadRecord]:
        """The ledger's."""
        return loading.list_loads(self.database, wanted)

    def preview(self, stream: Stream, file: SourceFile, target: Target, job: Job) -> Preview:
        """By the table and the ledger."""
        return loading.preview(stream, file, target, self.database, job)

    def look(self, target: Target) -> list[str]:
        """By psql."""
        return [*stack.psql_command(self.address), "-c", f"TABLE {target.quoted} LIMIT 5"]

    def rejects(self, target: Target, load_id: int, limit: int | None = None) -> list[Reject]:
        """The ledger's."""
        del target
        return loading.rejects_of(self.database, load_id, limit)

    def write_rejects(self, target: Target, load_id: int, file: BinaryIO) -> None:
        """The ledger's, by COPY."""
        del target
        loading.write_rejects(self.database, load_id, file)

    def coverage(self, target: Target, dataset: str, months: Sequence[str]) -> Coverage:
        """From the table's partitions to the ledger."""
        return loading.coverage(self.database, target, dataset, months)

    def disagreements(self, target: Target | None = None) -> list[Disagreement]:
        """Between the partitions and the ledger."""
        return loading.disagreements(self.database, target)

    def holders(self) -> list[tuple[str, Target]]:
        """From all partitions to the ledger."""
        return loading.holders(self.database)

    def find_load(self, load_id: int, target: Target | None = None) -> LoadRecord:
        """Of the ledger."""
        return of_table(loading.find_load(self.database, load_id), target)

    def pace(self, dataset: str) -> Pace | None:
        """By the ledger and the partitions' sizes."""
        return loading.pace(self.database, dataset)

    def free_bytes(self) -> int | None:
        """Of the disk of a server on this machine."""
        return loading.free_bytes(self.database)

    def table_hint(self, target: Target) -> str:
        """By the names of the loaded tables."""
        return loading.table_hint(self.database, target)

    def prepare(self) -> None:
        """Make the ledger, which is to keep the failures of all loads."""
        loading.prepare_ledger(self.database)

    def loading_many(self, targets: Sequence[Target], wait: bool) -> AbstractContextManager[None]:
        """By a lock."""
        return loading.loading_many(self.database, targets, wait)

    def note_attempt(self, error: TaxiIngestError, **known: Any) -> None:
        """In the ledger."""
        loading.note_attempt(self.database, error, **known)

    def committed_runs(self, flow_run_urls: list[str]) -> set[str]:
        """By the ledger."""
        return loading.committed_runs(self.database, flow_run_urls)
