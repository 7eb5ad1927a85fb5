"""The ledger: a table of the dataset, one row for each load and one for each that was undone.

Rows are only ever added. What has become of a load follows from those behind it: a month that was loaded
anew replaces, and one whose partition is gone was dropped by somebody.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import LoadRecord, Target
from taxi_ingest.places.bigquery.dataset import Dataset

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField

TABLE = "taxi_ingest_loads"

_TYPES = {
    "load_id": "INT64",
    "bytes": "INT64",
    "rows_read": "INT64",
    "rows_loaded": "INT64",
    "rows_rejected": "INT64",
    "known_rows": "INT64",
    "replaces": "INT64",
    "quality": "JSON",
    "started_at": "TIMESTAMP",
    "finished_at": "TIMESTAMP",
    "ended_at": "TIMESTAMP",
}
"""Of a record's fields and `job_id`; all others are texts, and `notes` several."""

_NAMES = [*(field.name for field in fields(LoadRecord)), "job_id"]


@dataclass(frozen=True)
class Entry:
    """A load, and the job that has done it."""

    record: LoadRecord
    job_id: str

    @property
    def month(self) -> tuple[Target, str | None]:
        """The table, and which of its months."""
        return self.record.target, self.record.month

    def ended(self, status: Any, at: datetime | None) -> "Entry":
        """The same, its rows gone."""
        return replace(self, record=replace(self.record, status=status, ended_at=at))


@dataclass(frozen=True)
class Ledger:
    """What is known of all loads, oldest first."""

    entries: tuple[Entry, ...]

    @property
    def highest(self) -> int:
        """The number of the latest load."""
        return max((entry.record.load_id for entry in self.entries), default=0)

    @property
    def job_ids(self) -> frozenset[str]:
        """The jobs that have done these loads."""
        return frozenset(entry.job_id for entry in self.entries)

    def of_job(self, job_id: str) -> LoadRecord | None:
        """The load that a job has done."""
        return next((entry.record for entry in self.entries if entry.job_id == job_id), None)

    def of_table(self, target: Target) -> list[LoadRecord]:
        """A table's loads."""
        return [entry.record for entry in self.entries if entry.record.target == target]

    def last_change(self, target: Target, month: str) -> datetime | None:
        """When rows of a month were last put there or taken away."""
        loads = [record for record in self.of_table(target) if record.month == month]
        return max((record.ended_at or record.finished_at for record in loads), default=None)


def read(dataset: Dataset) -> Ledger:
    """The ledger; an empty one where there is none. Raises DatabaseError for another table of its name."""
    from google.api_core.exceptions import BadRequest

    try:
        rows = dataset.rows(TABLE, _schema())
    except BadRequest:
        raise DatabaseError(
            f"{TABLE} in the dataset {dataset.name} is no ledger of taxi-ingest's.",
            "Load into another dataset, or rename that table.",
        ) from None
    loads = sorted((_entry(row) for row in rows if row["status"] == "loaded"), key=_time)
    undone = {row["load_id"]: row["ended_at"] for row in rows if row["status"] == "undone"}
    return Ledger(tuple(_followed(_once(loads), undone)))


def _time(entry: Entry) -> tuple[datetime, int]:
    return entry.record.finished_at, entry.record.load_id


def _once(loads: list[Entry]) -> list[Entry]:
    """Without what was written twice, by two that have waited for the same job."""
    first: dict[str, Entry] = {}
    for entry in loads:
        first.setdefault(entry.job_id, entry)
    return list(first.values())


def _followed(loads: list[Entry], undone: Mapping[int, datetime]) -> Iterator[Entry]:
    """Each with what has become of it."""
    following = {
        one.job_id: other
        for month in {entry.month for entry in loads}
        for one, other in pairwise(entry for entry in loads if entry.month == month)
    }
    for entry in loads:
        if at := undone.get(entry.record.load_id):
            yield entry.ended("undone", at)
        elif other := following.get(entry.job_id):
            yield entry.ended("replaced", other.record.finished_at)
        else:
            yield entry


def without_dropped(ledger: Ledger, dataset: Dataset, target: Target | None = None) -> Ledger:
    """The same, with those loads told apart whose partition somebody has deleted; of one table, or of all."""
    tables = {entry.record.target for entry in ledger.entries if entry.record.status == "loaded"}
    months = {table: dataset.months(str(table)) for table in tables if target in (None, table)}

    def now(entry: Entry) -> Entry:
        record = entry.record
        there = months.get(record.target)
        if record.status != "loaded" or there is None or record.month in there:
            return entry
        return entry.ended("dropped", None)

    return Ledger(tuple(map(now, ledger.entries)))


def write_load(dataset: Dataset, record: LoadRecord, job_id: str) -> LoadRecord:
    """Write a load down, once for each job; returns it with its number."""
    number = 0
    while True:
        ledger = read(dataset)
        if known := ledger.of_job(job_id):
            return known
        # Each number is that of a job, which there can be only one of: nobody else gets the same.
        number = max(ledger.highest, number) + 1
        numbered = replace(record, load_id=number)
        row = {**asdict(numbered), "job_id": job_id}
        if _append(dataset, row, f"load-{number}"):
            return numbered


def write_undone(dataset: Dataset, load_id: int) -> None:
    """Write down that a load's rows are gone."""
    row = {"load_id": load_id, "status": "undone", "ended_at": datetime.now(UTC)}
    _append(dataset, row, f"undo-{load_id}")


def _append(dataset: Dataset, row: Mapping[str, Any], what: str) -> bool:
    values = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()
    }
    return dataset.append(values, TABLE, f"taxi-ingest-{dataset.name}-{what}", _schema())


def _schema() -> "list[SchemaField]":
    from google.cloud.bigquery import SchemaField

    return [
        SchemaField(name, _TYPES.get(name, "STRING"), mode="REPEATED" if name == "notes" else "NULLABLE")
        for name in _NAMES
    ]


def _entry(row: Any) -> Entry:
    values = {name: row[name] for name in _NAMES}
    job_id = values.pop("job_id")
    quality = values["quality"]
    values["quality"] = json.loads(quality) if isinstance(quality, str) else quality or {}
    return Entry(LoadRecord(**values), job_id)
