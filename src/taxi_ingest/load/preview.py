"""What a load would do, found out without writing anything."""

from dataclasses import dataclass
from typing import Literal

from taxi_ingest.load import table
from taxi_ingest.load.checks import Comparison, compare
from taxi_ingest.load.database import Database
from taxi_ingest.load.decision import decide
from taxi_ingest.load.space import table_bytes
from taxi_ingest.load.table import ExistingTable, Target
from taxi_ingest.load.trust import check_ledger
from taxi_ingest.load.types import for_postgres
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Misjudged, Plan, Stream


@dataclass(frozen=True)
class Preview:
    """What would happen."""

    action: Literal["load", "skip", "replace"]
    layout: str
    rows: int | None
    """As a Parquet file's footer says; None for CSV."""
    comparison: Comparison | None
    """These rows against the known ones; None where they are not counted."""
    mapped: dict[str, str]
    """Column of the table -> the file's name for it."""
    missing: tuple[str, ...]
    """Columns that the file lacks; they stay null."""
    added: tuple[str, ...]
    """Columns that an existing table would get."""
    ddl: str
    """The statement that makes the table; empty where it exists."""
    space_bytes: int
    """About how much room the rows take in the database."""


def preview(stream: Stream, file: SourceFile, target: Target, database: Database, job: Job) -> Preview:
    """Look at the table and the ledger, and say what `load_file` would do with this file.

    Raises DataError where `load_file` would refuse it, as far as that is known before all rows are read.
    """
    stream = for_postgres(stream)
    # Never committed.
    with database.connect() as connection, connection.cursor() as cursor:
        check_ledger(cursor)
        decision = decide(cursor, stream, file, target, job)
        ddl = (
            "" if decision.existing else table.create_statement(target, stream.plan.columns).as_string(cursor)
        )
    comparison = compare_before(stream, decision.changed)
    if comparison and decision.destination:
        comparison.check(job.verify, job.allow_short)
    plan = stream.plan
    return Preview(
        action=decision.action,
        layout=described(stream),
        rows=stream.layout.rows,
        comparison=comparison,
        mapped={column.name: column.source for column in plan.loaded if column.source},
        missing=tuple(column.name for column in plan.columns if column.source is None),
        added=_added(plan, decision.existing),
        ddl=ddl,
        space_bytes=table_bytes(stream, file),
    )


def compare_before(stream: Stream, changed: bool) -> Comparison | None:
    """What is known of the rows before all are read; the first ones tell of which month they are."""
    if stream.layout.rows is None:
        return None
    oddities: dict[str, int] = {}
    if first := next(stream.pieces(), None):
        try:
            batch = stream.converter()(first)
        except Misjudged:
            return None
        oddities = {
            name: round(count / batch.rows_read * stream.layout.rows)
            for name, count in batch.oddities.items()
        }
    return compare(stream, stream.layout.rows, 0, oddities, changed)


def described(stream: Stream) -> str:
    """The file's format, and what is odd about how it is written."""
    layout = stream.layout
    text = f"{layout.format}, {len(layout.header)} columns"
    if layout.trailing_fields:
        text += f", {layout.trailing_fields} empty fields at the end of each row"
    if layout.blank_lines:
        text += f", {layout.blank_lines} blank lines after the header"
    return text


def _added(plan: Plan, existing: ExistingTable | None) -> tuple[str, ...]:
    if existing is None:
        return plan.unknown
    return tuple(column.name for column in plan.loaded if column.name not in existing.columns)
