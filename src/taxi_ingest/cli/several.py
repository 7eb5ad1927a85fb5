"""Several loads in one run, for someone who watches: how they go, and what has become of each at the end."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import typer
from rich.text import Text

from taxi_ingest.cli.display import Display, display
from taxi_ingest.cli.failures import Interrupted, print_json
from taxi_ingest.cli.shared import stderr, stdout
from taxi_ingest.cli.views import AtEnd
from taxi_ingest.cli.watch import Watch, look_command, show_download, show_load
from taxi_ingest.errors import DataError, SourceError, printable
from taxi_ingest.flows.outcome import BackfillOutcome, MonthsFailed, NotLoaded, Outcome, is_new, name_of
from taxi_ingest.settings.environment import Settings

_TITLES = {"failed": "Not all were loaded", "loaded": "Loaded", "skipped": "Skipped: all are there already"}
_NOTHING = "Nothing to load"

_NOTED = (SourceError.exit_code, DataError.exit_code)
"""Exit codes of failures that the ledger surely knows of: not of bugs, of Prefect or of its own database."""


@dataclass(frozen=True)
class Several:
    """A flow that loads several files, and who called it."""

    noun: str
    """What is loaded: months, files."""
    run: Callable[[], BackfillOutcome]
    """Calls the flow. Raises what it raises."""
    again: Callable[[BackfillOutcome], Sequence[str]]
    """The command that loads again what has failed."""
    context: typer.Context
    settings: Settings
    known: dict[str, Any]
    """Gets what an error is told with."""
    views: AtEnd | None = None
    """What becomes of the views; None where nothing is said of them."""

    def told(self) -> None:
        """Run the flow, show how it goes, and print its outcome."""
        try:
            outcome = self._watched()
            if outcome.failures:
                raise MonthsFailed(outcome)
        except MonthsFailed as failure:
            command = shlex.join(self.again(failure.outcome))
            self.known.update({**failure.outcome.as_json(), "retry": command})
            self._print(failure.outcome, command)
            raise
        self._print(outcome, None)
        result = outcome.as_json()
        if self.views:
            result = self.views.made(result, self.known, self._shown)
        if self.context.params["json"]:
            print_json(result)

    @property
    def _shown(self) -> bool:
        return not (self.context.params["json"] or self.context.params["quiet"])

    def _print(self, outcome: BackfillOutcome, command: str | None) -> None:
        if self._shown:
            stdout().print(summary(outcome, self.noun, command, self.views), highlight=False)

    def _watched(self) -> BackfillOutcome:
        quiet, verbose = self.context.params["quiet"], self.context.params["verbose"]
        watch = Watch(self.settings, stderr(), quiet, verbose)
        with display(watch.console, quiet) as shown, watch.prefect():
            return _Progress(shown).of(self.run, self.noun, self.known)


class _Progress:
    """What has been planned and has ended so far."""

    def __init__(self, shown: Display) -> None:
        self._shown = shown
        self._began = time.monotonic()
        self._planned: Mapping[str, int | None] = {}
        self._ended: dict[str, Outcome | NotLoaded] = {}

    def of(self, run: Callable[[], BackfillOutcome], noun: str, known: dict[str, Any]) -> BackfillOutcome:
        """Call the flow. Raises Interrupted where it was; `known` then gets what had been done."""
        from taxi_ingest.flows.caller import calling
        from taxi_ingest.flows.runs import interruptible

        following = calling(
            on_plan=self._plan,
            on_end=self._end,
            on_download=partial(show_download, self._shown),
            on_load=partial(show_load, self._shown),
        )
        try:
            with following:
                return interruptible(run)
        except KeyboardInterrupt:
            if not self._planned:
                raise
            done = self._so_far()
            known.update({**done.as_json(), "status": "failed"})
            failed = f", {done.count('failed')} failed" if done.failures else ""
            raise Interrupted(
                f"{done.count('loaded', 'replaced', 'skipped')} of {len(self._planned)} {noun} are "
                f"loaded{failed}."
            ) from None

    def _plan(self, loads: Mapping[str, int | None]) -> None:
        self._planned = loads
        self._shown.begin(loads)

    def _end(self, load: str, result: Outcome | NotLoaded) -> None:
        self._ended[load] = result
        self._shown.end(load, result)

    def _so_far(self) -> BackfillOutcome:
        ended = tuple(self._ended.values())
        database = next((result.database for result in ended if isinstance(result, Outcome)), "")
        return BackfillOutcome(ended, round(time.monotonic() - self._began, 3), None, database)


def noted_by_ledger(outcome: BackfillOutcome) -> bool:
    """Whether the ledger knows of all that is to be loaded again, so that `--reprocess failed` finds it."""
    return not outcome.count("waiting") and all(
        failure.is_noted and failure.exit_code in _NOTED for failure in outcome.failures
    )


def summary(outcome: BackfillOutcome, noun: str, again: str | None, views: AtEnd | None) -> Text:
    """What was done, line by line, and the commands that load again what failed and that open a table."""
    tables = list(dict.fromkeys(month.table for month in outcome.months))
    new = outcome.count("loaded", "replaced")
    speed = f", {outcome.rows_loaded / outcome.seconds:,.0f} rows/s" if new and outcome.seconds >= 1 else ""
    rows = [
        (noun, _counts(outcome)),
        ("rows", f"{outcome.rows_loaded:,}"),
        ("time", f"{outcome.seconds:.1f} s{speed}"),
        ("table" if len(tables) == 1 else "tables", ", ".join(tables)),
        *([("short", _short(outcome))] if _shorts(outcome) else []),
        *([("rejected", _rejected(outcome))] if _rejected(outcome) else []),
        *(("failed", f"{name_of(failure)}: {failure.error}") for failure in outcome.failures),
        *([("retry", again)] if again else []),
        ("flow run", outcome.flow_run_url or ""),
        *(("note", note) for note in outcome.notes),
    ]
    if any(isinstance(month, Outcome) for month in outcome.months):
        rows.extend(views.offer(outcome.database) if views and not outcome.failures else [])
        rows.append(("open it", look_command(outcome.database, _a_table(outcome))))
    nothing = outcome.status == "skipped" and outcome.count("skipped") < len(outcome.months)
    title = _NOTHING if nothing else _TITLES[outcome.status]
    style = "bold red" if outcome.failures else "bold green"
    lines = [Text.assemble((f"{name:<9}", "cyan"), printable(value)) for name, value in rows]
    return Text("\n").join((Text(title, style=style), *lines))


def _counts(outcome: BackfillOutcome) -> str:
    counts = {
        "loaded": outcome.count("loaded"),
        "replaced": outcome.count("replaced"),
        "skipped": outcome.count("skipped"),
        "failed": outcome.count("failed"),
        "not published yet": outcome.count("unpublished"),
        "not begun": outcome.count("waiting"),
    }
    told = [f"{count:,} {name}" for name, count in counts.items() if count]
    return f"{len(outcome.months):,}: {', '.join(told)}"


def _rejected(outcome: BackfillOutcome) -> str:
    """How many rows were rejected, and what shows them; empty where none was."""
    loads = [month for month in outcome.months if is_new(month) and month.rows_rejected]
    total = sum(load.rows_rejected for load in loads)
    return f"{total:,} rows; taxi-ingest rejects {loads[0].load_id}" if loads else ""


def _shorts(outcome: BackfillOutcome) -> int:
    return sum(is_new(month) and month.verdict == "short" for month in outcome.months)


def _short(outcome: BackfillOutcome) -> str:
    return f"{_shorts(outcome):,} of them have fewer rows than TLC's files are known to have"


def _a_table(outcome: BackfillOutcome) -> str:
    return next(month.table for month in outcome.months if isinstance(month, Outcome))
