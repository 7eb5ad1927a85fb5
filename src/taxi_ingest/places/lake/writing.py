"""A month's file, written whole: all its rows read, counted, checked and put into their order."""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from types import TracebackType
from typing import IO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_ingest.errors import DataError
from taxi_ingest.load import LoadProgress, LoadRecord, Target
from taxi_ingest.load.checks import Comparison, check_counts, check_month, compare
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.rejects import RejectSpool
from taxi_ingest.places.lake.month_file import ROW_GROUP_ROWS, MonthWriter, RejectsWriter
from taxi_ingest.places.lake.sorting import Sorter
from taxi_ingest.read import Reject
from taxi_ingest.read.texts import DECIMAL
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import SourceFile
from taxi_ingest.tlc import FileName
from taxi_ingest.transform import CanonicalBatch, Misjudged, Plan, Store, Stream, worked_ahead

LAKE = Store(reserved_names=frozenset({"month"}))
"""Readers take the month of a path for a column."""


def for_lake(stream: Stream) -> Stream:
    """The stream with names and types that all who read Parquet know: long decimals stay exact as text."""
    stream = stream.into(LAKE)
    for column in stream.plan.loaded:
        if column.type == DECIMAL:
            stream = stream.with_type(column.name, pa.string())
    return stream


def begin(
    load_id: int,
    target: Target,
    file: SourceFile,
    name: FileName,
    started_at: datetime,
    flow_run_url: str | None,
    known: LoadRecord | None,
) -> LoadRecord:
    """What is known of a load before its rows are read; `known` is the one whose rows it replaces."""
    return LoadRecord(
        load_id=load_id,
        table_schema=target.schema,
        table_name=target.name,
        source=file.url,
        status="loaded",
        sha256=file.sha256,
        bytes=file.bytes,
        etag=file.validators.etag,
        last_modified=file.validators.last_modified,
        dataset=name.dataset,
        month=name.month,
        rows_read=0,
        rows_loaded=0,
        rows_rejected=0,
        known_rows=None,
        verdict="unknown",
        quality={},
        notes=[],
        replaces=known.load_id if known else None,
        started_at=started_at,
        finished_at=started_at,
        ended_at=None,
        flow_run_url=flow_run_url,
        tool_version=version("taxi-ingest"),
    )


def write_month(
    file: IO[bytes],
    stream: Stream,
    source: SourceFile,
    job: Job,
    begun: LoadRecord,
    rejects: "Rejects",
    changed: bool,
    on_progress: Callable[[LoadProgress], None] = lambda _: None,
) -> LoadRecord:
    """Write all rows of a stream, `for_lake`, into a file, in their order, with what is known of the load.

    `changed`: whether the table had the month with other content. Returns what is known at the end. Raises
    DataError for too many rejects, for rows that are missing, and for what else is not to be loaded.
    """
    while True:
        file.seek(0)
        file.truncate()
        rejects.clear()
        try:
            return _written(file, stream, source, job, begun, rejects, changed, on_progress)
        except Misjudged as reason:
            stream = reason.corrected(stream)


def _written(
    file: IO[bytes],
    stream: Stream,
    source: SourceFile,
    job: Job,
    begun: LoadRecord,
    rejects: "Rejects",
    changed: bool,
    on_progress: Callable[[LoadProgress], None],
) -> LoadRecord:
    key = pickup_of(stream.plan)
    counts = Counts()
    with Sorter(key) as sorter, closing(worked_ahead(stream, _itself)) as batches:
        for batch in batches:
            sorter.add(batch.rows)
            rejects.add(batch.rejects)
            counts = counts.plus(batch.rows_read, batch.rows.num_rows, len(batch.rejects), batch.oddities)
            on_progress(LoadProgress(counts.read, batch.position))
        check_counts(counts, stream, rejects.spool, job.allowance)
        check_month(counts, job.month)
        comparison = compare(stream, counts.read, counts.rejected, counts.oddities, changed)
        comparison.check(job.verify, job.allow_short)
        with MonthWriter(file, stream.plan, key) as writer:
            writer.write(sorter.sorted(ROW_GROUP_ROWS))
            source.check_unchanged()
            record = _finished(begun, counts, comparison, stream, job)
            writer.close(record)
    _check_whole(file, record)
    return record


def pickup_of(plan: Plan) -> str:
    """The column by which rows are sorted. Raises DataError where a user's step has dropped it."""
    found = plan.pickup
    if found is None or found.source is None:
        raise DataError("Without its pickup times a month has no order.", "Leave that column in the step.")
    return found.name


def _itself(batch: CanonicalBatch) -> CanonicalBatch:
    return batch


def _finished(
    begun: LoadRecord, counts: Counts, comparison: Comparison, stream: Stream, job: Job
) -> LoadRecord:
    unknown = [
        f"New column {name!r}: no known TLC file has it, other months lack it."
        for name in stream.plan.unknown
    ]
    notes = [*stream.plan.warnings, *unknown, *comparison.notes(job.verify)]
    return replace(
        begun,
        rows_read=counts.read,
        rows_loaded=counts.loaded,
        rows_rejected=counts.rejected,
        known_rows=comparison.known,
        verdict=comparison.verdict,
        quality=dict(counts.oddities),
        notes=notes,
        finished_at=datetime.now(UTC),
    )


def _check_whole(file: IO[bytes], record: LoadRecord) -> None:
    """Raise DataError where the file, read again, has not the rows that were counted."""
    file.seek(0)
    written = pq.read_metadata(pa.PythonFile(file, mode="r")).num_rows
    if written != record.rows_loaded:
        raise DataError(
            f"Of {record.rows_loaded:,} rows {written:,} were written.", "This is a bug: please report it."
        )


class Rejects:
    """The rejects of a load, on their way into a file of their own."""

    def __init__(self, load_id: int) -> None:
        self._load_id = load_id
        self._lasting = ExitStack()
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lasting.close()

    def clear(self) -> None:
        """Forget those that there are."""
        self._lasting.close()
        self.spool = self._lasting.enter_context(RejectSpool(self._load_id))
        self._file = self._lasting.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._writer = self._lasting.enter_context(RejectsWriter(self._file))

    def add(self, rejects: tuple[Reject, ...]) -> None:
        """Keep these, too."""
        for reject in rejects:
            self.spool.add(reject)
        self._writer.write(rejects)

    def write_to(self, file: IO[bytes]) -> None:
        """Write all of them, as Parquet."""
        self._writer.close()
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)
