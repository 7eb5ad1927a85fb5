"""Several loads under one parent flow, so many at once: what `backfill` and `ingest` of several files share.

Each load is a flow run of its own in a thread. One's failure stops no other. Files are fetched ahead of the
loads that need them, a few at a time, each into a folder that is removed with its load.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, cast
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import FlowRunContext

from taxi_ingest.errors import PrefectError, TaxiIngestError
from taxi_ingest.flows.api import failures_explained, restart_local_server
from taxi_ingest.flows.caller import Child, caller, calling, settings_in_use
from taxi_ingest.flows.outcome import NotLoaded, Outcome
from taxi_ingest.flows.runs import interruptible
from taxi_ingest.flows.several import Result, carry_out
from taxi_ingest.load import cancel_all, listening_for_signals
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import usual_jobs
from taxi_ingest.sources import DownloadProgress, Source, SourceFile, chosen_cache, run_folder

_AHEAD = 2
"""How many files are fetched beside those that are being loaded."""


@dataclass(frozen=True)
class Load:
    """One of several: where its file is, and the flow run that loads it."""

    name: str
    """What is shown of it: `yellow 2019-01`."""
    find: Callable[[], Source]
    """Where its file is; may ask a mirror. Raises TaxiIngestError."""
    run: Callable[[], Outcome]
    """Calls the flow of which all loads are runs. Raises what it raises."""
    failed: Callable[[Exception, str | None], NotLoaded]
    """Says what this is the failure of; it is told the file's address, where one was found."""
    about: Mapping[str, str | None]
    """Dataset, month, table, for log lines."""
    tags: frozenset[str] = frozenset()


def load_side_by_side(
    loads: Sequence[Load],
    flow: Flow[..., Outcome],
    *,
    jobs: int | None = None,
    cache: bool,
    max_failures: int | None = None,
) -> list[Result | None]:
    """What has become of each load, a run of `flow`, in their order; None for those not begun after
    `max_failures`.

    Without `jobs` as many are loaded at once as the cores bear. Called in a flow run, whose caller is told of
    each end. Raises KeyboardInterrupt when all that was under way is cancelled, and DatabaseError
    where the local stack was stopped under it.
    """
    with listening_for_signals(), _Threads(loads, _id_of(flow), jobs or usual_jobs(), cache) as threads:
        return carry_out([load.name for load in loads], threads, max_failures)


def _id_of(flow: Flow[..., Any]) -> UUID:
    context = FlowRunContext.get()
    assert context, "loads are children of a flow run"
    return cast(SyncPrefectClient, context.client).create_flow(flow)


class _Threads:
    """Loads that run in threads, and the files that are fetched ahead of them."""

    def __init__(self, loads: Sequence[Load], flow_id: UUID, jobs: int, cache: bool) -> None:
        self._loads, self._flow_id, self._jobs, self._cache = loads, flow_id, jobs, cache
        self._settings = settings_in_use()
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="load")
        self._downloads = threading.Semaphore(max(_AHEAD, jobs))
        self._fetches: list[_Fetch] = []
        self._running: dict[Future[Result], int] = {}

    def __enter__(self) -> "_Threads":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for fetch in self._fetches:
            fetch.stop()
        if kind:
            cancel_all()
        self._threads.shutdown()

    @property
    def works(self) -> bool:
        """Whether a thread loads."""
        return bool(self._running)

    def begin(self, left: deque[int]) -> None:
        """Begin the first of those that are left, and to fetch files for those that come next."""
        while left and len(self._running) < self._jobs:
            number = left.popleft()
            self._running[self._begun(number)] = number

    def ended(self) -> Iterator[tuple[int, Result]]:
        """Wait for at least one to end."""
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            yield self._running.pop(future), future.result()

    def withdraw(self) -> None:
        """Nothing: what was begun is at work."""

    def _begun(self, number: int) -> "Future[Result]":
        for load in self._loads[len(self._fetches) : number + 1 + _AHEAD]:
            self._fetches.append(_Fetch(load, self._settings, self._cache, self._downloads))
        context = copy_context()
        return self._threads.submit(
            context.run, self._run, self._loads[number], self._fetches[number], number
        )

    def _run(self, load: Load, fetch: "_Fetch", number: int) -> Result:
        try:
            with self._calling(load, fetch, number):
                return self._run_with_prefect(load)
        except Exception as error:
            return load.failed(error, fetch.url)
        finally:
            fetch.close()

    def _calling(self, load: Load, fetch: "_Fetch", number: int) -> AbstractContextManager[None]:
        return calling(
            child=Child(self._flow_id, number),
            load=load.name,
            beside=min(self._jobs, len(self._loads)),
            about=load.about,
            tags=load.tags,
            prefetched=fetch.prefetched(),
        )

    def _run_with_prefect(self, load: Load) -> Outcome:
        """Run the flow; once more where Prefect's local server had died, and could be started again."""
        try:
            with failures_explained():
                return interruptible(load.run)
        except PrefectError:
            if not restart_local_server(self._settings):
                raise
        with failures_explained():
            return interruptible(load.run)


class _Fetch:
    """A file on its way here, in a thread that nobody waits for."""

    def __init__(self, load: Load, settings: Settings, cache: bool, downloads: threading.Semaphore) -> None:
        self._load, self._settings, self._cache = load, settings, cache
        self._stopped = threading.Event()
        self._source: Future[Source] = Future()
        self._file: Future[SourceFile | None] = Future()
        self._lasting = ExitStack()
        Thread(target=copy_context().run, args=(self._work, downloads), daemon=True).start()

    def prefetched(self) -> dict[str, Future[SourceFile | None]]:
        """The file, by its address; nothing where no address was found, as the flow then says why."""
        try:
            return {self._source.result().url: self._file}
        except TaxiIngestError:
            return {}

    @property
    def url(self) -> str | None:
        """The file's address; None where none was found."""
        return None if self._source.exception() else self._source.result().url

    def stop(self) -> None:
        """Let it go no further; whoever waits for it is interrupted."""
        self._stopped.set()
        for future in (self._source, self._file):
            with suppress(InvalidStateError):
                future.set_exception(KeyboardInterrupt())

    def close(self) -> None:
        """Remove the file, which is loaded."""
        self.stop()
        self._lasting.close()

    def _work(self, downloads: threading.Semaphore) -> None:
        try:
            source = self._load.find()
            self._source.set_result(source)
            with downloads:
                if self._stopped.is_set():
                    return
                folder = self._lasting.enter_context(run_folder(self._settings.cache_dir))
                self._file.set_result(self._fetched(source, folder))
        except BaseException as error:
            for future in (self._source, self._file):
                with suppress(InvalidStateError):
                    future.set_exception(error)

    def _fetched(self, source: Source, folder: Path) -> SourceFile | None:
        return source.fetch(
            folder,
            chosen_cache(self._settings, folder, self._cache),
            tries=self._settings.download_tries,
            on_progress=self._told,
        )

    def _told(self, progress: DownloadProgress) -> None:
        if self._stopped.is_set():
            raise KeyboardInterrupt
        caller().on_download(self._load.name, progress)
