"""The three tasks of the flow `ingest`, and what of them is tried again.

Small values travel between them, never rows: what transform returns is read only while load consumes it.
"""

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Failed, get_state_exception
from prefect.tasks import Task, exponential_backoff

from taxi_ingest.errors import TaxiIngestError, TransientDatabaseError
from taxi_ingest.flows.artifacts import progress_shown
from taxi_ingest.flows.caller import caller
from taxi_ingest.flows.limit import holding
from taxi_ingest.flows.runs import own_url
from taxi_ingest.load import LoadProgress, LoadRecord, LoadResult, LookBack, Target
from taxi_ingest.places import Place
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import Job, Names
from taxi_ingest.sources import Source, SourceFile, chosen_cache
from taxi_ingest.transform import Stream, open_stream

_RETRIES = 5
_LOOK_BACK_DELAYS_SECONDS = (0.3, 1.0)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def plain_task(
    run_name: str,
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Prefect's decorator `task`, for one that fails in Prefect with the sentence and the hint of its error.

    Its caller meets the error all the same. Where a task raises, Prefect logs a traceback, and shows the
    error's class as its state. `run_name` is what its runs are called, of its parameters.
    """

    def plain(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        run = Task(
            _ended_plainly(function),
            task_run_name=run_name,
            cache_policy=NO_CACHE,
            # Prefect logs a traceback of the last that it counts: so many it never comes to.
            retries=_RETRIES + 1,
            retry_delay_seconds=exponential_backoff(1),
            retry_jitter_factor=0.5,
            retry_condition_fn=_can_pass,
        )

        @wraps(function)
        def called(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            result = run(*args, **kwargs)
            if isinstance(result, State):
                raise cast(BaseException, get_state_exception(result))
            return result

        return called

    return plain


def _ended_plainly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have what fails for good end as Failed; what is tried again is raised."""

    @wraps(function)
    def ended(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except TaxiIngestError as error:
            context = TaskRunContext.get()
            if context and _is_tried_again(error, context.task_run):
                raise
            return cast(Result, Failed(message=f"{error}\n{error.hint}", data=error))

    return ended


def _can_pass(task: Task[..., object], run: TaskRun, state: State[object]) -> bool:
    """Whether a task has failed in a way that trying again may mend."""
    del task
    return _is_tried_again(state.result(raise_on_failure=False), run)


def _is_tried_again(error: object, run: TaskRun) -> bool:
    return isinstance(error, TransientDatabaseError) and run.run_count <= _RETRIES


def look_back(place: Place, target: Target, source: Source) -> LookBack:
    """What is known; where the connection is lost, a moment later. The load itself waits longer."""
    for delay_seconds in _LOOK_BACK_DELAYS_SECONDS:
        try:
            return place.look_back(target, source)
        except TransientDatabaseError:
            time.sleep(delay_seconds)
    return place.look_back(target, source)


@plain_task("extract {source.name}")
def extract(
    job: Job, source: Source, folder: Path, known: LoadRecord | None, settings: Settings
) -> SourceFile | None:
    """Get the file; None where the server says that it is still the one that was loaded."""
    follow = caller()
    if prefetched := follow.prefetched.get(source.url):
        file = prefetched.result()
    else:
        file = source.fetch(
            folder,
            chosen_cache(settings, folder, job.cache, job.wait),
            known=known.validators if known else None,
            tries=settings.download_tries,
            on_progress=lambda progress: follow.on_download(follow.load, progress),
        )
    logger = get_run_logger()
    if file:
        logger.info("%s: %s bytes, sha256 %s…", file.name, f"{file.bytes:,}", file.sha256[:12])
    else:
        logger.info("%s has not changed since it was loaded", source.url)
    return file


@plain_task("transform {file.name}")
def transform(job: Job, file: SourceFile, names: Names) -> Stream:
    """Decide what happens to each column."""
    stream = open_stream(
        file.path, file.name, job.chunk_size, job.transform, names, job.delimiter, job.header
    )
    plan = stream.plan
    kind = f"{plan.dataset} {plan.month or ''}".strip() if plan.dataset else "not one of TLC's datasets"
    get_run_logger().info(
        "%s, %d columns of %d: %s", stream.layout.format, len(plan.loaded), len(plan.columns), kind
    )
    return stream


@plain_task("load into {target}")
def load(job: Job, stream: Stream, file: SourceFile, target: Target, place: Place) -> LoadResult:
    """Load the rows, all or nothing."""
    follow, logger = caller(), get_run_logger()

    def told(now: LoadProgress) -> None:
        progress.update(now.bytes, file.bytes)
        follow.on_load(follow.load, file, now)

    with holding(job.limit), progress_shown(file.name, str(target)) as progress:
        result = place.load(
            stream, file, target, job, flow_run_url=own_url(), beside=follow.beside, on_progress=told
        )
    for note in result.record.notes:
        logger.warning(note)
    logger.info(
        "%s: %s rows in %s (load %d, %s rejected)",
        result.status,
        f"{result.record.rows_loaded:,}",
        target,
        result.record.load_id,
        f"{result.record.rows_rejected:,}",
    )
    return result
