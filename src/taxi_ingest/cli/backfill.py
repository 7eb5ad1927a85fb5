"""The command `backfill`: all months of a range, or with `--dry-run` what they would take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import completion, options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, LOAD, SOURCE
from taxi_ingest.cli.shared import (
    check_environment,
    check_text,
    chosen_place,
    chosen_settings,
    given,
    stdout,
    told_apart,
)
from taxi_ingest.cli.views import AtEnd, check_views
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import BackfillJob, LoadOptions, Reprocess, usual_jobs

if TYPE_CHECKING:
    from rich.table import Table

    from taxi_ingest.flows.outcome import BackfillOutcome
    from taxi_ingest.months import Estimate, Month, Plan
    from taxi_ingest.places import Place

app = typer.Typer()

_HINT = "Write it like this: taxi-ingest backfill yellow green 2019-01..2021-07"


@app.command(
    rich_help_panel=LOAD,
    epilog="""taxi-ingest backfill yellow 2019-01..2021-07
taxi-ingest backfill yellow green 2023.. --jobs 2 --views
taxi-ingest backfill fhvhv all --dry-run
taxi-ingest backfill yellow all --reprocess failed""",
)
def backfill(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET... MONTHS",
            rich_help_panel=SOURCE,
            autocompletion=completion.datasets_and_range,
            help="yellow, green, fhv, fhvhv, one or several; and which months: 2019-01..2021-07, 2019-01, "
            "2019, 2019..2021, 2023-01.. (till now) or all.",
        ),
    ],
    transform: options.Transform = LoadOptions.transform,
    cache: options.Cached = LoadOptions.cache,
    source_block: options.SourceBlock = LoadOptions.source_block,
    table: options.Table = BackfillJob.table,
    names: options.Spelling = LoadOptions.names,
    index: options.Index = LoadOptions.index,
    to: options.To = LoadOptions.to,
    block: options.PlaceBlock = LoadOptions.block,
    database_url: options.DatabaseUrl = None,
    reprocess: Annotated[
        Reprocess,
        typer.Option(
            metavar=options.choices(Reprocess),
            rich_help_panel=BEHAVIOUR,
            help="Which months to load: all that the table lacks, those that failed, those whose file has "
            "changed since, those that are missing or have changed (new), or every one anew.",
        ),
    ] = BackfillJob.reprocess,
    newest_first: Annotated[
        bool,
        typer.Option("--newest-first", rich_help_panel=BEHAVIOUR, help="Begin with the latest month."),
    ] = BackfillJob.newest_first,
    verify: options.Verify = LoadOptions.verify,
    allow_short: options.AllowShort = LoadOptions.allow_short,
    max_rejects: options.MaxRejects = LoadOptions.max_rejects,
    chunk_size: options.ChunkSize = LoadOptions.chunk_size,
    connections: options.Connections = LoadOptions.connections,
    jobs: options.Jobs = BackfillJob.jobs,
    max_failures: options.MaxFailures = BackfillJob.max_failures,
    work_pool: options.WorkPool = BackfillJob.work_pool,
    limit: Annotated[
        int | None,
        options.number("How many of the pool's workers may write at once."),
    ] = BackfillJob.limit,
    wait: options.Wait = LoadOptions.wait,
    views: options.Views = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=BEHAVIOUR,
            help="Say what would be loaded and what it takes; load nothing.",
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_format: options.LogFormat = "text",
) -> None:
    """Load all months of a range that the table lacks, several at once.

    Each is loaded exactly once. One month's failure stops no other. After an interrupt the same command goes
    on where it was.
    """
    with failures_told(json, months=[]) as known:
        check_text(table=table, block=block, work_pool=work_pool, source_block=source_block)
        to, database_url = told_apart(to, block, database_url)
        check_views(views, to, block, database_url)
        datasets, months = _told_apart(words)
        options_of_load = replace(given(context, LoadOptions), to=to)
        job = given(context, BackfillJob, datasets=datasets, months=months, options=options_of_load)
        from taxi_ingest.cli.watch import check_options
        from taxi_ingest.months import check, target_of

        check(job)
        check_options(job.options, [str(target_of(dataset, table)) for dataset in datasets])
        act = _plan if dry_run else _load
        act(context, job, database_url, known)


def _told_apart(words: Sequence[str]) -> tuple[list[str], str]:
    """The datasets and the one range that these words are. Raises UsageError, with the near miss."""
    from taxi_ingest.tlc import near_month, near_range, trips_named

    ranges = [word for word in words if word == "all" or any(map(str.isdigit, word)) or ".." in word]
    datasets = [word for word in words if word not in ranges]
    if len(ranges) == 1 and datasets and (month := near_month(f"{datasets[-1]} {ranges[0]}")):
        raise UsageError(f"{datasets[-1]!r} is no dataset.", f"Did you mean {month}?")
    for name in datasets:
        trips_named(name)
    if not datasets:
        raise UsageError("Which dataset?", _HINT)
    if len(ranges) != 1:
        message = f"These are several ranges: {', '.join(ranges)}." if ranges else "Which months?"
        near = near_range("..".join(ranges))
        raise UsageError(message, f"Did you mean {near}?" if near else _HINT)
    return datasets, ranges[0]


def _load(context: typer.Context, job: BackfillJob, database_url: str | None, known: dict[str, Any]) -> None:
    """Run the flow `backfill` and print its outcome; `known` gets what an error is told with."""
    # Before an import that would end us without a word where the system has too little of something.
    check_environment()
    from taxi_ingest.cli.several import Several, noted_by_ledger

    settings, block = chosen_settings(job.options.block, database_url, job.options.source_block)
    called = replace(job, options=replace(job.options, block=block))

    def run() -> "BackfillOutcome":
        from taxi_ingest.flows.backfill import backfill

        return backfill(**vars(called))

    def again(outcome: "BackfillOutcome") -> list[str]:
        changes = {
            "reprocess": "failed" if job.options.to is None and noted_by_ledger(outcome) else job.reprocess,
            # Without its password.
            "database_url": outcome.database if database_url else None,
            "to": job.options.to,
            **dict.fromkeys(("max_failures", "json", "quiet")),
        }
        return options.same_again(context, [*job.datasets, job.months], changes)

    tables = [job.table] if job.table else []
    views = AtEnd(context.params["views"], tables, job.options.block, database_url)
    Several("months", run, again, context, settings, known, views).told()


def _plan(context: typer.Context, job: BackfillJob, database_url: str | None, known: dict[str, Any]) -> None:
    """Print what would be loaded, and what it takes. Raises DatabaseError where there is no room."""
    from taxi_ingest.months import check_room, estimates, plan

    settings, _ = chosen_settings(job.options.block, database_url, job.options.source_block)
    quiet = context.params["quiet"] or context.params["json"]
    place = chosen_place(job.options.to, job.options.block, database_url, quiet)
    planned = plan(place, job, settings)
    taken = _Taken(planned, estimates(place, planned.loading, settings), job.jobs or usual_jobs())
    known.update(taken.as_json(job.table, place))
    if not quiet:
        stdout().print(taken.shown())
    check_room(place, planned.loading, settings)
    if context.params["json"]:
        print_json({"status": "planned", **known})


@dataclass(frozen=True)
class _Taken:
    """What a plan takes."""

    plan: "Plan"
    estimates: "Sequence[Estimate]"
    jobs: int

    def total(self, name: str) -> float | None:
        """The sum over all months to be loaded; None where one of them can't be known."""
        values = [getattr(estimate, name) for estimate in self.estimates]
        return None if None in values else sum(values)

    @property
    def seconds(self) -> float | None:
        """How long it takes with so many jobs at once, which is never less than its longest month."""
        total = self.total("seconds")
        longest = max((estimate.seconds or 0 for estimate in self.estimates), default=0)
        return None if total is None else max(total / self.jobs, longest)

    def as_json(self, table: str | None, place: "Place") -> dict[str, Any]:
        by_name = {estimate.month.name: estimate for estimate in self.estimates}
        return {
            "months": [_month(month, by_name.get(month.name), table) for month in self.plan.months],
            "rows": self.total("rows"),
            "bytes": self.total("file_bytes"),
            "table_bytes": self.total("table_bytes"),
            "seconds": self.seconds,
            "jobs": self.jobs,
            "database": place.address,
        }

    def shown(self) -> "Table":
        from rich.table import Table

        shown = Table(box=None, header_style="cyan", pad_edge=False, show_footer=True)
        for heading, total in zip(_HEADINGS, self._totals(), strict=True):
            shown.add_column(heading, total, justify="left" if heading in _TEXTS else "right", no_wrap=True)
        by_name = {estimate.month.name: estimate for estimate in self.estimates}
        for month in self.plan.months:
            shown.add_row(month.name, month.state, *_cells(month, by_name.get(month.name)))
        return shown

    def _totals(self) -> list[str]:
        return [
            f"{len(self.estimates)} of {len(self.plan.months)}",
            "to load",
            _number(self.total("rows")),
            _size(self.total("file_bytes")),
            _time(self.seconds),
            _size(self.total("table_bytes")),
        ]


_TEXTS = ("month", "state")
_HEADINGS = (*_TEXTS, "rows", "file", "time", "disk")
_UNKNOWN = "?"


def _month(month: "Month", estimate: "Estimate | None", table: str | None) -> dict[str, Any]:
    from taxi_ingest.flows.outcome import NotLoaded
    from taxi_ingest.months import target_of

    target = str(target_of(month.dataset, table))
    empty = NotLoaded("waiting", target, None, month.dataset, month.month).as_json()
    status = "planned" if estimate else "unpublished" if month.state == "unpublished" else "skipped"
    return {
        **empty,
        "status": status,
        "state": month.state,
        "known_rows": month.known_rows,
        "rows": estimate.rows if estimate else None,
        "bytes": estimate.file_bytes if estimate else None,
        "table_bytes": estimate.table_bytes if estimate else None,
        "seconds": estimate.seconds if estimate else None,
    }


def _cells(month: "Month", estimate: "Estimate | None") -> list[str]:
    """Rows, file, time and disk of a month; of one that is not to be loaded only what it has."""
    if estimate is None:
        return [_number(month.load.rows_loaded) if month.load else "", "", "", ""]
    return [
        _number(estimate.rows),
        _size(estimate.file_bytes),
        _time(estimate.seconds),
        _size(estimate.table_bytes),
    ]


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"


def _size(value: float | None) -> str:
    from taxi_ingest.cli.display import size

    return _UNKNOWN if value is None else size(value)


def _time(seconds: float | None) -> str:
    from taxi_ingest.cli.display import duration

    return _UNKNOWN if seconds is None else duration(seconds)
