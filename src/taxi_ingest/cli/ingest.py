"""The command that loads files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import LOAD, SOURCE
from taxi_ingest.cli.shared import (
    check_environment,
    check_text,
    chosen_settings,
    given,
    stderr,
    stdout,
    told_apart,
)
from taxi_ingest.cli.views import AtEnd, check_views
from taxi_ingest.errors import UsageError, without_login
from taxi_ingest.settings.job import Job, LoadOptions

if TYPE_CHECKING:
    from taxi_ingest.flows.outcome import Outcome
    from taxi_ingest.settings.environment import Settings

app = typer.Typer()


@app.command(
    rich_help_panel=LOAD,
    epilog="""taxi-ingest ingest --dataset yellow --month 2024-01
taxi-ingest ingest yellow_tripdata_2024-01.parquet --table yellow_tripdata
taxi-ingest ingest 'data/*.csv.gz' --table staging.trips --jobs 2
taxi-ingest ingest --url trips.csv --table trips --dry-run""",
)
def ingest(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            rich_help_panel=SOURCE,
            help="Files, as for --url; also folders, and patterns such as 'data/*.parquet', in buckets too.",
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            rich_help_panel=SOURCE,
            help="A file: path or URL (file, http, https, gs, s3, az) of a CSV (also packed) or Parquet; - "
            "is stdin. May be given several times.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        options.dataset("Instead of files: TLC's dataset yellow, green, fhv or fhvhv, with --month."),
    ] = None,
    month: Annotated[
        str | None,
        options.month("The month of --dataset. The table is then NAME_tripdata unless told."),
    ] = None,
    delimiter: options.Delimiter = Job.delimiter,
    header: options.Header = Job.header,
    transform: options.Transform = Job.transform,
    cache: options.Cached = Job.cache,
    source_block: options.SourceBlock = Job.source_block,
    table: options.Table = None,
    names: options.Spelling = Job.names,
    index: options.Index = Job.index,
    to: options.To = Job.to,
    block: options.PlaceBlock = None,
    database_url: options.DatabaseUrl = None,
    if_loaded: options.WhenLoaded = Job.if_loaded,
    keep_both: options.KeepBoth = Job.keep_both,
    verify: options.Verify = Job.verify,
    allow_short: options.AllowShort = Job.allow_short,
    max_rejects: options.MaxRejects = Job.max_rejects,
    chunk_size: options.ChunkSize = Job.chunk_size,
    connections: options.Connections = Job.connections,
    jobs: options.Jobs = None,
    max_failures: options.MaxFailures = None,
    wait: options.Wait = Job.wait,
    views: options.Views = False,
    dry_run: options.DryRun = Job.dry_run,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_format: options.LogFormat = "text",
) -> None:
    """Load files into a table, each exactly once.

    The same file again is skipped; a file that has changed since replaces its own rows and no others.
    """
    with failures_told(json, table=table, url=None) as known:
        check_text(table=table, block=block, source_block=source_block)
        to, database_url = told_apart(to, block, database_url)
        addresses = [*(files or ()), *(url or ())]
        if addresses and (dataset or month):
            raise UsageError(
                "Which file? One is named, and --dataset or --month name one, too.", "Leave one of them out."
            )
        if not addresses and not (dataset and month):
            raise UsageError("Which file?", _lacking(dataset, month))
        named = [] if table is None else [table]
        settings, chosen_block = chosen_settings(block, database_url, source_block)
        if dataset and month:
            from taxi_ingest.sources.months import month_address
            from taxi_ingest.tlc import trips_named

            addresses = [month_address(dataset, month, settings)]
            table = table or trips_named(dataset).table
        _check_no_dataset(addresses)
        if table is None:
            raise UsageError("Which table?", "Give --table.")
        how = replace(given(context, LoadOptions), to=to, block=chosen_block)
        check_views(views, to, block, database_url)
        at_end = AtEnd(views, named, block, database_url) if views or dataset else None
        found = _files(addresses, settings)
        if len(found) == 1:
            job = Job(url=found[0], table=table, dry_run=dry_run, month=month, **vars(how))
            outcome = run_load(job, settings, known, quiet, verbose)
            _tell(outcome, None if dry_run else at_end, known, json, quiet)
        elif dry_run:
            raise UsageError(f"--dry-run looks at one file; these are {len(found)}.", "Name one of them.")
        else:
            _load_all(context, found, table, how, settings, database_url, known, at_end)


def _lacking(dataset: str | None, month: str | None) -> str:
    """What names a file beside what is given."""
    if dataset:
        return f"Give the --month, too, or load all of them: taxi-ingest backfill {dataset} all"
    if month:
        return "Give the --dataset, too: yellow, green, fhv or fhvhv."
    return "Name a FILE or a --url, or give --dataset and --month."


def _check_no_dataset(addresses: Sequence[str]) -> None:
    """Raise UsageError where a dataset stands in the place of a file that is not there."""
    from taxi_ingest.tlc import datasets

    first, *others = addresses
    if first in [each.name for each in datasets()] and not Path(first).exists():
        month = others[0] if others else "2024-01"
        hint = f"taxi-ingest ingest --dataset {first} --month {month}"
        raise UsageError(f"There is no file {first}, which is a dataset.", f"Did you mean {hint}?")


def _files(addresses: Sequence[str], settings: "Settings") -> list[str]:
    from taxi_ingest.sources import files_of, logins_of

    logins = logins_of(settings)
    return list(dict.fromkeys(file for address in addresses for file in files_of(address, logins)))


def run_load(job: Job, settings: "Settings", known: dict[str, Any], quiet: bool, verbose: int) -> "Outcome":
    """Run the flow `ingest`; `known` gets what an error is told with."""
    known["table"] = job.table
    # Before what is imported now, which would end us without a word where there is too little of something.
    check_environment()
    from taxi_ingest.cli.watch import Watch, run_ingest
    from taxi_ingest.sources import parse_source, with_login_in

    known["url"] = parse_source(job.url).url
    # What a flow gets as a parameter, Prefect stores: secrets go with the settings.
    settings = with_login_in(job.url, settings)
    return run_ingest(job, Watch(settings, stderr(), quiet, verbose))


def print_loaded(outcome: "Outcome", offer: Sequence[tuple[str, str]] = ()) -> None:
    """Print what was loaded, how to look at it, and what else is on offer."""
    from taxi_ingest.cli.watch import summary

    stdout().print(summary(outcome, offer))


def _tell(outcome: "Outcome", views: AtEnd | None, known: dict[str, Any], json: bool, quiet: bool) -> None:
    """Print what was loaded, and make or offer the views on it."""
    shown = not (json or quiet)
    if shown:
        print_loaded(outcome, views.offer(outcome.database) if views else [])
    result = outcome.as_json()
    if views:
        result = views.made(result, known, shown)
    if json:
        print_json(result)


def _load_all(
    context: typer.Context,
    files: Sequence[str],
    table: str,
    how: LoadOptions,
    settings: "Settings",
    database_url: str | None,
    known: dict[str, Any],
    views: AtEnd | None,
) -> None:
    """Run the flow `ingest-files` and print its outcome."""
    known.clear()
    known["months"] = []
    check_environment()
    from taxi_ingest.cli.several import Several
    from taxi_ingest.cli.watch import check_options
    from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded
    from taxi_ingest.sources import logins_of, parse_source, with_login_in

    for file in files:
        settings = with_login_in(file, settings)
    sources = [parse_source(file, logins_of(settings)) for file in files]
    check_options(how, [table], sources)
    # Of two names of one file the first.
    named: dict[str, str] = {}
    for source in sources:
        source.check()
        named.setdefault(source.url, source.named_url)
    urls = list(named.values())

    def run() -> BackfillOutcome:
        from taxi_ingest.flows.files import ingest_files

        many = context.params["jobs"], context.params["max_failures"]
        return ingest_files(urls, table, *many, how)

    def again(outcome: BackfillOutcome) -> list[str]:
        left = {file.url for file in outcome.months if isinstance(file, NotLoaded)}
        words = [
            without_login(file) for file, source in zip(files, sources, strict=True) if source.url in left
        ]
        # A database's address without its password.
        address = outcome.database if database_url else None
        changes = {
            "database_url": address,
            "to": how.to,
            **dict.fromkeys(("url", "max_failures", "json", "quiet")),
        }
        return options.same_again(context, words, changes)

    Several("files", run, again, context, settings, known, views).told()
