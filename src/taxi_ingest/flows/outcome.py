"""What a run says at its end: the object that `--json` prints. Nothing here imports Prefect."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from taxi_ingest.load import Database, LoadResult, Preview, Target
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Stream


@dataclass(frozen=True)
class Outcome:
    """The result of `ingest`, as `--json` prints it."""

    status: str
    """loaded, replaced, skipped or planned."""
    table: str
    url: str
    dataset: str | None
    month: str | None
    rows_read: int | None
    """None where nothing was read yet and the file does not say."""
    rows_loaded: int
    rows_rejected: int
    known_rows: int | None
    verdict: str
    load_id: int | None
    sha256: str
    bytes: int
    seconds: float
    rows_per_second: int
    flow_run_url: str | None
    quality: Mapping[str, int]
    notes: tuple[str, ...]
    database: str
    """Where the table is: a libpq URL without a password."""
    plan: Preview | None = None

    @classmethod
    def of(
        cls,
        result: LoadResult,
        target: Target,
        database: Database,
        began: float,
        flow_run_url: str | None,
    ) -> "Outcome":
        """Put together what a flow run knows at its end; `began` is its start by the monotonic clock."""
        seconds, load = time.monotonic() - began, result.record
        return cls(
            status=result.status,
            table=str(target),
            url=load.source,
            dataset=load.dataset,
            month=load.month,
            rows_read=load.rows_read,
            rows_loaded=load.rows_loaded,
            rows_rejected=load.rows_rejected,
            known_rows=load.known_rows,
            verdict=load.verdict,
            load_id=load.load_id,
            sha256=load.sha256,
            bytes=load.bytes,
            seconds=round(seconds, 3),
            rows_per_second=0 if result.skipped else round(load.rows_loaded / seconds),
            flow_run_url=flow_run_url,
            quality=load.quality,
            notes=tuple(load.notes),
            database=database.address,
        )

    @classmethod
    def planned(
        cls,
        plan: Preview,
        stream: Stream,
        source: SourceFile,
        target: Target,
        database: Database,
        began: float,
        flow_run_url: str | None,
    ) -> "Outcome":
        """What `--dry-run` found out."""
        comparison = plan.comparison
        notes = [comparison.note] if comparison and comparison.note else []
        return cls(
            status="planned",
            table=str(target),
            url=source.url,
            dataset=stream.plan.dataset,
            month=stream.plan.month,
            rows_read=plan.rows,
            rows_loaded=0,
            rows_rejected=0,
            known_rows=comparison.known if comparison else None,
            verdict=comparison.verdict if comparison else "unknown",
            load_id=None,
            sha256=source.sha256,
            bytes=source.bytes,
            seconds=round(time.monotonic() - began, 3),
            rows_per_second=0,
            flow_run_url=flow_run_url,
            quality={},
            notes=(*stream.plan.warnings, *notes),
            database=database.address,
            plan=plan,
        )

    def as_json(self) -> dict[str, Any]:
        """A plain object for `--json`."""
        result = asdict(self)
        if self.plan is None:
            del result["plan"]
        return result

    def with_note(self, note: str) -> "Outcome":
        """The same, and something more that its reader should know."""
        return replace(self, notes=(*self.notes, note))
