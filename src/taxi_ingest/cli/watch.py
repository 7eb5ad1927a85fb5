"""One run of the flow `ingest` for someone who watches: the stack it needs, progress, and how it ended."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Thread

from rich.text import Text

from taxi_ingest import stack
from taxi_ingest.cli.display import Display, PlainConsole, display, size
from taxi_ingest.cli.local_api import prefect_may_be_configured
from taxi_ingest.cli.shortcut import skip_if_loaded
from taxi_ingest.errors import printable
from taxi_ingest.flows.outcome import Outcome
from taxi_ingest.load import LoadProgress, Preview, parse_target
from taxi_ingest.places import is_postgres, place_at
from taxi_ingest.read import parse_delimiter
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import Job, LoadOptions
from taxi_ingest.sources import (
    DownloadProgress,
    Source,
    SourceFile,
    chosen_cache,
    logins_of,
    parse_source,
    run_folder,
)
from taxi_ingest.tlc import parse_file_name
from taxi_ingest.transform import load_step
from taxi_ingest.transform.quality import ODDITIES

_TITLES = {
    "loaded": "Loaded",
    "replaced": "Replaced: the file's earlier rows are gone, all others stay",
    "skipped": "Skipped: the table already has this file",
    "planned": "Planned: nothing was written",
}

_VERDICTS = {
    "match": "as many as TLC's file of the month is known to have:",
    "revised": "more, or others than before; TLC's file of the month was known to have",
    "short": "but TLC's file of the month is known to have",
}


@dataclass(frozen=True)
class Watch:
    """Who watches a run: with which settings, and how much is to be seen."""

    settings: Settings
    console: PlainConsole
    quiet: bool
    verbose: int = 0

    @contextmanager
    def prefect(self, while_starting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Flows called in here run against Prefect, and their log lines are shown.

        The local server starts while Prefect is imported, which takes a second; `while_starting` is called
        where it takes longer.
        """
        server = None if prefect_may_be_configured() else stack.launch_prefect(self.settings)
        from taxi_ingest.flows.api import own_api_url, prefect_api
        from taxi_ingest.flows.logs import show_prefect_logs

        show_prefect_logs(self.console, self.quiet, self.verbose)
        if server is None and not own_api_url():
            server = stack.launch_prefect(self.settings)
        if server and not server.answers():
            if not self.quiet:
                self.console.print(
                    f"Starting the local Prefect server at {server.dashboard_url} …", highlight=False
                )
            while_starting()
        with prefect_api(self.settings, server):
            yield


def run_ingest(job: Job, watch: Watch) -> Outcome:
    """Run the flow, and show how it goes.

    What is wrong with the job is said before anything starts. Raises what the flow raises.
    """
    source = parse_source(job.url, logins_of(watch.settings))
    source.check()
    check_options(job, [job.table], [source])
    # Without a login, and in characters that Prefect can store.
    job = replace(job, url=source.named_url)
    may_skip = job.block is None and job.if_loaded == "skip" and not job.dry_run
    if may_skip and (outcome := skip_if_loaded(source, job.table, watch.settings, job.to)):
        return outcome
    with display(watch.console, watch.quiet) as shown, ExitStack() as lasting:
        return _Run(job, source, watch, shown, lasting).watched()


def check_options(how: LoadOptions, tables: Sequence[str], sources: Sequence[Source] = ()) -> None:
    """Raise UsageError for what is wrong with them, and for what can't be done there."""
    targets = [parse_target(table) for table in tables]
    if how.to is not None:
        place_at(how.to).check(how, targets, sources)
    parse_delimiter(how.delimiter)
    if how.transform:
        load_step(how.transform)


@dataclass(frozen=True)
class _Run:
    """A run of the flow `ingest` and who watches it."""

    job: Job
    source: Source
    watch: Watch
    shown: Display
    lasting: ExitStack
    """What is to end with the run."""
    prefetched: dict[str, Future[SourceFile | None]] = field(default_factory=dict)

    def watched(self) -> Outcome:
        """Read a local file while Prefect is imported, fetch another while its server starts; then run."""
        if not self.source.is_remote:
            self._prefetch()
        with self.watch.prefect(while_starting=self._prefetch):
            return self._flow()

    def _flow(self) -> Outcome:
        from taxi_ingest.flows.caller import calling
        from taxi_ingest.flows.ingest import ingest
        from taxi_ingest.flows.runs import interruptible

        named = parse_file_name(self.source.name)
        following = calling(
            about={
                "dataset": named.dataset,
                "month": self.job.month or named.month,
                "table": self.job.table,
                "url": self.source.url,
            },
            on_download=partial(show_download, self.shown),
            on_load=partial(show_load, self.shown),
            prefetched=self.prefetched,
        )
        with following:
            return interruptible(lambda: ingest(**vars(self.job)))

    def _prefetch(self) -> None:
        """Begin to fetch the file in a thread, which an interrupt does not wait for."""
        if self.prefetched:
            return
        settings = self.watch.settings
        folder = self.lasting.enter_context(run_folder(settings.cache_dir))
        cache = chosen_cache(settings, folder, self.job.cache, self.job.wait)
        future: Future[SourceFile | None] = Future()

        def work() -> None:
            try:
                file = self.source.fetch(
                    folder,
                    cache,
                    tries=settings.download_tries,
                    on_progress=lambda progress: show_download(self.shown, "", progress),
                )
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(file)

        Thread(target=work, daemon=True).start()
        self.prefetched[self.source.url] = future


def show_download(shown: Display, load: str, download: DownloadProgress) -> None:
    """Show how far a download has come."""
    shown.update("Downloading", load, download.bytes, download.total, None)


def show_load(shown: Display, load: str, file: SourceFile, progress: LoadProgress) -> None:
    """Show how far a load has come."""
    shown.update("Loading", load, progress.bytes, file.bytes, progress.rows)


def look_command(address: str, table: str) -> str:
    """The command that shows a table's first rows."""
    return shlex.join(place_at(address).look(parse_target(table)))


def summary(outcome: Outcome, offer: Sequence[tuple[str, str]] = ()) -> Text:
    """What was done, line by line, with what is on offer now."""
    name = " ".join(filter(None, (outcome.dataset, outcome.month)))
    rows = [
        ("table", outcome.table),
        ("file", f"{outcome.url} ({size(outcome.bytes)})"),
        ("dataset", name or "none of TLC's: loaded as it is"),
        *(_plan_rows(outcome, outcome.plan) if outcome.plan else _load_rows(outcome)),
        ("flow run", outcome.flow_run_url or ""),
        *(("note", note) for note in outcome.notes),
    ]
    if outcome.plan is None:
        rows.extend(offer)
        rows.append(("open it", look_command(outcome.database, outcome.table)))
    lines = [Text.assemble((f"{name:<9}", "cyan"), printable(value)) for name, value in rows]
    return Text("\n").join((Text(_TITLES[outcome.status], style="bold green"), *lines))


def _load_rows(outcome: Outcome) -> list[tuple[str, str]]:
    read = outcome.rows_read or 0
    counted = f"{read:,} read = {outcome.rows_loaded:,} loaded + {outcome.rows_rejected:,} rejected"
    if removed := read - outcome.rows_loaded - outcome.rows_rejected:
        counted += f" + {removed:,} removed by --transform"
    speed = f", {outcome.rows_per_second:,} rows/s" if outcome.rows_per_second else ""
    odd = [f"{count:,} {ODDITIES[name][0]}" for name, count in outcome.quality.items() if count]
    return [
        ("rows", counted),
        *_verdict(outcome),
        *([("quality", ", ".join(odd))] if odd else []),
        ("load", f"{outcome.load_id} (sha256 {outcome.sha256[:12]}…)"),
        ("time", f"{outcome.seconds:.1f} s{speed}"),
    ]


def _plan_rows(outcome: Outcome, plan: Preview) -> list[tuple[str, str]]:
    return [
        ("would", f"{plan.action} it"),
        ("layout", plan.layout),
        ("rows", "not counted before they are read" if plan.rows is None else f"{plan.rows:,}"),
        *_verdict(outcome),
        ("space", f"about {plan.space_bytes / 1e6:,.0f} MB in {_kind_of(outcome.database)}"),
        ("columns", ", ".join(_mapping(name, source) for name, source in plan.mapped.items())),
        *([("null", ", ".join(plan.missing))] if plan.missing else []),
        *([("added", ", ".join(plan.added))] if plan.added else []),
        *([("ddl", plan.ddl)] if plan.ddl else []),
    ]


def _kind_of(address: str) -> str:
    return "the database" if is_postgres(address) else address


def _verdict(outcome: Outcome) -> list[tuple[str, str]]:
    """What was compared: how many rows the file has, whatever became of them."""
    if outcome.verdict == "unknown":
        return []
    compared = f"{outcome.rows_read:,} rows read, {_VERDICTS[outcome.verdict]} {outcome.known_rows:,}"
    return [("verdict", f"{outcome.verdict}: {compared}")]


def _mapping(name: str, source: str) -> str:
    return name if name == source else f"{name} (from {source})"
