"""One run of a flow for someone who watches: the stack it needs, progress, log lines."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from rich.console import Console

from taxi_ingest import stack
from taxi_ingest.fetch import Download, SourceFile, canonical_url, download_folder, fetch
from taxi_ingest.flows import Watch, ingest, login, watching
from taxi_ingest.load import Progress, parse_allowance, parse_target
from taxi_ingest.orchestration import own_api_url, prefect_api
from taxi_ingest.progress import Display, display, show_prefect_logs
from taxi_ingest.report import Outcome
from taxi_ingest.settings import Settings
from taxi_ingest.transform import load_step


def run_ingest(
    console: Console, quiet: bool, *, url: str, table: str, max_rejects: str, step: str | None, **parameters: Any
) -> Outcome:
    """Run the flow `ingest` (its docstring tells the parameters) and show on `console` how it goes.

    What is wrong with the parameters is said before anything starts.
    """
    canonical_url(url)
    parse_target(table)
    parse_allowance(max_rejects)
    if step:
        load_step(step)
    settings = Settings()
    show_prefect_logs(console, quiet)
    with (
        display(console, quiet) as shown,
        download_folder(settings.home) as folder,
        ThreadPoolExecutor(1) as pool,
    ):
        on_download = partial(_show_download, shown)
        server = None if own_api_url() else stack.launch_prefect(settings)
        prefetched: Future[SourceFile | None] | None = None
        if server and not server.answers():
            if not quiet:
                console.print(f"Starting the local Prefect server at {server.address} …", highlight=False)
            prefetched = pool.submit(fetch, url, folder, login=login(settings), on_progress=on_download)
        watch = Watch(on_download, partial(_show_load, shown), prefetched)
        with watching(watch), prefect_api(settings, server):
            return ingest(url=url, table=table, max_rejects=max_rejects, step=step, **parameters)


def _show_download(shown: Display, download: Download) -> None:
    shown.update("Downloading", download.bytes, download.total, None)


def _show_load(shown: Display, source: SourceFile, progress: Progress) -> None:
    shown.update("Loading", progress.bytes, source.bytes, progress.rows)
