"""What a run shows while it lasts: live bars on a terminal, plain lines elsewhere, all on stderr."""

import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from taxi_ingest.cli.failures import tell_json
from taxi_ingest.errors import printable, printable_lines
from taxi_ingest.flows.log_line import LogLine, Teller
from taxi_ingest.flows.outcome import NotLoaded, Outcome, is_new

_SECONDS_BETWEEN_LINES = 5.0
_LEAST_SECONDS = 1.0
"""In less, neither a rate nor the time that is left can be told."""

_BAR_WIDTH = 12
_LEAST_WIDTH, _NAME_WIDTH = 14, 24


class PlainConsole(Console):
    """Shows texts as they are: names of tables and files may look like markup, or hold escapes."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        # FORCE_COLOR asks for colours in a log file, but not for bars that move.
        still = None if (sys.stderr if stderr else sys.stdout).isatty() else False
        super().__init__(
            stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, force_interactive=still
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as it is shown: what a terminal would obey stands there as an escape."""
        return super().render_str(printable_lines(text), **options)

    def tell(self, line: LogLine) -> None:
        """Show a line of a log: when, of which run, what."""
        form = "%H:%M:%S" if self.is_interactive else "%Y-%m-%d %H:%M:%S"
        moment = time.strftime(form, time.localtime(line.seconds))
        run = f"{printable(line.run):<14} " if line.run else ""
        message = Text(printable_lines(line.message), "red" if line.level >= logging.ERROR else "")
        self.print(Text.assemble((f"{moment} ", "dim"), (run, "cyan"), message), soft_wrap=True)


class JsonConsole(PlainConsole):
    """Writes each line as an object of JSON, for what collects logs."""

    def __init__(self) -> None:
        super().__init__(stderr=True)
        self.is_interactive = False

    def tell(self, line: LogLine) -> None:
        """Write a line of a log, with all that is known of it."""
        tell_json(line)

    def print(self, *objects: Any, **_: Any) -> None:
        """Write what is to be shown as one line."""
        self.tell(LogLine(" ".join(map(str, objects))))


class Display(Protocol):
    """Shows how far one load has come, or several; may be told from any thread."""

    def begin(self, loads: Mapping[str, int | None]) -> None:
        """Several loads begin: their names, and the rows that each is known to have."""

    def update(self, stage: str, load: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        """A stage of a load, which has no name if it is the only one, has come so far."""

    def end(self, load: str, result: Outcome | NotLoaded) -> None:
        """One of several loads has ended."""


class Silent:
    """Shows nothing: `--quiet`."""

    def begin(self, loads: Mapping[str, int | None]) -> None:
        """Shows nothing of several loads that begin."""

    def update(self, stage: str, load: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        """Shows nothing of how far a load has come."""

    def end(self, load: str, result: Outcome | NotLoaded) -> None:
        """Shows nothing of a load that has ended."""


@dataclass
class _Stage:
    """How far a stage of a load has come."""

    rows_at_first: int
    began: float = field(default_factory=lambda: time.monotonic())
    bytes: int = 0
    total_bytes: int | None = None
    rows: int | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def speed(self) -> str:
        """`410,000 rows/s`; empty while nobody can tell."""
        if self.rows is None or self.seconds < _LEAST_SECONDS:
            return ""
        return f"{(self.rows - self.rows_at_first) / self.seconds:,.0f} rows/s"

    @property
    def counted(self) -> str:
        """`400,000 rows, 410,000 rows/s`; of a download the size."""
        if self.rows is None:
            return self.size
        return ", ".join(filter(None, (f"{self.rows:,} rows", self.speed)))

    @property
    def size(self) -> str:
        return size(self.bytes, self.total_bytes)

    @property
    def share(self) -> float:
        return min(self.bytes / self.total_bytes, 1.0) if self.total_bytes else 0.0

    @property
    def left(self) -> str:
        return left(self.share, self.seconds)


class _Followed:
    """Where all loads stand."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.stages: dict[tuple[str, str], _Stage] = {}
        self._began = time.monotonic()
        self._weights: dict[str, float] = {}
        self._ended: dict[str, Outcome | NotLoaded] = {}

    def begin(self, loads: Mapping[str, int | None]) -> None:
        known = [rows for rows in loads.values() if rows]
        usual = sum(known) / len(known) if known else 1.0
        self._began = time.monotonic()
        self._weights = {name: rows or usual for name, rows in loads.items()}

    def update(
        self, stage: str, load: str, bytes: int, total_bytes: int | None, rows: int | None
    ) -> _Stage | None:
        """The stage as it is now; None for a load that has ended, of which a thread has told late."""
        if load in self._ended:
            return None
        now = self.stages.setdefault((stage, load), _Stage(rows or 0))
        now.bytes, now.total_bytes, now.rows = bytes, total_bytes, rows
        return now

    def end(self, load: str, result: Outcome | NotLoaded) -> list[tuple[str, str]]:
        """The stages that are no more."""
        self._ended[load] = result
        past = [key for key in self.stages if key[1] == load]
        for key in past:
            del self.stages[key]
        return past

    @property
    def share(self) -> float:
        """How much of all is done."""
        done = sum(self._weights.get(load, 0) for load in self._ended)
        done += sum(
            self._weights.get(load, 0) * now.share for (_, load), now in self.stages.items() if now.rows
        )
        return done / (sum(self._weights.values()) or 1)

    def __str__(self) -> str:
        """`3 of 31 done, 1 failed, 23,456,789 rows, 4 min left`."""
        ended = self._ended.values()
        failed = sum(isinstance(result, NotLoaded) for result in ended)
        rows = sum(result.rows_loaded for result in ended if is_new(result))
        rows += sum(now.rows or 0 for now in self.stages.values())
        parts = (
            f"{len(self._ended)} of {len(self._weights)} done",
            f"{failed} failed" if failed else "",
            f"{rows:,} rows",
            left(self.share, time.monotonic() - self._began),
        )
        return ", ".join(filter(None, parts))


class Bars:
    """A live line for each stage of a load, one for the whole; above them a line for each load that ended."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._whole: TaskID | None = None
        self._followed = _Followed()

    def begin(self, loads: Mapping[str, int | None]) -> None:
        """Adds the line of the whole."""
        with self._followed.lock:
            self._followed.begin(loads)
            self._whole = self._progress.add_task("all", total=1.0, numbers=str(self._followed))

    def update(self, stage: str, load: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        """Moves the bar of a stage, which gets a line when it is first heard of."""
        with self._followed.lock:
            now = self._followed.update(stage, load, bytes, total_bytes, rows)
            if now is None:
                return
            if (stage, load) not in self._tasks:
                self._tasks[stage, load] = self._progress.add_task(
                    load or stage, total=total_bytes, numbers=""
                )
            numbers = f"{stage.lower()} {now.counted}" if load else _numbers(now)
            self._progress.update(
                self._tasks[stage, load], completed=bytes, total=total_bytes, numbers=numbers
            )
            self._show_whole()

    def end(self, load: str, result: Outcome | NotLoaded) -> None:
        """Puts a line above the bars, in place of the load's own."""
        with self._followed.lock:
            for key in self._followed.end(load, result):
                self._progress.remove_task(self._tasks.pop(key))
            self._show_whole()
        self._progress.console.print(_ended(load, result), soft_wrap=True)

    def _show_whole(self) -> None:
        if self._whole is not None:
            self._progress.update(self._whole, completed=self._followed.share, numbers=str(self._followed))


class Lines:
    """A line every few seconds, and one for each of several loads that has ended: for log files."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._followed = _Followed()
        self._last = time.monotonic()

    def begin(self, loads: Mapping[str, int | None]) -> None:
        """Notes the loads; the first line comes after some seconds."""
        with self._followed.lock:
            self._followed.begin(loads)

    def update(self, stage: str, load: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        """Prints a line, if the last one was printed some seconds ago."""
        with self._followed.lock:
            now = self._followed.update(stage, load, bytes, total_bytes, rows)
            if now is None or time.monotonic() - self._last < _SECONDS_BETWEEN_LINES:
                return
            self._last = time.monotonic()
            text = str(self._followed) if load else f"{stage}: {_numbers(now)}"
        known = {
            "stage": stage.lower(),
            "load": load,
            "rows": rows,
            "bytes": bytes,
            "total_bytes": total_bytes,
        }
        self._teller.tell(LogLine(text, about=known))

    def end(self, load: str, result: Outcome | NotLoaded) -> None:
        """Prints what has become of the load."""
        with self._followed.lock:
            self._followed.end(load, result)
        level = logging.ERROR if isinstance(result, NotLoaded) and result.status == "failed" else logging.INFO
        known = {"load": load, **{name: getattr(result, name, None) for name in _TOLD_OF_A_LOAD}}
        self._teller.tell(LogLine(f"{load}  {became(result)}", level, about=known))


_TOLD_OF_A_LOAD = (
    *("status", "dataset", "month", "table", "url", "load_id", "rows_loaded", "rows_rejected"),
    *("seconds", "flow_run_url", "hint"),
)
"""What of its end a program is told at once."""


def _numbers(now: _Stage) -> str:
    """`400,000 rows, 410,000 rows/s, 38.2 of 130.4 MB, 3 s left`."""
    rows = now.counted if now.rows is not None else ""
    return ", ".join(filter(None, (rows, now.size, now.left)))


def _ended(load: str, result: Outcome | NotLoaded) -> Text:
    style = "red" if isinstance(result, NotLoaded) else ""
    return Text(printable_lines(f"{load}  {became(result)}"), style=style)


def became(result: Outcome | NotLoaded) -> str:
    """`7,696,617 rows in 8.1 s`, or why not."""
    if isinstance(result, NotLoaded):
        return f"{result.status}: {result.error}" if result.error else result.status
    if not is_new(result):
        return "skipped: the table has it already"
    rejected = f", {result.rows_rejected:,} rejected" if result.rows_rejected else ""
    replaced = "replaced: " if result.status == "replaced" else ""
    return f"{replaced}{result.rows_loaded:,} rows in {result.seconds:.1f} s{rejected}"


_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def size(bytes: float, of: float | None = None) -> str:
    """`130.4 MB`, or `38.2 of 130.4 MB`."""
    unit, name = next((size for size in _SIZES if (of or bytes) >= size[0]), _SIZES[-1])
    return f"{bytes / unit:,.1f} of {of / unit:,.1f} {name}" if of else f"{bytes / unit:,.1f} {name}"


def left(share: float, seconds: float) -> str:
    """`4 min left` of something of which that share took so long; empty while nobody can tell."""
    if share <= 0 or seconds < _LEAST_SECONDS:
        return ""
    return f"{duration(seconds * (1 - share) / share)} left"


def duration(seconds: float) -> str:
    """`12 s`, `4 min`, `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@contextmanager
def display(console: PlainConsole, quiet: bool) -> Iterator[Display]:
    """The display that fits where stderr goes."""
    if quiet:
        yield Silent()
    elif console.is_interactive:
        columns: tuple[ProgressColumn, ...] = (
            _Cell("description", _NAME_WIDTH),
            BarColumn(bar_width=_BAR_WIDTH),
            _Cell("numbers"),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield Bars(progress)
    else:
        yield Lines(console)


class _Cell(ProgressColumn):
    """A text that is cut where the terminal is too narrow for it."""

    def __init__(self, name: str, width: int | None = None) -> None:
        super().__init__(
            Column(
                no_wrap=True, overflow="ellipsis", max_width=width, min_width=_LEAST_WIDTH if width else None
            )
        )
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(
            printable_lines(str(task.description if self._name == "description" else task.fields[self._name]))
        )
