"""One page that holds all of it: no script, and nothing that would be fetched.

What makes it is an extra, `taxi-ingest[report]`.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from taxi_ingest.errors import UsageError, printable, without_login
from taxi_ingest.months import Month
from taxi_ingest.report import palette
from taxi_ingest.report.pictures import Cell
from taxi_ingest.report.reading import Report

_EXTRA = ("matplotlib", "jinja2")
_INSTALL = "pip install 'taxi-ingest[report]'"


def check_can_draw() -> None:
    """Raise UsageError where what draws is not installed."""
    if not all(map(find_spec, _EXTRA)):
        raise UsageError(
            "The page needs packages that are not installed.", f"{_INSTALL}, or have it as text: --text."
        )


def page(report: Report) -> str:
    """The report as HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from taxi_ingest.report.drawing import can_draw, drawn

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"shown": _shown, "file_name": file_name}
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    outlines = report.outlines
    return template.render(
        report=report,
        title=f"{printable(str(report.target))}",
        subtitle=subtitle(report),
        pictures=[
            (picture, [Markup(svg) for svg in drawn(picture, outlines)])
            for picture in report.pictures
            if can_draw(picture, outlines)
        ],
        years=_years(report.months),
        missing=missing(report),
        light=Markup(palette.css(dark=False)),
        dark=Markup(palette.css(dark=True)),
        version=version("taxi-ingest"),
    )


def save_png(report: Report, path: Path) -> None:
    """Write the main pictures as one PNG."""
    from taxi_ingest.report.drawing import can_draw, save_png

    pictures = [picture for picture in report.pictures if can_draw(picture, report.outlines)]
    if not pictures:
        raise UsageError(f"There is nothing to draw of {report.target}.", "Leave --png out.")
    save_png(f"{printable(str(report.target))} · {subtitle(report)}", pictures, report.outlines, path)


def subtitle(report: Report) -> str:
    """What the table holds, in a few words."""
    months = [load.month for load in report.loads if load.month]
    what = f"{report.dataset} trips" if report.dataset else "rows"
    if not months:
        return what
    first, last = min(months), max(months)
    return f"{what}, {first}" if first == last else f"{what}, {first} to {last}"


def missing(report: Report) -> str:
    """Which months are not there, in a sentence."""
    found = report.missing
    if not found:
        return f"None of {len(report.months)} is missing."
    ranges = [f"{first}..{last}" if first != last else first for first, last in _ranges(report.months, found)]
    return f"Missing: {', '.join(ranges)}."


def _ranges(months: Sequence[Month], found: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The first and the last of those of the months, in order, that follow one another."""
    for lacks, group in groupby((month.month for month in months), key=lambda month: month in found):
        if lacks:
            first, *others = group
            yield first, others[-1] if others else first


def file_name(source: str) -> str:
    """The last part of a file's address."""
    return printable(without_login(source).rstrip("/").rpartition("/")[2].partition("?")[0])


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int | float) else printable(cell)


def _years(months: Sequence[Month]) -> list[tuple[str, list[Month | None]]]:
    """Each year's twelve cells, None for a month that is not asked about."""
    found = []
    for year, of_year in groupby(months, key=lambda month: month.month[:4]):
        by_number = {month.month[5:]: month for month in of_year}
        found.append((year, [by_number.get(f"{number:02}") for number in range(1, 13)]))
    return found
