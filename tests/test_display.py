"""What is shown while a run lasts."""

import io
import logging
import time

import pytest
from rich.console import Console

from taxi_ingest.cli.display import Lines, PlainConsole, describe, display
from taxi_ingest.flows.api import PrefectLogHandler


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((38_200_000, 130_400_000, 400_000, 1.0), "400,000 rows, 400,000 rows/s, 38.2 of 130.4 MB"),
        ((38_200_000, None, None, 1.0), "38.2 MB"),
        ((0, 10, 0, 0.0), "0 rows, 0.0 of 0.0 MB"),
    ],
)
def test_numbers_are_readable(arguments: tuple[int, int | None, int | None, float], shown: str) -> None:
    assert describe(*arguments) == shown


def test_a_log_file_gets_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    output = io.StringIO()
    lines = Lines(Console(file=output))
    for _ in range(11):
        now[0] += 1
        lines.update("Loading", "file", round((now[0] - 100) * 1e6), 20_000_000, round((now[0] - 100) * 1000))
    assert output.getvalue() == (
        "Loading: 5,000 rows, 1,250 rows/s, 5.0 of 20.0 MB, 12 s left\n"
        "Loading: 10,000 rows, 1,111 rows/s, 10.0 of 20.0 MB, 9 s left\n"
    )


def test_quiet_shows_nothing_even_on_a_terminal() -> None:
    output = io.StringIO()
    with display(Console(file=output, force_terminal=True), quiet=True) as shown:
        shown.update("Loading", "file", 1, 2, 3)
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
