"""What a run says at its end."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from taxi_ingest.errors import printable
from taxi_ingest.load import Database, LoadResult, Preview, Target, parse_target
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Stream
from taxi_ingest.transform.quality import ODDITIES


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

    def summary(self, psql: Sequence[str]) -> Text:
        """What a person wants to know, with the command that opens the database as `psql`."""
        rows = [
            ("table", self.table),
            ("file", f"{self.url} ({self.bytes / 1e6:,.1f} MB)"),
            (
                "dataset",
                " ".join(filter(None, (self.dataset, self.month))) or "none of TLC's: loaded as it is",
            ),
            *(self._plan_rows(self.plan) if self.plan else self._load_rows()),
            ("flow run", self.flow_run_url or ""),
            *(("note", note) for note in self.notes),
        ]
        if self.plan is None:
            rows.append(
                ("open it", shlex.join((*psql, "-c", f"TABLE {parse_target(self.table).quoted} LIMIT 5")))
            )
        lines = [Text.assemble((f"{name:<9}", "cyan"), printable(value)) for name, value in rows]
        return Text("\n").join((Text(_TITLES[self.status], style="bold green"), *lines))

    def _load_rows(self) -> list[tuple[str, str]]:
        read = self.rows_read or 0
        counted = f"{read:,} read = {self.rows_loaded:,} loaded + {self.rows_rejected:,} rejected"
        if removed := read - self.rows_loaded - self.rows_rejected:
            counted += f" + {removed:,} removed by --transform"
        speed = f", {self.rows_per_second:,} rows/s" if self.rows_per_second else ""
        odd = [f"{count:,} {ODDITIES[name][0]}" for name, count in self.quality.items() if count]
        return [
            ("rows", counted),
            *([("verdict", self._verdict())] if self.verdict != "unknown" else []),
            *([("quality", ", ".join(odd))] if odd else []),
            ("load", f"{self.load_id} (sha256 {self.sha256[:12]}…)"),
            ("time", f"{self.seconds:.1f} s{speed}"),
        ]

    def _verdict(self) -> str:
        """What was compared: how many rows the file has, whatever became of them."""
        return f"{self.verdict}: {self.rows_read:,} rows read, {_VERDICTS[self.verdict]} {self.known_rows:,}"

    def _plan_rows(self, plan: Preview) -> list[tuple[str, str]]:
        return [
            ("would", f"{plan.action} it"),
            ("layout", plan.layout),
            ("rows", "not counted before they are read" if plan.rows is None else f"{plan.rows:,}"),
            *([("verdict", self._verdict())] if self.verdict != "unknown" else []),
            ("space", f"about {plan.space_bytes / 1e6:,.0f} MB in the database"),
            ("columns", ", ".join(_mapping(name, source) for name, source in plan.mapped.items())),
            *([("null", ", ".join(plan.missing))] if plan.missing else []),
            *([("added", ", ".join(plan.added))] if plan.added else []),
            *([("ddl", plan.ddl)] if plan.ddl else []),
        ]


def _mapping(name: str, source: str) -> str:
    return name if name == source else f"{name} (from {source})"


_VERDICTS = {
    "match": "as many as TLC's file of the month is known to have:",
    "revised": "more, or others than before; TLC's file of the month was known to have",
    "short": "but TLC's file of the month is known to have",
}

_TITLES = {
    "loaded": "Loaded",
    "replaced": "Replaced: the file's earlier rows are gone, all others stay",
    "skipped": "Skipped: the table already has this file",
    "planned": "Planned: nothing was written",
}
