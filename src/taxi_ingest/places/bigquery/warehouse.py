"""BigQuery as a place: a month is a partition by time of ingestion, `t$202401`, filled anew by each load job.

By the time of ingestion, not by the pickup: TLC's months have stray pickups of other years, which a table
partitioned by them would put into other months' partitions, or refuse. Rows are clustered by their pickup.

Exactly once: the name of a load job says which table, month and content it is, and the how manieth try of it.
BigQuery runs a job of a name once, so a run that was cut off, or two at the same time, find each other's.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import pyarrow.parquet as pq

from taxi_ingest.errors import DatabaseError, DataError, TransientDatabaseError, UsageError
from taxi_ingest.load import (
    Filter,
    LoadProgress,
    LoadRecord,
    LoadResult,
    LookBack,
    Preview,
    TableRecord,
    Target,
    Undone,
)
from taxi_ingest.places.bigquery import ledger as ledgers
from taxi_ingest.places.bigquery.columns import columns_of, columns_with
from taxi_ingest.places.bigquery.dataset import Dataset, open_dataset, settle
from taxi_ingest.places.bigquery.ledger import Ledger
from taxi_ingest.places.lake.writing import Rejects, begin, for_lake, pickup_of, write_month
from taxi_ingest.places.monthly import Monthly, check_replaceable, is_changed, preview_of, result_of
from taxi_ingest.places.place import of_table
from taxi_ingest.read import Reject
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import Source, SourceFile
from taxi_ingest.transform import Stream

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.bigquery import LoadJob, LoadJobConfig, SchemaField, Table

_ADDRESS = re.compile(r"bigquery://(?P<project>[a-z0-9.:-]+)/(?P<dataset>\w+)/?", re.ASCII | re.IGNORECASE)
_NO_NUMBER = 0
"""Of a load that has none yet."""
_PASSING = ("backendError", "internalError", "rateLimitExceeded", "jobBackendError", "jobInternalError")
"""Why a job fails that may well succeed a moment later."""


def parse_address(text: str) -> "BigQuery":
    """The dataset that `bigquery://project/dataset` names. Raises UsageError."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} names no dataset.", "Write bigquery://project/dataset.")
    return BigQuery(found["project"], found["dataset"])


@dataclass(frozen=True)
class BigQuery(Monthly):
    """A dataset of a project's."""

    project: str
    dataset: str
    credentials: "Credentials | None" = field(default=None, repr=False)
    """None for what Google's own library finds."""
    kind = "BigQuery"

    @property
    def address(self) -> str:
        """Without any credentials."""
        return f"bigquery://{self.project}/{self.dataset}"

    def look_back(self, target: Target, source: Source) -> LookBack:
        """By the ledger and the table's partitions."""
        with self._opened() as dataset:
            loads = [load for load in _loads(dataset, target).of_table(target) if load.status == "loaded"]
        known = next((load for load in loads if load.source == source.url), None)
        return LookBack(known, TableRecord(loads[-1].dataset, "tlc", loads[-1].load_id) if loads else None)

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
        """Write the month's Parquet, and have BigQuery put it into the place of the month's partition."""
        del beside
        started_at = datetime.now(UTC)
        month = self.month_of(stream, file, job)
        with self._opened() as dataset:
            ledger = _loads(dataset, target)
            known = _decided(ledger, target, month.dataset, month.month, file, job)
            if result := result_of(known, file, job, flow_run_url):
                return result
            table = _checked(dataset, target)
            begun = begin(_NO_NUMBER, target, file, month, started_at, flow_run_url, known)
            changed, stream = is_changed(known, file), for_lake(stream)
            with TemporaryFile() as parquet, Rejects(_NO_NUMBER) as rejects:
                record = write_month(parquet, stream, file, job, begun, rejects, changed, on_progress)
                columns = columns_with(table, columns_of(pq.read_schema(_start(parquet)), stream.plan))
                if table is None:
                    dataset.make(str(target), columns, pickup_of(stream.plan))
                done = _loaded(dataset, ledger, record, parquet, columns, job.wait)
                _put_rejects(dataset, record, rejects, done.job_id)
            return LoadResult(
                ledgers.write_load(dataset, replace(record, finished_at=done.ended), done.job_id)
            )

    def undo(self, load_id: int) -> Undone:
        """Delete the month's partition, which costs nothing, and say so in the ledger."""
        with self._opened() as dataset:
            record = self._find(_loads(dataset), load_id)
            if record.status != "loaded":
                raise DataError(
                    f"Load {load_id} is {record.status} already: its rows are not in {record.target}.",
                    f"`taxi-ingest loads --to {self.address}` tells what became of each load.",
                )
            dataset.drop(_partition(record))
            dataset.drop(_partition_of_rejects(record))
            ledgers.write_undone(dataset, load_id)
        return Undone(record, record.rows_loaded, [record.target])

    def list_loads(self, wanted: Filter) -> list[LoadRecord]:
        """The ledger's, those told apart whose partition somebody has deleted."""
        with self._opened() as dataset:
            ledger = _loads(dataset, wanted.target)
        loads = [entry.record for entry in ledger.entries if _fits(entry.record, wanted)]
        return loads[-wanted.limit :] if wanted.limit else loads

    def look(self, target: Target) -> list[str]:
        """By Google's own tool, and without a query."""
        return ["bq", "head", "-n", "5", f"{self.project}:{self.dataset}.{target}"]

    def find_load(self, load_id: int, target: Target | None = None) -> LoadRecord:
        """Of the ledger."""
        with self._opened() as dataset:
            return of_table(self._find(_loads(dataset), load_id), target)

    def _find(self, ledger: Ledger, load_id: int) -> LoadRecord:
        for entry in ledger.entries:
            if entry.record.load_id == load_id:
                return entry.record
        raise self.no_such_load(load_id)

    def preview(self, stream: Stream, file: SourceFile, target: Target, job: Job) -> Preview:
        """By the ledger and the table."""
        month = self.month_of(stream, file, job)
        with self._opened() as dataset:
            known = _decided(_loads(dataset, target), target, month.dataset, month.month, file, job)
            _checked(dataset, target)
        return preview_of(for_lake(stream), file, job, known)

    def rejects(self, target: Target, load_id: int, limit: int | None = None) -> list[Reject]:
        """Those of the table beside."""
        del target
        with self._opened() as dataset:
            record = self._find(_loads(dataset), load_id)
            if record.status != "loaded" or not record.rows_rejected:
                return []
            rows = dataset.rows(_partition_of_rejects(record), _reject_columns(), limit)
        return [Reject(*row.values()) for row in rows]

    def _opened(self) -> AbstractContextManager[Dataset]:
        return open_dataset(self.project, self.dataset, self.credentials)


def _loads(dataset: Dataset, target: Target | None = None) -> Ledger:
    return ledgers.without_dropped(ledgers.read(dataset), dataset, target)


def _decided(
    ledger: Ledger, target: Target, dataset: str | None, month: str | None, file: SourceFile, job: Job
) -> LoadRecord | None:
    """What the table has of the month. Raises DataError where the file may not take its place."""
    loads = [load for load in ledger.of_table(target) if load.status == "loaded"]
    for load in loads:
        TableRecord(load.dataset, "tlc", load.load_id).check_dataset(dataset, target)
    known = next((load for load in loads if load.month == month), None)
    if known:
        check_replaceable(known, target, file, job)
    return known


def _checked(dataset: Dataset, target: Target) -> "Table | None":
    """The table as it is. Raises DataError for one that does not keep months apart."""
    table = dataset.table(str(target))
    if table is None:
        return None
    partitioning = table.time_partitioning
    if partitioning is None or partitioning.type_ != "MONTH" or partitioning.field:
        raise DataError(
            f"{target} exists, but is not partitioned by the month of ingestion.",
            "Load into another --table, which is made so.",
        )
    return table


def _loaded(
    dataset: Dataset,
    ledger: Ledger,
    record: LoadRecord,
    parquet: IO[bytes],
    columns: "list[SchemaField]",
    wait: bool,
) -> "LoadJob":
    """The job that has loaded a month's file: ours, or that of a run which could not write it down."""
    month = (record.month or "").replace("-", "")
    stem = f"taxi-ingest-{dataset.name}-{record.target}-{month}-{record.sha256}"

    def stands(job: "LoadJob") -> bool:
        return job.job_id not in ledger.job_ids and _stands(dataset, ledger, record, job)

    return _once(dataset, parquet, _partition(record), stem, columns, record.rows_loaded, wait, stands)


def _once(
    dataset: Dataset,
    file: IO[bytes],
    partition: str,
    stem: str,
    columns: "list[SchemaField]",
    rows: int,
    wait: bool,
    stands: "Callable[[LoadJob], bool]",
) -> "LoadJob":
    """The job that has loaded a file into a partition: ours, or an earlier one of its names that `stands`."""
    for attempt in count(1):
        job_id = f"{stem}-{attempt}"
        earlier = dataset.job(job_id)
        job = earlier or dataset.begin(file, partition, job_id, _config(columns))
        settle(job, wait or earlier is None)
        fault = _fault(job, rows)
        if fault is None and (earlier is None or stands(job)):
            return job
        if fault and earlier is None:
            raise fault
    raise AssertionError("there is always a next name")


def _fault(job: "LoadJob", rows: int) -> DatabaseError | None:
    """Why a job has not loaded what it should have, if so."""
    if reason := job.error_result:
        kind = TransientDatabaseError if reason.get("reason") in _PASSING else DatabaseError
        said = str(reason.get("message")).rstrip(".")
        return kind(
            f"BigQuery has not loaded the file: {said}.", f"The table is as it was. The job is {job.job_id}."
        )
    if job.output_rows != rows:
        return DatabaseError(
            f"BigQuery says that it has loaded {job.output_rows:,} rows of {rows:,}.",
            f"The month is there, but does not count as loaded; load it again. The job is {job.job_id}.",
        )
    return None


def _stands(dataset: Dataset, ledger: Ledger, record: LoadRecord, job: "LoadJob") -> bool:
    """Whether what an earlier job has loaded is there still: nothing has changed its month since."""
    assert record.month, "only months are loaded"
    changed_at = ledger.last_change(record.target, record.month)
    return (changed_at is None or job.ended > changed_at) and record.month in dataset.months(
        str(record.target)
    )


def _config(columns: "list[SchemaField]") -> "LoadJobConfig":
    """A month's partition in the place of the one before, in one moment, with all of the file or nothing."""
    from google.cloud.bigquery import LoadJobConfig

    return LoadJobConfig(
        source_format="PARQUET",
        schema=columns,
        create_disposition="CREATE_NEVER",
        write_disposition="WRITE_TRUNCATE",
        schema_update_options=["ALLOW_FIELD_ADDITION"],
    )


def _put_rejects(dataset: Dataset, record: LoadRecord, rejects: Rejects, job_id: str) -> None:
    """The rejects of a load in the place of those that its month had before."""
    if not record.rows_rejected:
        if record.replaces is not None:
            dataset.drop(_partition_of_rejects(record))
        return
    dataset.make(f"{record.target}_rejects", _reject_columns(), None)
    with TemporaryFile() as file:
        rejects.write_to(file)
        partition, stem = _partition_of_rejects(record), f"{job_id}-rejects"
        columns, rows = _reject_columns(), record.rows_rejected
        _once(dataset, file, partition, stem, columns, rows, True, lambda _: True)


def _reject_columns() -> "list[SchemaField]":
    from google.cloud.bigquery import SchemaField

    return [
        SchemaField("number", "INTEGER"),
        *(SchemaField(name, "STRING") for name in ("column_name", "reason", "raw")),
    ]


def _partition(record: LoadRecord) -> str:
    return f"{record.target}${(record.month or '').replace('-', '')}"


def _partition_of_rejects(record: LoadRecord) -> str:
    return f"{record.target}_rejects${(record.month or '').replace('-', '')}"


def _start(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _fits(record: LoadRecord, wanted: Filter) -> bool:
    asked = (
        (wanted.target, record.target),
        (wanted.dataset, record.dataset),
        (wanted.month, record.month),
        (wanted.status, record.status),
    )
    return all(want is None or want == has for want, has in asked)
