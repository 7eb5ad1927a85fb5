"""One run of the flow `ingest` for someone who watches: the stack it needs, progress, log lines."""

from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread
from typing import Any

from rich.console import Console

from taxi_ingest import stack
from taxi_ingest.cli.display import Display, display, show_prefect_logs
from taxi_ingest.cli.shortcut import prefect_may_be_configured, skip_if_loaded
from taxi_ingest.load import Progress, parse_allowance, parse_target
from taxi_ingest.outcome import Outcome
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


def run_ingest(
    settings: Settings,
    console: Console,
    quiet: bool,
    *,
    url: str,
    table: str,
    block: str | None = None,
    chunk_size: int = 100_000,
    if_loaded: str = "skip",
    max_rejects: str = "1%",
    verify: bool = False,
    names: str | None = None,
    step: str | None = None,
    cache: bool = True,
    dry_run: bool = False,
    keep_both: bool = False,
    allow_short: bool = False,
    delimiter: str | None = None,
    header: bool | None = None,
) -> Outcome:
    """Run the flow (whose docstring tells the parameters) and show on `console` how it goes.

    What is wrong with the parameters is said before anything starts.
    """
    source = parse_source(url, logins_of(settings))
    source.check()
    parse_target(table)
    parse_allowance(max_rejects)
    parse_delimiter(delimiter)
    if step:
        load_step(step)
    may_skip = block is None and if_loaded == "skip" and not dry_run
    if may_skip and (outcome := skip_if_loaded(source, table, settings)):
        return outcome
    parameters = {
        # Without a login, and in characters that Prefect can store.
        "url": source.named_url,
        "table": table,
        "chunk_size": chunk_size,
        "block": block,
        "if_loaded": if_loaded,
        "max_rejects": max_rejects,
        "verify": verify,
        "names": names,
        "step": step,
        "cache": cache,
        "dry_run": dry_run,
        "keep_both": keep_both,
        "allow_short": allow_short,
        "delimiter": delimiter,
        "header": header,
    }
    with display(console, quiet) as shown, ExitStack() as lasting:
        return _Run(settings, console, quiet, shown, lasting, source, parameters).watched()


@dataclass(frozen=True)
class _Run:
    """A run and who watches it."""

    settings: Settings
    console: Console
    quiet: bool
    shown: Display
    lasting: ExitStack
    """What is to end with the run."""
    source: Source
    parameters: dict[str, Any]

    def watched(self) -> Outcome:
        """Fetch the file and start the server while Prefect is imported, which takes a second; then run."""
        prefetched = None if self.source.is_remote else self._prefetch()
        server = None if prefect_may_be_configured() else stack.launch_prefect(self.settings)
        from taxi_ingest.flows.api import own_api_url

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
        from prefect.exceptions import CancelledRun

        from taxi_ingest.flows.api import prefect_api
        from taxi_ingest.flows.ingest import Watch, run_flow, watching

        watch = Watch(self._show_download, self._show_load, prefetched=prefetched, settings=self.settings)
        with watching(watch), prefect_api(self.settings, server):
            try:
                return run_flow(**self.parameters)
            except CancelledRun:
                raise KeyboardInterrupt from None

    def _prefetch(self) -> Future[SourceFile | None]:
        """Begin to fetch the file in a thread, which an interrupt does not wait for."""
        settings = self.settings
        folder = self.lasting.enter_context(run_folder(settings.cache_dir))
        cache = Cache(settings.cache_dir if self.parameters["cache"] else folder, settings.cache_bytes)
        future: Future[SourceFile | None] = Future()

        def work() -> None:
            try:
                file = self.source.fetch(
                    folder,
                    cache,
                    tries=settings.download_tries,
                    on_progress=self._show_download,
                )
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(file)

        Thread(target=work, daemon=True).start()
        return future

    def _show_download(self, download: DownloadProgress) -> None:
        self.shown.update("Downloading", download.bytes, download.total, None)

    def _show_load(self, source: SourceFile, progress: Progress) -> None:
        self.shown.update("Loading", progress.bytes, source.bytes, progress.rows)
