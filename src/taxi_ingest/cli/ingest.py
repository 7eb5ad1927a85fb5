"""The commands that load: ingest, zones."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.shared import (
    Block,
    DatabaseUrl,
    Json,
    Quiet,
    check_environment,
    chosen_settings,
    read_settings,
    stderr,
    stdout,
)
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import IfLoaded, Job, Names

app = typer.Typer()


@app.command(
    epilog="Example: taxi-ingest ingest --url yellow_tripdata_2024-01.parquet --table yellow_tripdata",
)
def ingest(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The file: path or URL (file, http, https) of a CSV (also packed) or Parquet; - is stdin.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="The table, or SCHEMA.TABLE; made if it is missing."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead of --url: TLC's dataset (yellow, green, fhv, fhvhv) …"),
    ] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="… and its month.")] = None,
    chunk_size: Annotated[int, typer.Option(min=1, help="Rows to take at a time.")] = Job.chunk_size,
    block: Block = None,
    database_url: DatabaseUrl = None,
    if_loaded: Annotated[
        IfLoaded, typer.Option(help="What to do with a file that the table already has.")
    ] = Job.if_loaded,
    names: Annotated[
        Names | None,
        typer.Option(help="How a new table spells its columns: as TLC does, or in snake_case."),
    ] = Job.names,
    max_rejects: Annotated[
        str, typer.Option(metavar="N|P%", help="How many rows may be unfit before nothing at all is loaded.")
    ] = Job.max_rejects,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Load nothing if rows are missing by TLC's known counts."),
    ] = Job.verify,
    allow_short: Annotated[
        bool,
        typer.Option("--allow-short", help="Load what there is of a CSV that was cut."),
    ] = Job.allow_short,
    keep_both: Annotated[
        bool,
        typer.Option("--keep-both", help="Load a month beside the one that the table has from elsewhere."),
    ] = Job.keep_both,
    index: Annotated[
        bool,
        typer.Option("--index/--no-index", help="Whether the load gets an index on the pickup time."),
    ] = Job.index,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR", help="What separates a CSV's fields (a character, or tab); found out unless told."
        ),
    ] = Job.delimiter,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="Whether a CSV's first row has the names; found out unless told."
        ),
    ] = Job.header,
    transform: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own step: this function gets each chunk as a pandas DataFrame and returns one.",
        ),
    ] = Job.transform,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Whether downloads are kept, and used again.")
    ] = Job.cache,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen; write nothing to the database.")
    ] = Job.dry_run,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load one file into a table, exactly once.

    The same file again is skipped; a file that has changed since replaces its own rows and no others.
    """
    with failures_told(json, table=table, url=None) as known:
        if (url is None) == (dataset is None) or (dataset is None) != (month is None):
            raise UsageError("Which file?", "Give --url, or --dataset and --month.")
        if dataset and month:
            from taxi_ingest.sources import month_address
            from taxi_ingest.tlc import dataset_named

            url = month_address(dataset, month, read_settings())
            table = table or dataset_named(dataset).table
        if url is None or table is None:
            raise UsageError("Which table?", "Give --table.")
        job = Job(
            url=url,
            table=table,
            chunk_size=chunk_size,
            block=block,
            if_loaded=if_loaded,
            max_rejects=max_rejects,
            verify=verify,
            names=names,
            transform=transform,
            cache=cache,
            dry_run=dry_run,
            keep_both=keep_both,
            allow_short=allow_short,
            index=index,
            delimiter=delimiter,
            header=header,
        )
        _load(job, database_url, known, json, quiet)


@app.command(epilog="Example: taxi-ingest zones")
def zones(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The lookup file, if not TLC's present one.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table, taxi_zones unless told.")
    ] = None,
    block: Block = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load the taxi zone lookup, which PULocationID and DOLocationID refer to.

    The table has LocationID as its key; a newer lookup replaces it whole.
    """
    with failures_told(json, table=table, url=None) as known:
        from taxi_ingest.sources import zones_address
        from taxi_ingest.tlc import dataset_named

        usual_url = zones_address(read_settings())
        job = Job(url or usual_url, table or dataset_named("zones").table, block=block)
        _load(job, database_url, known, json, quiet)


def _load(job: Job, database_url: str | None, known: dict[str, Any], json: bool, quiet: bool) -> None:
    """Run the flow `ingest` and print its outcome; `known` gets what an error is told with."""
    known["table"] = job.table
    # Before what is imported now, which would end us without a word where there is too little of something.
    check_environment()
    from taxi_ingest.cli.watch import run_ingest, summary
    from taxi_ingest.sources import parse_source, with_login_in

    _check_text(table=job.table, block=job.block)
    known["url"] = parse_source(job.url).url
    settings, block = chosen_settings(job.block, database_url)
    # What a flow gets as a parameter, Prefect stores: secrets go with the settings.
    settings = with_login_in(job.url, settings)
    outcome = run_ingest(replace(job, block=block), settings, stderr(), quiet)
    if json:
        print_json(outcome.as_json())
    elif not quiet:
        from taxi_ingest.stack import psql_command

        stdout().print(summary(outcome, psql_command(outcome.database)))


def _check_text(**named: str | None) -> None:
    for name, text in named.items():
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise UsageError(f"--{name} is not UTF-8 text.", "Write it in UTF-8.") from None
