"""The grid of a dataset's months: years down, months across, a cell with what has become of it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from taxi_ingest.errors import printable
from taxi_ingest.load import Attempt, Disagreement
from taxi_ingest.months import Calendar, Month, State, calendars, target_of, with_revisions
from taxi_ingest.places import Place
from taxi_ingest.settings.environment import Settings

_SIGNS: Mapping[State, tuple[str, str]] = {
    "loaded": ("#", "green"),
    "short": ("~", "yellow"),
    "revised": ("*", "magenta"),
    "inconsistent": ("!", "bold red"),
    "failed": ("x", "bold red"),
    "missing": (".", ""),
    "unpublished": ("-", "dim"),
}
"""A cell: what can be told apart without colour and in ASCII, and its colour."""

_SHOWN_FAILURES = 10
_CUT = " ..."


def look(
    place: Place | None, datasets: Sequence[str], table: str | None, settings: Settings | None
) -> list[Calendar]:
    """What has become of the months (see `calendars`); with `settings` the sources are asked, too."""
    if place is None:
        return []
    found = calendars(place, datasets, table, date.today())
    if settings is None:
        return found
    return [replace(each, months=tuple(with_revisions(each.months, settings))) for each in found]


def as_json(calendar: Calendar) -> dict[str, Any]:
    """What `status --json` says of a dataset in a table."""
    return {
        "dataset": calendar.dataset,
        "table": str(calendar.target),
        "months": [_month_as_json(month) for month in calendar.months],
        "counts": {**calendar.counts, "rows_loaded": calendar.rows_loaded},
    }


def _month_as_json(month: Month) -> dict[str, Any]:
    load, attempt = month.load, month.attempt
    return {
        "month": month.month,
        "state": month.state,
        "rows_loaded": load.rows_loaded if load else None,
        "known_rows": month.known_rows,
        "load_id": load.load_id if load else None,
        "failed_at": attempt.failed_at.isoformat() if attempt else None,
        "error": attempt.message if attempt else None,
        "disagreements": [disagreement_as_json(each) for each in month.disagreements],
    }


def disagreement_as_json(found: Disagreement) -> dict[str, Any]:
    """What `status --json` and `loads --json` say of it."""
    return {"load_id": found.load_id, "table": str(found.target), "found": found.found, "hint": found.mend()}


def show(calendar: Calendar, where: Sequence[str]) -> None:
    """Draw it, with its counts and what failed; `where` are the flags that name the database."""
    console = Console(highlight=False)
    title = f"{calendar.dataset}: {calendar.rows_loaded:,} rows in {calendar.target}"
    console.print(Text(f"\n{printable(title)}", "bold"))
    console.print(Text("      " + " ".join(f"{number:02}" for number in range(1, 13)), "dim"))
    years = {year: list(months) for year, months in groupby(calendar.months, lambda month: month.month[:4])}
    shown = _begun(years) or list(years)
    for year in shown:
        console.print(_row(year, years[year]))
    if others := [year for year in years if year not in shown]:
        console.print(Text(f"nothing of {_ranges(others)}", "dim"))
    console.print(_counts(calendar))
    for month in calendar.months:
        show_disagreements(month.disagreements, console, where)
    for month in calendar.failed[:_SHOWN_FAILURES]:
        console.print(_failure(month, console.width))
    if calendar.failed:
        _print_retry(calendar, console, where)


def show_disagreements(found: Sequence[Disagreement], console: Console, where: Sequence[str]) -> None:
    """Say what a table has otherwise than its ledger says, and what helps."""
    for each in found:
        console.print(Text(printable(each.found), "bold red"), soft_wrap=True)
        # Not broken, so that it can be copied.
        console.print(Text(f"  {printable(each.mend(where))}"), soft_wrap=True)


def _begun(years: Mapping[str, Sequence[Month]]) -> list[str]:
    """The years from the first to the last of which a month was loaded or has failed."""
    begun = [year for year, months in years.items() if any(month.is_begun for month in months)]
    return [year for year in years if begun and begun[0] <= year <= begun[-1]]


def _ranges(years: Sequence[str]) -> str:
    """`2009..2018, 2022..2026`."""
    runs: list[list[str]] = []
    for year in years:
        if runs and int(year) == int(runs[-1][-1]) + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _row(year: str, months: Sequence[Month]) -> Text:
    before = "   " * (int(months[0].month[5:]) - 1)
    cells = (part for month in months for part in ("  ", _SIGNS[month.state]))
    return Text.assemble(f"{year} {before}", *cells)


def _counts(calendar: Calendar) -> Text:
    """What the signs in the grid mean, and how many of each there are."""
    counted = [(_SIGNS[state], f" {count} {state}") for state, count in calendar.counts.items() if count]
    return Text("  ").join(Text.assemble(*parts) for parts in counted)


def _failure(month: Month, width: int) -> Text:
    """When and why the last try of a month failed, on one line."""
    assert month.attempt
    when = f"  {month.attempt.failed_at.astimezone():%Y-%m-%d %H:%M}  "
    shown = Text.assemble((month.month, "bold red"), when, printable(_why(month.attempt)))
    if shown.cell_len > width:
        shown.truncate(width - len(_CUT))
        shown.append(_CUT)
    return shown


def _why(attempt: Attempt) -> str:
    """What it said, but for the file's address: the line is about that already."""
    name = attempt.source.rpartition("/")[2] or attempt.source
    message = " ".join(attempt.message.split())
    return re.sub(rf"\S*{re.escape(name)}", lambda _: name, message).removeprefix(f"{name} ")


def _print_retry(calendar: Calendar, console: Console, where: Sequence[str]) -> None:
    left = len(calendar.failed) - _SHOWN_FAILURES
    if left > 0:
        console.print(Text(f"and {left} more: --json has them all"))
    # Not broken, so that it can be copied.
    console.print(Text(f"Try again: {printable(retry(calendar, 'all', where))}"), soft_wrap=True)


def retry(calendar: Calendar, months: str, where: Sequence[str]) -> str:
    """The command that tries again what failed of these months; `where` are the flags that name the
    database."""
    usual = calendar.target == target_of(calendar.dataset, None)
    table = [] if usual else ["--table", str(calendar.target)]
    command = ["taxi-ingest", "backfill", calendar.dataset, months, "--reprocess", "failed", *table, *where]
    return shlex.join(command)
