"""A run's outcome as a person wants to know it."""

import shlex
from collections.abc import Sequence

from rich.text import Text

from taxi_ingest.errors import printable
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.load import Preview, parse_target
from taxi_ingest.transform.quality import ODDITIES

_TITLES = {
    "loaded": "Loaded",
    "replaced": "Replaced: the file's earlier rows are gone, all others stay",
    "skipped": "Skipped: the table already has this file",
    "planned": "Planned: nothing was written",
}

_VERDICTS = {
    "match": "as many as TLC's file of the month is known to have:",
    "revised": "more, or others than before; TLC's file of the month was known to have",
    "short": "but TLC's file of the month is known to have",
}


def summary(outcome: Outcome, psql: Sequence[str]) -> Text:
    """What was done, line by line, with the command that opens the database as `psql`."""
    name = " ".join(filter(None, (outcome.dataset, outcome.month)))
    rows = [
        ("table", outcome.table),
        ("file", f"{outcome.url} ({outcome.bytes / 1e6:,.1f} MB)"),
        ("dataset", name or "none of TLC's: loaded as it is"),
        *(_plan_rows(outcome, outcome.plan) if outcome.plan else _load_rows(outcome)),
        ("flow run", outcome.flow_run_url or ""),
        *(("note", note) for note in outcome.notes),
    ]
    if outcome.plan is None:
        look = f"TABLE {parse_target(outcome.table).quoted} LIMIT 5"
        rows.append(("open it", shlex.join((*psql, "-c", look))))
    lines = [Text.assemble((f"{name:<9}", "cyan"), printable(value)) for name, value in rows]
    return Text("\n").join((Text(_TITLES[outcome.status], style="bold green"), *lines))


def _load_rows(outcome: Outcome) -> list[tuple[str, str]]:
    read = outcome.rows_read or 0
    counted = f"{read:,} read = {outcome.rows_loaded:,} loaded + {outcome.rows_rejected:,} rejected"
    if removed := read - outcome.rows_loaded - outcome.rows_rejected:
        counted += f" + {removed:,} removed by --transform"
    speed = f", {outcome.rows_per_second:,} rows/s" if outcome.rows_per_second else ""
    odd = [f"{count:,} {ODDITIES[name][0]}" for name, count in outcome.quality.items() if count]
    return [
        ("rows", counted),
        *_verdict(outcome),
        *([("quality", ", ".join(odd))] if odd else []),
        ("load", f"{outcome.load_id} (sha256 {outcome.sha256[:12]}…)"),
        ("time", f"{outcome.seconds:.1f} s{speed}"),
    ]


def _plan_rows(outcome: Outcome, plan: Preview) -> list[tuple[str, str]]:
    return [
        ("would", f"{plan.action} it"),
        ("layout", plan.layout),
        ("rows", "not counted before they are read" if plan.rows is None else f"{plan.rows:,}"),
        *_verdict(outcome),
        ("space", f"about {plan.space_bytes / 1e6:,.0f} MB in the database"),
        ("columns", ", ".join(_mapping(name, source) for name, source in plan.mapped.items())),
        *([("null", ", ".join(plan.missing))] if plan.missing else []),
        *([("added", ", ".join(plan.added))] if plan.added else []),
        *([("ddl", plan.ddl)] if plan.ddl else []),
    ]


def _verdict(outcome: Outcome) -> list[tuple[str, str]]:
    """What was compared: how many rows the file has, whatever became of them."""
    if outcome.verdict == "unknown":
        return []
    compared = f"{outcome.rows_read:,} rows read, {_VERDICTS[outcome.verdict]} {outcome.known_rows:,}"
    return [("verdict", f"{outcome.verdict}: {compared}")]


def _mapping(name: str, source: str) -> str:
    return name if name == source else f"{name} (from {source})"
