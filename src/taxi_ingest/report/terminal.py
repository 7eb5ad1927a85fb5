"""The report as text: sparklines and bars that a terminal shows."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from taxi_ingest.errors import printable
from taxi_ingest.report.page import missing, subtitle
from taxi_ingest.report.pictures import WEEKDAYS, Form, Picture
from taxi_ingest.report.reading import Report

_BLOCKS = (" ▁▂▃▄▅▆▇█", " .:-=+*%#")
"""From little to much; the second where the terminal lacks the first."""

_WIDEST = 100
_LABEL = 28
_MOST_BINS = 20
_ACCENT = "cyan"


def print_report(report: Report, console: Console) -> None:
    """Print all that is told of a table."""
    width = min(console.width, _WIDEST)
    console.print(Text.assemble((printable(str(report.target)), "bold"), f"  {subtitle(report)}"))
    console.print(Text(", ".join(f"{value} {name}" for name, value in report.facts)), highlight=False)
    for note in report.notes:
        console.print(Text(note, "yellow"))
    blocks = _BLOCKS[not _can_show(console, _BLOCKS[0])]
    for picture in report.pictures:
        if shown := _SHOWN.get(picture.form):
            console.print(Text(f"\n{picture.title}", "bold"))
            console.print(shown(picture, blocks, width))
            if picture.note:
                console.print(Text(printable(picture.note), "dim"))
    if report.months:
        console.print(Text("\nMonths", "bold"))
        console.print(Text(missing(report)))


def _can_show(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _line(values: Sequence[float], most: float, blocks: str) -> str:
    """A letter a value; what is more than nothing is never shown as nothing."""
    return "".join(blocks[ceil(value / most * (len(blocks) - 1)) if most else 0] for value in values)


def _series(picture: Picture, blocks: str, width: int) -> RenderableType:
    """Lines of as many days as fit, each with what its first day is."""
    room = width - 12
    values, labels = picture.values, [str(row[0]) for row in picture.rows]
    most = max(values, default=0)
    lines = []
    for start in range(0, len(values), room):
        marks = _line(values[start : start + room], most, blocks)
        lines.append(Text.assemble(f"{labels[start]}  ", (marks, _ACCENT)))
    return Group(*lines, Text(f"at most {most:,.0f}, at least {min(values, default=0):,.0f}", "dim"))


def _heat(picture: Picture, blocks: str, _: int) -> RenderableType:
    """A line a weekday, two letters an hour."""
    most = max((float(value or 0) for row in picture.rows for value in row[1:]), default=0)
    lines = [Text("     " + "".join(f"{hour:<6}" for hour in range(0, 24, 3)), "dim")]
    for number, weekday in enumerate(WEEKDAYS, 1):
        values = [float(row[number] or 0) for row in picture.rows]
        marks = _line(values, most, blocks)
        lines.append(Text.assemble(f"{weekday}  ", ("".join(mark * 2 for mark in marks), _ACCENT)))
    return Group(*lines)


def _bars(picture: Picture, blocks: str, width: int) -> RenderableType:
    rows = [(printable(str(row[0])), float(row[1] or 0)) for row in picture.rows]
    if picture.form == "bins":
        rows = rows[:_MOST_BINS] + _rest(rows)
    label = min(max(cell_len(name) for name, _ in rows), _LABEL)
    most = max(value for _, value in rows) or 1
    numbers = max(len(f"{value:,.0f}") for _, value in rows)
    room = max(4, width - label - numbers - 4)
    return Group(
        *(
            Text.assemble(
                set_cell_size(name, label),
                f"  {value:>{numbers},.0f}  ",
                (blocks[-1] * round(room * value / most), _ACCENT),
            )
            for name, value in rows
        )
    )


def _rest(rows: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    behind = rows[_MOST_BINS:]
    return [(f"{behind[0][0].split(' ')[0]} and more", sum(value for _, value in behind))] if behind else []


def _table(picture: Picture, *_: object) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style=_ACCENT)
    for number, column in enumerate(picture.columns):
        table.add_column(Text(printable(column)), justify="right" if number else "left")
    for row in picture.rows:
        table.add_row(*(Text(f"{c:,}" if isinstance(c, int | float) else printable(c or "")) for c in row))
    return table


_SHOWN: Mapping[Form, Callable[[Picture, str, int], RenderableType]] = {
    "series": _series,
    "heat": _heat,
    "bins": _bars,
    "ranking": _bars,
    "loads": _table,
    "shares": _table,
}
"""All but maps."""
