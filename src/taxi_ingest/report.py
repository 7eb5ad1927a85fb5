"""What a run says at its end."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from taxi_ingest.fetch import SourceFile
from taxi_ingest.load import Database, Load, LoadRecord, Target, parse_target


@dataclass(frozen=True)
class Outcome:
    """The result of `ingest`, as `--json` prints it."""

    status: str
    """loaded, replaced or skipped."""
    table: str
    url: str
    dataset: str | None
    month: str | None
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    known_rows: int | None
    verdict: str
    load_id: int
    sha256: str
    bytes: int
    seconds: float
    rows_per_second: int
    flow_run_url: str | None
    notes: tuple[str, ...]
    database: str
    """Where the table is: a libpq URL without a password."""

    @classmethod
    def of(
        cls,
        load: Load,
        source: SourceFile | LoadRecord,
        target: Target,
        database: Database,
        began: float,
        flow_run_url: str | None,
    ) -> "Outcome":
        """Put together what a flow run knows at its end; `began` is its start by the monotonic clock."""
        seconds = time.monotonic() - began
        return cls(
            status=load.status,
            table=str(target),
            url=source.url if isinstance(source, SourceFile) else source.source,
            dataset=load.dataset,
            month=load.month,
            rows_read=load.rows_read,
            rows_loaded=load.rows_loaded,
            rows_rejected=load.rows_rejected,
            known_rows=None,
            verdict="unknown",
            load_id=load.load_id,
            sha256=source.sha256,
            bytes=source.bytes,
            seconds=round(seconds, 3),
            rows_per_second=0 if load.status == "skipped" else round(load.rows_loaded / seconds),
            flow_run_url=flow_run_url,
            notes=load.notes,
            database=database.address,
        )

    def as_json(self) -> dict[str, Any]:
        """A plain object for `--json`."""
        return asdict(self)

    def summary(self, psql: Sequence[str]) -> Text:
        """What a person wants to know, with the command that opens the database as `psql`."""
        counted = f"{self.rows_read:,} read = {self.rows_loaded:,} loaded + {self.rows_rejected:,} rejected"
        if removed := self.rows_read - self.rows_loaded - self.rows_rejected:
            counted += f" + {removed:,} removed by --transform"
        rows = [
            ("table", self.table),
            ("file", self.url),
            (
                "dataset",
                " ".join(filter(None, (self.dataset, self.month))) or "none of TLC's: loaded as it is",
            ),
            ("rows", counted),
            ("load", f"{self.load_id} (sha256 {self.sha256[:12]}…, {self.bytes / 1e6:,.1f} MB)"),
            (
                "time",
                f"{self.seconds:.1f} s"
                + (f", {self.rows_per_second:,} rows/s" if self.rows_per_second else ""),
            ),
            ("flow run", self.flow_run_url or ""),
            *(("note", note) for note in self.notes),
            ("open it", shlex.join((*psql, "-c", f"TABLE {parse_target(self.table).quoted} LIMIT 5"))),
        ]
        lines = [Text.assemble((f"{name:<9}", "cyan"), value) for name, value in rows]
        return Text("\n").join((Text(_TITLES[self.status], style="bold green"), *lines))


_TITLES = {
    "loaded": "Loaded",
    "replaced": "Replaced: the file's earlier rows are gone, all others stay",
    "skipped": "Skipped: the table already has this file",
}
