"""Places that have each month of TLC's once, in one schema for all eras: what they share."""

import re
from collections.abc import Collection
from typing import ClassVar

from taxi_ingest.errors import DataError, UsageError
from taxi_ingest.load import LoadRecord, LoadResult, Preview, Target, already_loaded
from taxi_ingest.load.preview import compare_before, described
from taxi_ingest.places.place import Place
from taxi_ingest.settings.job import Job, LoadOptions
from taxi_ingest.sources import Source, SourceFile
from taxi_ingest.tlc import FileName, parse_file_name
from taxi_ingest.transform import Stream

_TABLE = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*")
_NAMED = "Name it as TLC does, yellow_tripdata_2024-01.parquet; Postgres takes any file."
_PARQUET_BYTES_PER_FILE_BYTE = 0.2
"""About, of a CSV; of Parquet it is as much."""


class Monthly(Place):
    """A place that takes months of TLC's and nothing else."""

    kind: ClassVar[str]
    """What it is called in a sentence: `a lake`."""

    def check(
        self, options: LoadOptions, tables: Collection[Target] = (), sources: Collection[Source] = ()
    ) -> None:
        """Raise UsageError for names of columns, tables and files that can't be, and for --keep-both."""
        kind = self.kind[:1].upper() + self.kind[1:]
        if options.names not in (None, "tlc"):
            raise UsageError(
                f"The columns of {self.kind} are spelled as TLC does, not in the way of --names "
                f"{options.names}.",
                "Leave --names out.",
            )
        if options.keep_both:
            raise UsageError(f"{kind} has each month once: --keep-both can't be had.", "Use another --table.")
        # A work pool's loads have one, wherever they lead.
        if options.connections not in (None, 1):
            raise UsageError("--connections is for a Postgres.", "Leave it out.")
        for target in tables:
            if not _TABLE.fullmatch(str(target)):
                raise UsageError(
                    f"{str(target)!r} is no name for a table in {self.kind}.",
                    "Use letters, digits, _ and -, and no schema.",
                )
        for source in sources:
            if parse_file_name(source.name).month is None:
                raise UsageError(
                    f"{kind} takes months of TLC's, and the name {source.name} tells none.", _NAMED
                )

    def no_such_load(self, load_id: int) -> UsageError:
        """The error for a number that no load has."""
        return UsageError(
            f"There is no load {load_id}.", f"`taxi-ingest loads --to {self.address}` lists them."
        )

    def month_of(self, stream: Stream, file: SourceFile, job: Job) -> FileName:
        """The month that a file is of. Raises DataError for one that is of none."""
        plan = stream.plan
        month = plan.month or job.month
        if plan.dataset is None or month is None:
            what = f"one of {plan.dataset} of no month that is known" if plan.dataset else "none of them"
            raise DataError(f"Only months of TLC's go into {self.kind}; {file.name} is {what}.", _NAMED)
        return FileName(plan.dataset, month)


def check_replaceable(known: LoadRecord, target: Target, file: SourceFile, job: Job) -> None:
    """Raise DataError where a file may not take the place of what a table has of its month."""
    if job.if_loaded == "fail":
        raise already_loaded(known, target)
    if job.if_loaded == "skip" and known.source != file.url and known.sha256 != file.sha256:
        raise DataError(
            f"{target} has {known.dataset} {known.month} already, from {known.source}. This one, "
            f"from {file.url}, has other content.",
            "Replace it: `ingest` with --if-loaded replace, or `backfill` with --reprocess all.",
        )


def result_of(
    known: LoadRecord | None, file: SourceFile, job: Job, flow_run_url: str | None
) -> LoadResult | None:
    """The result for a file that the table has already; None where it is to be loaded."""
    if known is None or known.sha256 != file.sha256:
        return None
    if flow_run_url and known.flow_run_url == flow_run_url:
        # This very run has put it there before, but did not get the answer.
        return LoadResult(known)
    return LoadResult(known, skipped=True) if job.if_loaded == "skip" else None


def is_changed(known: LoadRecord | None, file: SourceFile) -> bool:
    """Whether a table had a file's month with other content, or from elsewhere."""
    return known is not None and (known.source, known.sha256) != (file.url, file.sha256)


def preview_of(stream: Stream, file: SourceFile, job: Job, known: LoadRecord | None) -> Preview:
    """What loading a file would do of whose month a table has `known`. Raises DataError for missing rows."""
    changed = known is not None and known.sha256 != file.sha256
    skipped = known is not None and not changed and job.if_loaded == "skip"
    comparison = compare_before(stream, changed)
    if comparison and not skipped:
        comparison.check(job.verify, job.allow_short)
    plan, is_csv = stream.plan, stream.layout.format.is_csv
    return Preview(
        action="skip" if skipped else "replace" if known else "load",
        layout=described(stream),
        rows=stream.layout.rows,
        comparison=comparison,
        mapped={column.name: column.source for column in plan.loaded if column.source},
        missing=tuple(column.name for column in plan.columns if column.source is None),
        added=plan.unknown,
        ddl="",
        space_bytes=round(file.bytes * (_PARQUET_BYTES_PER_FILE_BYTE if is_csv else 1)),
    )
