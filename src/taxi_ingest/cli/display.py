"""What a run shows while it lasts: a live bar on a terminal, plain lines elsewhere, all on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from taxi_ingest.errors import printable_lines

_SECONDS_BETWEEN_LINES = 5.0


class PlainConsole(Console):
    """Shows texts as they are: names of tables and files may look like markup, or hold escapes."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable_lines(text), **options)


class Display(Protocol):
    """Shows how far a stage of a file has come."""

    def update(
        self, stage: str, file: str, bytes: int, total_bytes: int | None, rows: int | None
    ) -> None: ...


class Silent:
    """Shows nothing: `--quiet`."""

    def update(self, stage: str, file: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        pass


class Bar:
    """One live line for each stage of each file."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[tuple[str, str], tuple[TaskID, float]] = {}

    def update(self, stage: str, file: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        if (stage, file) not in self._tasks:
            task = self._progress.add_task(stage, total=total_bytes, numbers="")
            self._tasks[stage, file] = (task, time.monotonic())
        task, began = self._tasks[stage, file]
        numbers = describe(bytes, total_bytes, rows, time.monotonic() - began)
        self._progress.update(task, completed=bytes, numbers=numbers)


class Lines:
    """A line every few seconds, for log files."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[tuple[str, str], float] = {}
        self._last = time.monotonic()

    def update(self, stage: str, file: str, bytes: int, total_bytes: int | None, rows: int | None) -> None:
        now = time.monotonic()
        seconds = now - self._began.setdefault((stage, file), now)
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = (total_bytes - bytes) * seconds / bytes if total_bytes and bytes and seconds else None
        ending = "" if left is None else f", {left:.0f} s left"
        self._console.print(
            f"{stage}: {describe(bytes, total_bytes, rows, seconds)}{ending}", highlight=False
        )


def describe(bytes: int, total_bytes: int | None, rows: int | None, seconds: float) -> str:
    """`400,000 rows, 410,000 rows/s, 38.2 of 130.4 MB`."""
    size = f"{bytes / 1e6:,.1f} of {total_bytes / 1e6:,.1f} MB" if total_bytes else f"{bytes / 1e6:,.1f} MB"
    if rows is None:
        return size
    speed = f", {rows / seconds:,.0f} rows/s" if seconds > 0 else ""
    return f"{rows:,} rows{speed}, {size}"


@contextmanager
def display(console: Console, quiet: bool) -> Iterator[Display]:
    """The display that fits where stderr goes."""
    if quiet:
        yield Silent()
    elif console.is_terminal:
        columns: tuple[ProgressColumn, ...] = (
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            _Numbers(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=console) as progress:
            yield Bar(progress)
    else:
        yield Lines(console)


class _Numbers(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields["numbers"]))
