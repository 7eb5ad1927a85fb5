"""What is shown while a run lasts."""

import io
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.cells import cell_len
from rich.console import Console

from taxi_ingest.cli.display import Lines, PlainConsole, display, duration, left, size
from taxi_ingest.flows.logs import PrefectLogHandler
from taxi_ingest.flows.outcome import NotLoaded


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (size(130_400_000), "130.4 MB"),
        (size(38_200_000, 130_400_000), "38.2 of 130.4 MB"),
        (size(249_300), "249.3 KB"),
        (size(2_500_000_000), "2.5 GB"),
        (size(0, 10), "0.0 of 0.0 KB"),
        (left(0.25, 60), "3 min left"),
        (left(0.0, 60), ""),
        (duration(7500), "2 h 5 min"),
    ],
)
def test_numbers_are_readable(shown: str, text: str) -> None:
    assert shown == text


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moment that the clocks show, to be set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_every_few_seconds(now: list[float]) -> None:
    output = io.StringIO()
    lines = Lines(console_to(output))
    for _ in range(11):
        now[0] += 1
        lines.update("Loading", "", round((now[0] - 100) * 1e6), 20_000_000, round((now[0] - 100) * 1000))
    assert undated(output) == [
        "Loading: 5,000 rows, 1,000 rows/s, 5.0 of 20.0 MB, 12 s left",
        "Loading: 10,000 rows, 1,000 rows/s, 10.0 of 20.0 MB, 9 s left",
    ]


def console_to(output: io.StringIO) -> PlainConsole:
    console = PlainConsole()
    console.file = output
    return console


def undated(output: io.StringIO) -> list[str]:
    """Lines without the date and the time that each begins with."""
    return [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in output.getvalue().splitlines()]


def test_no_rate_is_told_before_it_can_be_known(now: list[float]) -> None:
    output = io.StringIO()
    lines = Lines(console_to(output))
    now[0] += 6
    lines.update("Loading", "", 1_000, 1_000, 3_000_000)
    assert undated(output) == ["Loading: 3,000,000 rows, 1.0 of 1.0 KB"]


def test_of_several_loads_the_whole_is_told_and_the_end_of_each(now: list[float]) -> None:
    output = io.StringIO()
    lines = Lines(console_to(output))
    lines.begin({"yellow 2019-01": 300, "yellow 2019-02": 100, "yellow 2019-03": None})
    now[0] += 10
    lines.update("Loading", "yellow 2019-01", 50, 100, 150)
    now[0] += 10
    lines.end("yellow 2019-02", NotLoaded("failed", "t", None, "yellow", "2019-02", "It is gone."))
    # A thread that tells of it late.
    lines.update("Downloading", "yellow 2019-02", 50, 100, None)
    lines.update("Loading", "yellow 2019-01", 100, 100, 300)
    assert undated(output) == [
        "0 of 3 done, 150 rows, 30 s left",
        "yellow 2019-02  failed: It is gone.",
        "1 of 3 done, 1 failed, 300 rows, 10 s left",
    ]


def test_a_terminal_shows_loads_of_many_threads_and_leaves_no_bar() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80)
    names = [f"a file with a name that is rather long {number}.csv" for number in range(20)]
    with display(console, quiet=False) as shown, ThreadPoolExecutor(8) as threads:
        shown.begin(dict.fromkeys(names))

        def load(name: str) -> None:
            for part in range(50):
                shown.update("Loading", name, part, 50, part * 100_000)
            shown.end(name, NotLoaded("failed", "t", None, None, None, "It is gone."))

        list(threads.map(load, names))
    ended = re.findall(r"(\d+)\.csv  failed: It is gone", output.getvalue())
    assert sorted(map(int, ended)) == list(range(20))
    assert all(cell_len(line) <= 80 for line in re.findall("[^\r\n]*━[^\r\n]*", plain(output)))


def plain(output: io.StringIO) -> str:
    """What a terminal was sent, without what it obeys."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())


def test_quiet_shows_nothing_even_on_a_terminal() -> None:
    output = io.StringIO()
    with display(Console(file=output, force_terminal=True), quiet=True) as shown:
        shown.update("Loading", "", 1, 2, 3)
    assert output.getvalue() == ""


def test_names_and_messages_are_shown_not_obeyed() -> None:
    console = PlainConsole()
    console.file = io.StringIO()
    console.print("[red]a[/] :smile: \x1b[31mb")
    record = logging.LogRecord(
        "taxi_ingest", logging.WARNING, "", 0, "%s", ("[/] http://u:p/w@h/x \x1b]0;",), None
    )
    PrefectLogHandler(console).emit(record)
    shown = console.file.getvalue()
    assert "[red]a[/] :smile: \\x1b[31mb" in shown
    assert "[/] http://h/x \\x1b]0;" in shown
    assert "\x1b" not in shown
