"""The flow `ingest`: the sub-flow that logs the table's name, then extract, transform, load.

Flow parameters are stored by Prefect and shown in its dashboard, so no password is one: a database that
has one is named by a block or found in the settings.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from taxi_ingest.errors import TaxiIngestError, UsageError
from taxi_ingest.flows import tasks
from taxi_ingest.flows.artifacts import Story, leave, of_load
from taxi_ingest.flows.blocks import find_block
from taxi_ingest.flows.caller import caller, settings_in_use
from taxi_ingest.flows.cloud_blocks import open_block, source_opened
from taxi_ingest.flows.labels import run_name, tags_of_load
from taxi_ingest.flows.logs import FOR_ALL
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.flows.runs import end_dead_runs, known_to_down, own_url, tell_first, tied_flow
from taxi_ingest.load import LoadResult, TableRecord, Target, already_loaded, parse_target
from taxi_ingest.places import Place, choose_place, place_at
from taxi_ingest.settings.job import DEFAULT_OPTIONS, IfLoaded, Job, LoadOptions, Names
from taxi_ingest.sources import Source, logins_of, parse_source, run_folder
from taxi_ingest.sources.months import month_address, month_sources
from taxi_ingest.tlc import FileName, parse_file_name, trips_named


def check_target(tables: Iterable[str], how: LoadOptions, sources: Sequence[Source] = ()) -> None:
    """Raise UsageError for what is no table's name or no place, and for what the place can't do.

    Nothing is connected to, but Prefect where a block is named.
    """
    targets = [parse_target(table) for table in tables]
    place = open_block(how.block, how.to) if how.block else how.to and place_at(how.to)
    if isinstance(place, Place):
        place.check(how, targets, sources)


def _name() -> str:
    parameters = flow_run.get_parameters()
    return run_name(parameters["url"], parameters["table"])


def _tags(parameters: dict[str, Any]) -> set[str]:
    return tags_of_load(parameters["url"], parameters["table"])


def _check(parameters: dict[str, Any]) -> None:
    job = Job(**parameters)
    check_target([job.table], job, [parse_source(job.url)])


@tied_flow(name="ingest", flow_run_name=_name, tags_for=_tags, check=_check)
def ingest(
    url: str,
    table: str,
    chunk_size: int = Job.chunk_size,
    to: str | None = Job.to,
    block: str | None = Job.block,
    if_loaded: IfLoaded = Job.if_loaded,
    max_rejects: str = Job.max_rejects,
    verify: bool = Job.verify,
    names: Names | None = Job.names,
    transform: str | None = Job.transform,
    cache: bool = Job.cache,
    dry_run: bool = Job.dry_run,
    keep_both: bool = Job.keep_both,
    allow_short: bool = Job.allow_short,
    index: bool = Job.index,
    delimiter: str | None = Job.delimiter,
    header: bool | None = Job.header,
    connections: int | None = Job.connections,
    wait: bool = Job.wait,
    limit: str | None = Job.limit,
    month: str | None = Job.month,
    source_block: str | None = Job.source_block,
) -> Outcome:
    """Load one file into a table, exactly once.

    Args:
        url: Path, or URL (file, http, https, gs, s3, az), of a CSV (also packed) or Parquet file. Without a
            login, which Prefect would store with it: set TAXI_INGEST_SOURCE_LOGIN.
        table: Table, or schema.table; made where it is missing.
        chunk_size: Rows to take at a time.
        to: Where the table is: postgresql://user@host/database, without a password; bigquery://project/dataset;
            a folder, or a bucket as gs://bucket/prefix.
        block: SqlAlchemyConnector block of the database, GcsBucket or S3Bucket block of the bucket, or
            BigQueryWarehouse block with whose credentials `to` is opened; without one, and without `to`,
            TAXI_INGEST_DATABASE_URL, the block `postgres-connector` or the local stack's embedded Postgres.
        if_loaded: What to do with a file that the table has already.
        max_rejects: How many rows may be rejected: `100` or `1%`.
        verify: Whether fewer rows than TLC's file is known to have abort the load.
        names: How a new table's columns are spelled, `tlc`, `snake` or `lower`; the table remembers it.
        transform: `module:function` of the user's, from DataFrame to DataFrame, called with each chunk.
        cache: Whether a download is kept, and taken from those kept before.
        dry_run: Find out what would happen, and load nothing.
        keep_both: Whether a month that the table has from another address is loaded beside it.
        allow_short: Whether a CSV is loaded that was cut, most of its month's known rows missing.
        index: Whether the load gets an index on the pickup time.
        delimiter: What separates a CSV's fields, found out unless told: one character, or `tab`.
        header: Whether a CSV's first row has the names, found out unless told.
        connections: Over how many connections the file is copied; as many as pay, if not told.
        wait: Whether another run that loads the same is waited for, rather than left alone (BusyError).
        month: The month that is expected, `2024-01`: a file whose rows are mostly of others is refused.
        limit: Prefect's global concurrency limit of which the load is to hold a slot.
        source_block: GcsBucket, S3Bucket or GcpCredentials block with whose credentials a bucket is read;
            without one, the usual ones of the cloud.

    Returns:
        What was loaded, or that it was there already, as `--json` prints it.

    Raises:
        TaxiIngestError: its class tells source, data and database apart; nothing was changed then.
    """
    # All parameters, which are its fields.
    return load_job(Job(**locals()))


def _tags_of_month(parameters: dict[str, Any]) -> set[str]:
    dataset, table = parameters["dataset"], parameters["table"]
    return {dataset, parameters["month"], table or trips_named(dataset).table}


def _check_month(parameters: dict[str, Any]) -> None:
    month_sources(parameters["dataset"], parameters["month"], settings_in_use())
    check_target([parameters["table"] or trips_named(parameters["dataset"]).table], parameters["options"])


@tied_flow(
    name="ingest-month", flow_run_name="{dataset} {month}", tags_for=_tags_of_month, check=_check_month
)
def ingest_month(
    dataset: str, month: str, table: str | None = None, options: LoadOptions = DEFAULT_OPTIONS
) -> Outcome:
    """Load a month of one of TLC's datasets, exactly once.

    Args:
        dataset: yellow, green, fhv or fhvhv.
        month: The month, `2024-01`.
        table: Table, or schema.table; the dataset's usual one (`yellow_tripdata`) if none is named.
        options: How it is loaded.

    Returns:
        What was loaded, or that it was there already, as `--json` prints it.

    Raises:
        TaxiIngestError: its class tells source, data and database apart; nothing was changed then.
    """
    with source_opened(options.source_block):
        url = month_address(dataset, month, settings_in_use())
        job = Job(url=url, table=table or trips_named(dataset).table, month=month, **vars(options))
        return load_job(job, FileName(dataset, month))


def load_job(job: Job, known_as: FileName | None = None) -> Outcome:
    """The body of a flow run that loads one file; `known_as` is what a month's file is, if that is known."""
    with known_to_down(job.table), source_opened(job.source_block):
        story = _load_job(job, known_as)
        tell_first(story.outcome)
        leave(of_load(story))
        return story.outcome


def _load_job(job: Job, known_as: FileName | None) -> Story:
    began = time.monotonic()
    seconds: dict[str, float] = {}

    def took() -> float:
        return time.monotonic() - began

    def ended(stage: str) -> None:
        seconds[stage] = took() - sum(seconds.values())

    if caller().place is None:
        log_table_name(job.table, job.dry_run)
    settings = settings_in_use()
    source, target = parse_source(job.url, logins_of(settings)), parse_target(job.table)
    place = chosen_place(job.to, job.block)
    with failure_noted(job, source, target, place, known_as or parse_file_name(source.name)):
        known = tasks.look_back(place, target, source)
        if known.file and job.if_loaded == "fail":
            raise already_loaded(known.file, target)
        with run_folder(settings.cache_dir) as folder:
            unless_same = known.file if job.if_loaded == "skip" and not job.dry_run else None
            file = tasks.extract(job, source, folder, unless_same, settings)
            ended("extract")
            if file is None:
                assert known.file, "only a known file can be unchanged"
                same = LoadResult(known.file, skipped=True)
                return Story(Outcome.of(same, target, place, took(), own_url()), place)
            stream = tasks.transform(job, file, chosen_names(job.names, known.table, target))
            ended("transform")
            if job.dry_run:
                plan = place.preview(stream, file, target, job)
                planned = Outcome.planned(plan, stream, file, target, place, took(), own_url())
                return Story(planned, place, stream.plan)
            result = tasks.load(job, stream, file, target, place)
            ended("load")
        outcome = Outcome.of(result, target, place, took(), own_url())
        return Story(outcome, place, stream.plan, seconds)


def chosen_place(to: str | None, block: str | None) -> Place:
    """The parent flow's place, where it has chosen one; else what the address, block or settings name.

    Runs that were killed are put right on the way, where no parent has done that.
    """
    if chosen := caller().place:
        return chosen
    place = choose_place(settings_in_use(), to, block, find_block, open_block)
    end_dead_runs(place)
    return place


@flow(name="log-table-name", flow_run_name="{table}")
def log_table_name(table: str, dry_run: bool = False) -> None:
    """The sub-flow: say which table is loaded, or only looked at."""
    message = "Looking at table %s" if dry_run else "Loading into table %s"
    get_run_logger().info(message, table, extra=FOR_ALL)


def chosen_names(wanted: Names | None, record: TableRecord | None, target: Target) -> Names:
    """How the table spells its columns: as it does already, else as wanted, else as TLC does.

    Raises UsageError where the table has chosen otherwise.
    """
    if record and wanted and record.names != wanted:
        raise UsageError(
            f"{target} spells its columns the way of --names {record.names}.",
            "Leave --names out, or load into another --table.",
        )
    return record.names if record else wanted or "tlc"


@contextmanager
def failure_noted(
    job: Job, source: Source, target: Target, place: Place, known_as: FileName
) -> Iterator[None]:
    """Have the ledger keep a try that fails: which file, when, why."""
    started_at = datetime.now(UTC)
    try:
        yield
    except TaxiIngestError as error:
        if not job.dry_run:
            place.note_attempt(
                error,
                target=target,
                source=source.url,
                started_at=started_at,
                dataset=known_as.dataset,
                month=known_as.month,
                flow_run_url=own_url(),
            )
        raise
