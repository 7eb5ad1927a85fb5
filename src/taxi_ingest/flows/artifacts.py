"""What a run leaves in Prefect's dashboard: what was loaded, its first rejects, a backfill's months.

A table's artifacts share a key, so that its loads read as one series
(https://docs.prefect.io/v3/concepts/artifacts). They are told what the ledger has, and none is worth a load:
where Prefect does not take one, the run goes on.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from taxi_ingest.errors import DatabaseError, printable
from taxi_ingest.flows.labels import file_label
from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded, Outcome
from taxi_ingest.load import parse_target
from taxi_ingest.places import Place
from taxi_ingest.read import Reject
from taxi_ingest.transform import Plan

_SHOWN_REJECTS = 50
_LONG_SECONDS = 3.0
"""A load that is done sooner has no progress to look at."""
_UPDATE_SECONDS = 1.0


@dataclass(frozen=True)
class Story:
    """What a run that loaded a file has to tell."""

    outcome: Outcome
    place: Place
    plan: Plan | None = None
    """None where the file was there already."""
    seconds: Mapping[str, float] | None = None
    """How long each stage took."""


def leave(artifacts: Iterable[ArtifactCreate]) -> None:
    """Give the flow run that this is its artifacts."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    client = cast(SyncPrefectClient, context.client)
    with _unharmed():
        for artifact in artifacts:
            client.create_artifact(artifact.model_copy(update={"flow_run_id": context.flow_run.id}))


@contextmanager
def _unharmed() -> Iterator[None]:
    """Have no failure to tell fail what was done. Prefect's client tells one by RuntimeError, too."""
    with suppress(PrefectException, httpx.HTTPError, RuntimeError, DatabaseError):
        yield


# One file


def of_load(story: Story) -> Iterator[ArtifactCreate]:
    """The artifacts of a run that loaded a file, or found it loaded."""
    outcome = story.outcome
    yield ArtifactCreate(
        key=key_of(outcome.table), type="markdown", description=_headline(outcome), data=_page(story)
    )
    if outcome.rows_rejected and outcome.load_id is not None:
        rejects = story.place.rejects(parse_target(outcome.table), outcome.load_id, _SHOWN_REJECTS)
        yield ArtifactCreate(
            key=key_of(outcome.table, "rejects"),
            type="table",
            description=f"The first of {outcome.rows_rejected:,} rows that load {outcome.load_id} rejected",
            # As Prefect's own tables are sent: one look of its dashboard reads nothing else.
            data=json.dumps([_shown_reject(reject) for reject in rejects]),
        )


def key_of(table: str, *parts: str) -> str:
    """A key that Prefect takes: lower-case letters, digits and dashes; another one for each table."""
    name = table.replace("_", "-").strip("-")
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name) or "-" in table:
        number = hashlib.sha256(table.encode()).hexdigest()[:6]
        name = "-".join(filter(None, (re.sub("[^a-z0-9]+", "-", name.lower()).strip("-"), number)))
    return "-".join((name, *parts))


def _headline(outcome: Outcome) -> str:
    file = file_label(outcome.dataset, outcome.month, outcome.url)
    return f"{outcome.status}: {outcome.rows_loaded:,} rows of {file} in {outcome.table}"


def _page(story: Story) -> str:
    outcome = story.outcome
    parts = [
        f"## {_plain(_headline(outcome))}",
        _table(("", ""), _facts(outcome)),
        *[f"> {_plain(note)}" for note in outcome.notes],
    ]
    if story.seconds:
        rows = [(stage, f"{seconds:.2f} s") for stage, seconds in story.seconds.items()]
        parts.append(_table(("stage", "took"), rows))
    if outcome.quality:
        counted = [(name.replace("_", " "), f"{count:,}") for name, count in outcome.quality.items()]
        parts.append(_table(("oddity", "rows, all loaded"), counted))
    if story.plan:
        parts.append(_table(("column", "of the file", "type"), _columns(story.plan)))
    return "\n\n".join(parts)


def _facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    yield "from", _linked(outcome.url)
    yield "table", f"`{outcome.table}` in {outcome.database}"
    yield "rows", f"{outcome.rows_loaded:,} loaded, {outcome.rows_rejected:,} rejected"
    if outcome.known_rows is not None:
        yield "known to have", f"{outcome.known_rows:,} rows: **{outcome.verdict}**"
    if outcome.load_id is not None:
        yield "load", f"{outcome.load_id} (`taxi-ingest loads {outcome.load_id}`)"
    yield "sha256", f"`{outcome.sha256}`, {outcome.bytes:,} bytes"


def _columns(plan: Plan) -> Iterator[tuple[str, str, str]]:
    for column in plan.columns:
        yield column.name, column.source or "*missing: null*", str(column.type)
    for name in plan.unknown:
        yield "", name, "*new: no era had it so far*"


def _shown_reject(reject: Reject) -> dict[str, Any]:
    return {
        "line": reject.number,
        "column": reject.column or "",
        "reason": _no_markup(reject.reason),
        "row": _no_markup(reject.raw),
    }


def _no_markup(text: str) -> str:
    """A text in which no HTML counts: one of Prefect's two looks takes a table's cells for it."""
    return re.sub("[<&]", "\\g<0>\u200b", printable(text))


# Several


def of_several(outcome: BackfillOutcome, key: str) -> Iterator[ArtifactCreate]:
    """The artifact of a run with children: what became of each."""
    counts = ", ".join(
        f"{outcome.count(status)} {status}"
        for status in ("loaded", "replaced", "skipped", "failed", "unpublished", "waiting")
        if outcome.count(status)
    )
    rows = [
        (
            _load(each),
            f"**{each.status}**" if each.status == "failed" else each.status,
            f"{each.rows_loaded:,}" if isinstance(each, Outcome) else "",
            _why(each),
        )
        for each in outcome.months
    ]
    yield ArtifactCreate(
        key=key,
        type="markdown",
        description=counts or "nothing",
        data="\n\n".join(
            [
                f"## {counts or 'nothing to load'}: {outcome.rows_loaded:,} rows in {outcome.seconds:,.0f} s",
                *_grids(outcome),
                _table(("load", "", "rows", ""), rows),
            ]
        ),
    )


def _load(each: Outcome | NotLoaded) -> str:
    """What a load is called, and its run where it has one."""
    name = _plain(file_label(each.dataset, each.month, str(each.url)))
    run = each.flow_run_url if isinstance(each, Outcome) else None
    return f"[{name}](<{run}>)" if run else name


_SIGNS = {"loaded": "✓", "replaced": "✓", "skipped": "✓", "failed": "✗", "unpublished": "–", "waiting": "·"}


def _grids(outcome: BackfillOutcome) -> Iterator[str]:
    """For each dataset its years down and its months across."""
    signs: dict[str, dict[str, dict[str, str]]] = {}
    for each in outcome.months:
        if each.dataset and each.month:
            year, month = each.month.split("-")
            signs.setdefault(each.dataset, {}).setdefault(year, {})[month] = _SIGNS[each.status]
    months = [f"{month:02}" for month in range(1, 13)]
    for dataset, years in signs.items():
        rows = [
            (year, *(of_year.get(month, "") for month in months)) for year, of_year in sorted(years.items())
        ]
        yield _table((dataset, *months), rows)


def _why(each: Outcome | NotLoaded) -> str:
    if isinstance(each, NotLoaded):
        return " ".join(filter(None, (each.error, each.hint)))
    return "" if each.verdict in ("match", "unknown") else each.verdict


# Progress


@contextmanager
def progress_shown(name: str, table: str) -> Iterator["Progress"]:
    """Let the dashboard follow a load that lasts, from a thread of its own: a load waits for nobody."""
    context = FlowRunContext.get()
    run = context.flow_run.id if context and context.flow_run else None
    progress = Progress()
    ended = threading.Event()
    if run:
        # A thread does not inherit which API is in use.
        followed = partial(copy_context().run, _follow, progress, name, table, run, ended)
        threading.Thread(target=followed, daemon=True).start()
    try:
        yield progress
    finally:
        ended.set()


@dataclass
class Progress:
    """How much of a file is loaded."""

    percent: float = 0

    def update(self, bytes: int, of_bytes: int) -> None:
        """Remember how far the load is."""
        self.percent = round(min(100 * bytes / of_bytes, 100), 1) if of_bytes else 0


def _follow(progress: Progress, name: str, table: str, run: UUID, ended: threading.Event) -> None:
    if ended.wait(_LONG_SECONDS):
        return
    with _unharmed(), get_client(sync_client=True) as client:
        artifact = client.create_artifact(
            ArtifactCreate(
                key=key_of(table, "progress"),
                type="progress",
                description=f"{name}: how much of it is read",
                data=progress.percent,
                flow_run_id=run,
            )
        )
        told = progress.percent
        while not ended.wait(_UPDATE_SECONDS):
            if progress.percent != told:
                told = progress.percent
                client.update_artifact(artifact.id, ArtifactUpdate(data=told))


# Markdown


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """A text of a file's or a server's, in which no Markdown or HTML counts."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", printable(text))


def _linked(url: str) -> str:
    return f"[{_plain(url)}](<{url}>)" if url.startswith(("http://", "https://")) else f"`{printable(url)}`"
