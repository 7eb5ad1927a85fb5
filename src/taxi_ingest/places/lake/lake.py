"""A lake: `<table>/month=2024-01/yellow_tripdata_2024-01.parquet`, each month one object, whole or absent.

There is no ledger beside the objects: what is known of a load stands in its object's footer, and a month that
is loaded anew takes the place of the one before in the moment in which it is complete. Rejects lie below
`_rejects/`, where nobody who reads a table meets them.
"""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from taxi_ingest.errors import DataError, UsageError
from taxi_ingest.load import (
    Filter,
    LoadProgress,
    LoadRecord,
    LoadResult,
    LookBack,
    Preview,
    Target,
    Undone,
)
from taxi_ingest.places.lake.month_file import TAIL_BYTES, footer_bytes, read_record, read_rejects
from taxi_ingest.places.lake.objects import Draft, Objects
from taxi_ingest.places.lake.writing import Rejects, begin, for_lake, write_month
from taxi_ingest.places.monthly import Monthly, check_replaceable, is_changed, preview_of, result_of
from taxi_ingest.read import Reject
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import Source, SourceFile
from taxi_ingest.tlc import MONTH_PATTERN, FileName, parse_file_name
from taxi_ingest.transform import Stream

_KEY = re.compile(
    rf"(?P<table>[^/]+)/month=(?P<month>{MONTH_PATTERN})/(?P<dataset>[a-z]+)_tripdata_(?P=month)\.parquet"
)
_REJECTS = "_rejects"
_REQUESTS_AT_ONCE = 16
_WHOLE_BYTES = 1 << 30


@dataclass(frozen=True)
class _Month:
    """Where a month of a table lies."""

    target: Target
    name: FileName

    @property
    def folder(self) -> str:
        """Of its table."""
        return f"{self.target}/month={self.name.month}"

    @property
    def key(self) -> str:
        """Of its one object."""
        return f"{self.folder}/{self.name.dataset}_tripdata_{self.name.month}.parquet"

    def rejects_key(self, sha256: str) -> str:
        """Of the rejects of a file: that of another version never stands for it."""
        return f"{_REJECTS}/{self.folder}/{sha256[:12]}.parquet"

    @property
    def load_id(self) -> int:
        """A month is loaded once, so that it is the number: 202401."""
        return int((self.name.month or "").replace("-", ""))


@dataclass(frozen=True)
class Lake(Monthly):
    """Objects of Parquet in a folder or in a bucket."""

    objects: Objects
    kind = "a lake"

    @property
    def address(self) -> str:
        """The folder, or the URL of the bucket and the prefix in it."""
        return self.objects.address

    def look_back(self, target: Target, source: Source) -> LookBack:
        """By the footer of its month's object."""
        name = parse_file_name(source.name)
        record = self._record(_Month(target, name).key) if name.month else None
        return LookBack(record if record and record.source == source.url else None, None)

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
        """Write the month's object beside, and put it into its place at the end."""
        del beside
        started_at = datetime.now(UTC)
        month = _Month(target, self.month_of(stream, file, job))
        with self.objects.draft(month.key, job.wait) as draft:
            known = self._decided(month, file, job)
            if done := result_of(known, file, job, flow_run_url):
                return done
            begun = begin(month.load_id, target, file, month.name, started_at, flow_run_url, known)
            changed = is_changed(known, file)
            with Rejects(month.load_id) as rejects:
                record = write_month(
                    draft.file, for_lake(stream), file, job, begun, rejects, changed, on_progress
                )
                self._publish(draft, month, record, rejects)
        return LoadResult(record)

    def _decided(self, month: _Month, file: SourceFile, job: Job) -> LoadRecord | None:
        """What the table has of the month. Raises DataError where the file may not take its place."""
        self._check_table(month)
        known = self._record(month.key)
        if known:
            check_replaceable(known, month.target, file, job)
        return known

    def _check_table(self, month: _Month) -> None:
        """One table, one dataset, and nobody else's files, whose rows would be read with ours."""
        for key in self.objects.keys(f"{month.target}/"):
            found = _KEY.fullmatch(key)
            if found and found["dataset"] != month.name.dataset:
                raise DataError(
                    f"{month.target} holds files of TLC's dataset {found['dataset']}, this is one of "
                    f"{month.name.dataset}.",
                    "Load it into another --table.",
                )
            if not found and not any(part.startswith(("_", ".")) for part in key.split("/")):
                raise DataError(
                    f"{self.address} has {key}, which taxi-ingest did not put there.",
                    "Move it away, or load into another --table.",
                )

    def _publish(self, draft: Draft, month: _Month, record: LoadRecord, rejects: Rejects) -> None:
        own = month.rejects_key(record.sha256)
        if record.rows_rejected:
            with self.objects.draft(own, wait=True) as beside:
                rejects.write_to(beside.file)
                beside.publish()
        draft.publish()
        if record.replaces is not None:
            for key in self.objects.keys(f"{_REJECTS}/{month.folder}/"):
                if key != own or not record.rows_rejected:
                    self.objects.remove(key)

    def undo(self, load_id: int) -> Undone:
        """Nothing is taken out of a lake."""
        del load_id
        raise UsageError(
            "Nothing in a lake can be undone.",
            f"To be rid of a month, remove its folder: {self.address}/TABLE/month=…",
        )

    def list_loads(self, wanted: Filter) -> list[LoadRecord]:
        """By the footers of all objects that fit."""
        if wanted.status not in (None, "loaded"):
            return []
        found = [
            _KEY.fullmatch(key) for key in self.objects.keys(f"{wanted.target}/" if wanted.target else "")
        ]
        keys = [match[0] for match in found if match and _fits(match, wanted)]
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            records = [record for record in pool.map(self._record, keys) if record]
        records.sort(key=lambda record: record.finished_at)
        return records[-wanted.limit :] if wanted.limit else records

    def find_load(self, load_id: int, target: Target | None = None) -> LoadRecord:
        """By its month, which several tables may have."""
        found = self.list_loads(Filter(target, month=f"{load_id // 100}-{load_id % 100:02}"))
        if len(found) > 1:
            tables = ", ".join(sorted(str(load.target) for load in found))
            raise UsageError(f"Several tables have a load {load_id}: {tables}.", "Name one: --table")
        if found:
            return found[0]
        raise self.no_such_load(load_id)

    def preview(self, stream: Stream, file: SourceFile, target: Target, job: Job) -> Preview:
        """By the month's object."""
        month = _Month(target, self.month_of(stream, file, job))
        return preview_of(for_lake(stream), file, job, self._decided(month, file, job))

    def rejects(self, target: Target, load_id: int, limit: int | None = None) -> list[Reject]:
        """Of the file beside the month's."""
        loads = self.list_loads(Filter(target, month=f"{load_id // 100}-{load_id % 100:02}"))
        for load in loads:
            month = _Month(target, FileName(load.dataset, load.month))
            if content := self.objects.tail(month.rejects_key(load.sha256), _WHOLE_BYTES):
                return read_rejects(content, limit)
        return []

    def look(self, target: Target) -> list[str]:
        """By DuckDB."""
        return ["duckdb", "-c", f'FROM "{self.address}/{target}/*/*.parquet" LIMIT 5']

    def free_bytes(self) -> int | None:
        """Of a folder's disk."""
        return self.objects.free_bytes()

    def _record(self, key: str) -> LoadRecord | None:
        tail = self.objects.tail(key, TAIL_BYTES)
        if tail is None:
            return None
        if (needed := footer_bytes(tail)) > len(tail):
            tail = self.objects.tail(key, needed) or tail
        return read_record(tail, f"{self.address}/{key}")


def _fits(match: re.Match[str], wanted: Filter) -> bool:
    return wanted.dataset in (None, match["dataset"]) and wanted.month in (None, match["month"])
