"""The command `backfill`: all months of a range, or with `--dry-run` what they would take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.shared import (
    check_environment,
    check_text,
    chosen_database,
    chosen_settings,
    stdout,
)
from taxi_ingest.cli.views import AtEnd
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import LoadOptions, Reprocess, usual_jobs

if TYPE_CHECKING:
    from rich.table import Table

    from taxi_ingest.flows.outcome import BackfillOutcome
    from taxi_ingest.load import Database
    from taxi_ingest.months import Estimate, Month, Plan

app = typer.Typer()

_HINT = "Write it like this: taxi-ingest backfill yellow green 2019-01..2021-07"


@app.command(epilog="Example: taxi-ingest backfill yellow 2019-01..2021-07")
def backfill(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET... MONTHS",
            help="yellow, green, fhv, fhvhv, one or several; and which months: 2019-01..2021-07, 2019-01, "
            "2019, 2019..2021, 2023-01.. (till now) or all.",
        ),
    ],
    table: options.Table = None,
    jobs: options.Jobs = None,
    reprocess: Annotated[
        Reprocess,
        typer.Option(
            help="Which months to load: all that the table lacks, those that failed, those whose file has "
            "changed since, those that are missing or have changed (new), or every one anew."
        ),
    ] = "missing",
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Begin with the latest month.")
    ] = False,
    max_failures: options.MaxFailures = None,
    work_pool: options.WorkPool = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many of the pool's workers may write at once."),
    ] = None,
    chunk_size: options.ChunkSize = LoadOptions.chunk_size,
    block: options.Block = None,
    database_url: options.DatabaseUrl = None,
    names: options.Spelling = LoadOptions.names,
    max_rejects: options.MaxRejects = LoadOptions.max_rejects,
    verify: options.Verify = LoadOptions.verify,
    allow_short: options.AllowShort = LoadOptions.allow_short,
    index: options.Index = LoadOptions.index,
    transform: options.Transform = LoadOptions.transform,
    cache: options.Cached = LoadOptions.cache,
    views: options.Views = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be loaded and what it takes; load nothing.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,  # noqa: ARG001
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Load all months of a range that the table lacks, several at once, each exactly once.

    One month's failure stops no other. After an interrupt the same command goes on where it was.
    """
    with failures_told(json, months=[]) as known:
        check_text(table=table, block=block)
        datasets, months = _told_apart(words, table)
        how = LoadOptions(
            chunk_size=chunk_size,
            block=block,
            max_rejects=max_rejects,
            verify=verify,
            names=names,
            transform=transform,
            cache=cache,
            allow_short=allow_short,
            index=index,
        )
        request = _Request(
            context,
            datasets,
            months,
            table,
            jobs,
            reprocess,
            newest_first,
            max_failures,
            work_pool,
            limit,
            how,
            views,
        )
        act = request.plan if dry_run else request.load
        act(database_url, known)


def _told_apart(words: Sequence[str], table: str | None) -> tuple[list[str], str]:
    """The datasets and the one range that these words are. Raises UsageError, with the near miss."""
    from taxi_ingest import months, tlc

    ranges = [word for word in words if word == "all" or any(map(str.isdigit, word)) or ".." in word]
    datasets = [word for word in words if word not in ranges]
    for name in datasets:
        tlc.dataset_named(name)
    if not datasets:
        raise UsageError("Which dataset?", _HINT)
    if len(ranges) != 1:
        message = f"These are several ranges: {', '.join(ranges)}." if ranges else "Which months?"
        raise UsageError(message, _HINT)
    months.check(datasets, ranges[0], table, date.today())
    return datasets, ranges[0]


@dataclass(frozen=True)
class _Request:
    """What the command line asks for."""

    context: typer.Context
    datasets: Sequence[str]
    months: str
    table: str | None
    jobs: int | None
    reprocess: Reprocess
    newest_first: bool
    max_failures: int | None
    work_pool: str | None
    limit: int | None
    options: LoadOptions
    views: bool

    def load(self, database_url: str | None, known: dict[str, Any]) -> None:
        """Run the flow `backfill` and print its outcome; `known` gets what an error is told with."""
        # Before an import that would end us without a word where the system has too little of something.
        check_environment()
        from taxi_ingest.cli.several import Several
        from taxi_ingest.cli.watch import check_options

        check_options(self.options)
        settings, block = chosen_settings(self.options.block, database_url)

        def run() -> "BackfillOutcome":
            from taxi_ingest.flows.backfill import backfill

            return backfill(
                list(self.datasets),
                self.months,
                self.table,
                self.jobs,
                self.reprocess,
                self.newest_first,
                self.max_failures,
                work_pool=self.work_pool,
                limit=self.limit,
                options=replace(self.options, block=block),
            )

        tables = [self.table] if self.table else []
        views = AtEnd(self.views, tables, self.options.block, database_url)
        Several("months", run, self._again, self.context, settings, known, views).told()

    def _again(self, outcome: "BackfillOutcome") -> list[str]:
        from taxi_ingest.cli.several import noted_by_ledger

        changes = {
            "reprocess": "failed" if noted_by_ledger(outcome) else self.reprocess,
            # Without its password.
            "database_url": outcome.database if self.context.params["database_url"] else None,
            **dict.fromkeys(("max_failures", "json", "quiet")),
        }
        return options.same_again(self.context, [*self.datasets, self.months], changes)

    def plan(self, database_url: str | None, known: dict[str, Any]) -> None:
        """Print what would be loaded, and what it takes. Raises DatabaseError where there is no room."""
        from taxi_ingest.months import check_room, estimates, plan

        settings, _ = chosen_settings(self.options.block, database_url)
        quiet = self.context.params["quiet"] or self.context.params["json"]
        database = chosen_database(self.options.block, database_url, quiet)
        planned = plan(
            database,
            self.datasets,
            self.months,
            table=self.table,
            reprocess=self.reprocess,
            newest_first=self.newest_first,
            settings=settings,
            today=date.today(),
        )
        taken = _Taken(planned, estimates(database, planned.loading, settings), self.jobs or usual_jobs())
        known.update(taken.as_json(self.table, database))
        if not quiet:
            stdout().print(taken.shown())
        check_room(database, planned.loading, settings)
        if self.context.params["json"]:
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

    def as_json(self, table: str | None, database: "Database") -> dict[str, Any]:
        by_name = {estimate.month.name: estimate for estimate in self.estimates}
        return {
            "months": [_month(month, by_name.get(month.name), table) for month in self.plan.months],
            "rows": self.total("rows"),
            "bytes": self.total("file_bytes"),
            "table_bytes": self.total("table_bytes"),
            "seconds": self.seconds,
            "jobs": self.jobs,
            "database": database.address,
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
