"""The Prefect flow `ingest`: the sub-flow that logs the table's name, then extract, transform, load.

Flow parameters are stored by Prefect and shown in its dashboard, so no password is one: the database
is named by a block or found in the settings.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.settings import temporary_settings
from prefect.tasks import Task, exponential_backoff
from prefect.utilities.urls import url_for

from taxi_ingest import load as loading
from taxi_ingest.databases import find_database
from taxi_ingest.errors import TransientDatabaseError, UsageError
from taxi_ingest.flows.runs import end_dead_runs, known_to_down, part_from_prefect, tied_flow
from taxi_ingest.load import (
    Database,
    History,
    IfLoaded,
    Load,
    LoadRecord,
    Options,
    Progress,
    TableRecord,
    Target,
)
from taxi_ingest.outcome import Outcome
from taxi_ingest.settings import Settings
from taxi_ingest.sources import (
    Cache,
    DownloadProgress,
    Source,
    SourceFile,
    logins_of,
    parse_source,
    run_folder,
)
from taxi_ingest.transform import Names, Stream, open_stream

DEFAULT_CHUNK_SIZE = 100_000
Parameters = ParamSpec("Parameters")

_LOAD_RETRIES = 5
_LOOK_BACK_DELAYS_SECONDS = (0.3, 1.0)


@dataclass(frozen=True)
class Watch:
    """How the caller of a flow in the same process follows it; what a flow parameter can't be."""

    on_download: Callable[[DownloadProgress], None] = lambda _: None
    on_load: Callable[[SourceFile, Progress], None] = lambda _, __: None
    on_outcome: Callable[[Outcome], None] = lambda _: None
    """Told when all is committed, before Prefect is told."""
    prefetched: Future[SourceFile | None] | None = None
    """A download that was begun while Prefect's server was still starting."""
    settings: Settings | None = None
    """Those of the command line, secrets included, instead of what the environment says."""


_NOBODY = Watch()
_watch: ContextVar[Watch] = ContextVar("watch", default=_NOBODY)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Follow the flows that run inside this context."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def run_flow(**parameters: Any) -> Outcome:
    """Call the flow `ingest`: what it has committed is told, though Prefect be gone by then.

    Raises what the flow raises where nothing was committed.
    """
    known: list[Outcome] = []
    # These settings end what part_from_prefect sets.
    with watching(replace(_watch.get(), on_outcome=known.append)), temporary_settings():
        try:
            outcome: Outcome = ingest(**parameters)
        except Exception as error:
            if not known:
                raise
            return replace(known[0], notes=(*known[0].notes, _untold(error)))
    return outcome


def _untold(error: Exception) -> str:
    reason = type(error).__name__
    return f"All is done, but Prefect could not be told ({reason}); the next run puts this flow run right."


def _told_first(function: Callable[Parameters, Outcome]) -> Callable[Parameters, Outcome]:
    """Tell the watcher what a flow has done before Prefect is told, which may be gone by then."""

    @wraps(function)
    def telling(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Outcome:
        outcome = function(*args, **kwargs)
        _watch.get().on_outcome(outcome)
        part_from_prefect()
        return outcome

    return telling


@tied_flow(name="ingest", flow_run_name="{table}")
@known_to_down
@_told_first
def ingest(
    url: str,
    table: str,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    block: str | None = None,
    if_loaded: IfLoaded = "skip",
    max_rejects: str = "1%",
    verify: bool = False,
    names: Names | None = None,
    step: str | None = None,
    cache: bool = True,
    dry_run: bool = False,
    keep_both: bool = False,
    allow_short: bool = False,
    delimiter: str | None = None,
    header: bool | None = None,
) -> Outcome:
    """Load one file into a table, exactly once.

    Args:
        url: Path, file:// or http(s) URL of a CSV (also packed) or Parquet file. Without a login, which
            Prefect would store with it: set TAXI_INGEST_SOURCE_LOGIN.
        table: Table, or schema.table; made where it is missing.
        chunk_size: Rows to take at a time.
        block: SqlAlchemyConnector block of the database; without one, TAXI_INGEST_DATABASE_URL, the
            block `postgres-connector` or the local stack's embedded Postgres.
        if_loaded: What to do with a file that the table has already.
        max_rejects: How many rows may be rejected: `100` or `1%`.
        verify: Whether fewer rows than TLC's file is known to have abort the load.
        names: How a new table's columns are spelled, `tlc` or `snake`; the table remembers it.
        step: `module:function` of the user's, from DataFrame to DataFrame, called with each chunk.
        cache: Whether a download is kept, and taken from those kept before.
        dry_run: Find out what would happen, and load nothing.
        keep_both: Whether a month that the table has from another address is loaded beside it.
        allow_short: Whether a CSV is loaded that was cut, most of its month's known rows missing.
        delimiter: What separates a CSV's fields, found out unless told: one character, or `tab`.
        header: Whether a CSV's first row has the names, found out unless told.

    Raises:
        TaxiIngestError: its class tells source, data and database apart; nothing was changed then.
    """
    began = time.monotonic()
    log_table_name(table, dry_run)
    settings = _watch.get().settings or Settings()
    target = loading.parse_target(table)
    options = Options(if_loaded, loading.parse_allowance(max_rejects), verify, keep_both, allow_short)
    database = find_database(block, settings)
    end_dead_runs(database)
    origin = parse_source(url, logins_of(settings))
    history = _look_back(database, target, origin)
    previous = history.file
    if previous and if_loaded == "fail":
        raise loading.already_loaded(previous, target)
    with run_folder(settings.cache_dir) as folder:
        known = previous if if_loaded == "skip" and not dry_run else None
        source = extract(origin, folder, known, settings, cache)
        if source is None:
            assert previous, "only a known file can be unchanged"
            return Outcome.of(Load.of(previous, skipped=True), target, database, began, _run_url())
        spelling = chosen_names(names, history.table, target)
        stream = transform(source, chunk_size, step, spelling, delimiter, header)
        if dry_run:
            plan = loading.preview(stream, source, target, database, options)
            return Outcome.planned(plan, stream, source, target, database, began, _run_url())
        result = load(stream, source, target, database, options)
    return Outcome.of(result, target, database, began, _run_url())


@flow(name="log-table-name", flow_run_name="{table}")
def log_table_name(table: str, dry_run: bool = False) -> None:
    """The sub-flow: say which table is loaded, or only looked at."""
    get_run_logger().info("Looking at table %s" if dry_run else "Loading into table %s", table)


@task(cache_policy=NO_CACHE)
def extract(
    origin: Source, folder: Path, previous: LoadRecord | None, settings: Settings, cache: bool
) -> SourceFile | None:
    """Get the file; None where the server says that it is still the one that was loaded."""
    watch = _watch.get()
    if watch.prefetched:
        source = watch.prefetched.result()
    else:
        source = origin.fetch(
            folder,
            Cache(settings.cache_dir if cache else folder, settings.cache_bytes),
            known=previous.validators if previous else None,
            tries=settings.download_tries,
            on_progress=watch.on_download,
        )
    logger = get_run_logger()
    if source:
        logger.info("%s: %s bytes, sha256 %s…", source.name, f"{source.bytes:,}", source.sha256[:12])
    else:
        logger.info("%s has not changed since it was loaded", origin.url)
    return source


@task(cache_policy=NO_CACHE)
def transform(
    source: SourceFile,
    chunk_size: int,
    step: str | None,
    names: Names,
    delimiter: str | None = None,
    header: bool | None = None,
) -> Stream:
    """Decide what happens to each column; rows are read only while load consumes them."""
    stream = open_stream(source.path, source.name, chunk_size, step, names, delimiter, header)
    plan = stream.plan
    kind = f"{plan.dataset} {plan.month or ''}".strip() if plan.dataset else "not one of TLC's datasets"
    get_run_logger().info(
        "%s, %d columns of %d: %s", stream.layout.format, len(plan.loaded), len(plan.columns), kind
    )
    return stream


def _look_back(database: Database, target: Target, origin: Source) -> History:
    """What the ledger knows; where the connection is lost, a moment later. The load itself waits longer."""
    for delay_seconds in _LOOK_BACK_DELAYS_SECONDS:
        try:
            return loading.look_back(database, target, origin.url)
        except TransientDatabaseError:
            time.sleep(delay_seconds)
    return loading.look_back(database, target, origin.url)


def can_pass(task: Task[..., Load], run: TaskRun, state: State[Load]) -> bool:
    """Whether a load has failed in a way that trying again may mend."""
    del task, run
    return isinstance(state.result(raise_on_failure=False), TransientDatabaseError)


@task(
    cache_policy=NO_CACHE,
    retries=_LOAD_RETRIES,
    retry_delay_seconds=exponential_backoff(1),
    retry_jitter_factor=0.5,
    retry_condition_fn=can_pass,
)
def load(
    stream: Stream,
    source: SourceFile,
    target: Target,
    database: Database,
    options: Options,
) -> Load:
    """Copy the rows into a partition of their own and attach it, in one transaction."""
    watch, logger = _watch.get(), get_run_logger()
    result = loading.load(
        stream,
        source,
        target,
        database,
        options,
        flow_run_url=_run_url(),
        on_progress=lambda progress: watch.on_load(source, progress),
    )
    for note in result.notes:
        logger.warning(note)
    logger.info(
        "%s: %s rows in %s (load %d, %s rejected)",
        result.outcome,
        f"{result.rows_loaded:,}",
        target,
        result.load_id,
        f"{result.rows_rejected:,}",
    )
    return result


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


def _run_url() -> str | None:
    return url_for("flow-run", flow_run.id)
