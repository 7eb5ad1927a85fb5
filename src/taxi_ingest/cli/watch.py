"""One run of the flow `ingest` for someone who watches: the stack it needs, progress, log lines."""

from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Thread

from rich.console import Console

from taxi_ingest import stack
from taxi_ingest.cli.display import Display, display
from taxi_ingest.cli.local_api import prefect_may_be_configured
from taxi_ingest.cli.shortcut import skip_if_loaded
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.job import Job
from taxi_ingest.load import LoadProgress, parse_target
from taxi_ingest.read import parse_delimiter
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
from taxi_ingest.transform import load_step


def run_ingest(job: Job, settings: Settings, console: Console, quiet: bool) -> Outcome:
    """Run the flow, and show on `console` how it goes.

    What is wrong with the job is said before anything starts. Raises what the flow raises.
    """
    source = parse_source(job.url, logins_of(settings))
    _check(job, source)
    # Without a login, and in characters that Prefect can store.
    job = replace(job, url=source.named_url)
    may_skip = job.block is None and job.if_loaded == "skip" and not job.dry_run
    if may_skip and (outcome := skip_if_loaded(source, job.table, settings)):
        return outcome
    with display(console, quiet) as shown, ExitStack() as lasting:
        return _Run(job, source, settings, console, quiet, shown, lasting).watched()


def _check(job: Job, source: Source) -> None:
    source.check()
    parse_target(job.table)
    parse_delimiter(job.delimiter)
    if job.transform:
        load_step(job.transform)


@dataclass(frozen=True)
class _Run:
    """A run and who watches it."""

    job: Job
    source: Source
    settings: Settings
    console: Console
    quiet: bool
    shown: Display
    lasting: ExitStack
    """What is to end with the run."""

    def watched(self) -> Outcome:
        """Fetch the file and start the server while Prefect is imported, which takes a second; then run."""
        prefetched = None if self.source.is_remote else self._prefetch()
        server = None if prefect_may_be_configured() else stack.launch_prefect(self.settings)
        from taxi_ingest.flows.api import own_api_url
        from taxi_ingest.flows.logs import show_prefect_logs

        show_prefect_logs(self.console, self.quiet)
        if server is None and not own_api_url():
            server = stack.launch_prefect(self.settings)
        if server and not server.answers():
            if not self.quiet:
                self.console.print(
                    f"Starting the local Prefect server at {server.address} …", highlight=False
                )
            prefetched = prefetched or self._prefetch()
        return self._flow(server, prefetched)

    def _flow(
        self, server: stack.PrefectServer | None, prefetched: Future[SourceFile | None] | None
    ) -> Outcome:
        from taxi_ingest.flows.api import prefect_api
        from taxi_ingest.flows.caller import calling
        from taxi_ingest.flows.ingest import ingest
        from taxi_ingest.flows.runs import interruptible

        following = calling(
            on_download=self._show_download,
            on_load=self._show_load,
            prefetched={self.source.url: prefetched} if prefetched else {},
        )
        with following, prefect_api(self.settings, server):
            return interruptible(lambda: ingest(**vars(self.job)))

    def _prefetch(self) -> Future[SourceFile | None]:
        """Begin to fetch the file in a thread, which an interrupt does not wait for."""
        settings = self.settings
        folder = self.lasting.enter_context(run_folder(settings.cache_dir))
        cache = Cache(settings.cache_dir if self.job.cache else folder, settings.cache_bytes)
        future: Future[SourceFile | None] = Future()

        def work() -> None:
            try:
                file = self.source.fetch(
                    folder,
                    cache,
                    tries=settings.download_tries,
                    on_progress=lambda progress: self._show_download(self.source.url, progress),
                )
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(file)

        Thread(target=work, daemon=True).start()
        return future

    def _show_download(self, url: str, download: DownloadProgress) -> None:
        self.shown.update("Downloading", url, download.bytes, download.total, None)

    def _show_load(self, file: SourceFile, progress: LoadProgress) -> None:
        self.shown.update("Loading", file.url, progress.bytes, file.bytes, progress.rows)
