"""One run of the flow `ingest` for someone who watches: the stack it needs, progress, log lines."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from rich.console import Console

from taxi_ingest import stack
from taxi_ingest.fetch import Cache, Download, SourceFile, canonical_url, fetch, run_folder
from taxi_ingest.load import Progress, parse_allowance, parse_target
from taxi_ingest.nothing_new import skip_if_loaded
from taxi_ingest.progress import Display, display, show_prefect_logs
from taxi_ingest.report import Outcome
from taxi_ingest.settings import Settings
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
) -> Outcome:
    """Run the flow (whose docstring tells the parameters) and show on `console` how it goes.

    What is wrong with the parameters is said before anything starts.
    """
    canonical_url(url)
    parse_target(table)
    parse_allowance(max_rejects)
    if step:
        load_step(step)
    may_skip = block is None and if_loaded == "skip" and not dry_run
    if may_skip and (outcome := skip_if_loaded(url, table, settings)):
        return outcome
    parameters = {
        "url": url,
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
    }
    with display(console, quiet) as shown:
        return _run_flow(settings, console, quiet, shown, parameters)


def _run_flow(
    settings: Settings, console: Console, quiet: bool, shown: Display, parameters: dict[str, Any]
) -> Outcome:
    from prefect.exceptions import CancelledRun

    from taxi_ingest.flows import Watch, ingest, watching
    from taxi_ingest.orchestration import own_api_url, prefect_api

    show_prefect_logs(console, quiet)
    on_download = partial(_show_download, shown)
    with ExitStack() as lasting:
        server = None if own_api_url() else stack.launch_prefect(settings)
        prefetched = None
        if server and not server.answers():
            if not quiet:
                console.print(f"Starting the local Prefect server at {server.address} …", highlight=False)
            prefetched = _prefetch(lasting, settings, parameters["url"], parameters["cache"], on_download)
        watch = Watch(on_download, partial(_show_load, shown), prefetched)
        lasting.enter_context(watching(watch))
        lasting.enter_context(prefect_api(settings, server))
        try:
            outcome: Outcome = ingest(**parameters)
        except CancelledRun:
            raise KeyboardInterrupt from None
        return outcome


def _prefetch(
    lasting: ExitStack,
    settings: Settings,
    url: str,
    cache: bool,
    on_download: Callable[[Download], None],
) -> Future[SourceFile | None]:
    """Begin the download while the server starts."""
    folder = lasting.enter_context(run_folder(settings.cache_dir))
    pool = lasting.enter_context(ThreadPoolExecutor(1))
    return pool.submit(
        fetch,
        url,
        folder,
        Cache(settings.cache_dir if cache else folder, settings.cache_bytes),
        login=settings.login,
        tries=settings.download_tries,
        on_progress=on_download,
    )


def _show_download(shown: Display, download: Download) -> None:
    shown.update("Downloading", download.bytes, download.total, None)


def _show_load(shown: Display, source: SourceFile, progress: Progress) -> None:
    shown.update("Loading", progress.bytes, source.bytes, progress.rows)
