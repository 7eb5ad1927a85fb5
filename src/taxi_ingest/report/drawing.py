"""Pictures, drawn by Matplotlib: as SVG for a page, or all that matter on one PNG.

Matplotlib is an extra, `taxi-ingest[report]`, and imported only here.
"""

import io
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from html import escape
from itertools import groupby
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from taxi_ingest.errors import printable
from taxi_ingest.report.palette import LIGHT, LINES, SCALE, with_variables
from taxi_ingest.report.pictures import WEEKDAYS, Form, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Outlines = Mapping[int, str]

logging.getLogger("matplotlib").setLevel(logging.ERROR)

_WIDTH, _WIDE = 4.2, 9.6
_HEIGHTS: Mapping[Form, float] = {"heat": 2.3, "map": 4.0, "shares": 3.2}
_USUAL_HEIGHT = 2.5
_WIDE_FORMS: tuple[Form, ...] = ("series",)

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 8,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["soft"],
    "axes.edgecolor": LIGHT["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.5,
    "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["soft"],
    "ytick.labelcolor": LIGHT["soft"],
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "patch.linewidth": 0,
    "text.parse_math": False,
}

_GRID_DEGREES = 0.0008
"""Outlines are drawn as finely as this, 80 m or a pixel. Neighbours still fit, and it saves megabytes."""

_LONGEST_LABEL = 28
_MOST_TICKS = 8


def drawn(picture: Picture, outlines: Outlines) -> list[str]:
    """A picture as SVG for a page; of what is broad also a narrow one, for phones, behind it."""
    widths = [_WIDE, _WIDTH] if picture.form in _WIDE_FORMS else [_WIDTH]
    return [_svg(picture, width, outlines, f"{picture.name}{number}") for number, width in enumerate(widths)]


def can_draw(picture: Picture, outlines: Outlines) -> bool:
    """Whether there is something to see: a map needs outlines."""
    return picture.form != "map" or any(zone in outlines for zone in picture.numbers)


def save_png(title: str, pictures: list[Picture], outlines: Outlines, path: FilePath) -> None:
    """Draw the first pictures of a table, and its map, on one sheet."""
    first, *others = pictures
    others = sorted(others, key=lambda picture: picture.form == "map", reverse=True)[:4]
    names = [picture.name for picture in others] + [""] * (len(others) % 2)
    rows: Any = [[first.name] * 2, *(names[start : start + 2] for start in range(0, len(names), 2))]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 0.8 + 3.2 * len(rows)), layout="constrained", facecolor=LIGHT["paper"])
        figure.suptitle(title, fontsize=13)
        axes = figure.subplot_mosaic(rows, empty_sentinel="")
        for picture in (first, *others):
            axes[picture.name].set_title(printable(picture.title), fontsize=9.5, loc="left")
            _DRAWN[picture.form](axes[picture.name], picture, outlines)
        figure.savefig(path, format="png", dpi=120)


def _svg(picture: Picture, width: float, outlines: Outlines, name: str) -> str:
    height = _HEIGHTS.get(picture.form, _USUAL_HEIGHT)
    if picture.form == "ranking":
        height = 0.4 + 0.19 * len(picture.rows)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name, "svg.id": name}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
        _DRAWN[picture.form](figure.add_subplot(), picture, outlines)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(file.getvalue(), name, f"{picture.title}. {picture.note}".strip())


def _for_page(text: str, name: str, label: str) -> str:
    """An SVG file as a part of a page: ids of its own, colours and letters of the page's."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-labelledby="{name}">', text, count=1
    )
    text = re.sub(r'<g id="tip:([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(url\(#|xlink:href="#)', rf"\1{name}-", text).replace("xlink:href", "href")
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    start = text.index(">") + 1
    return with_variables(f'{text[:start]}<title id="{name}">{escape(label)}</title>{text[start:]}')


def _series(axes: "Axes", picture: Picture, _: Outlines) -> None:
    days = [date.fromisoformat(str(label)).toordinal() for label, *_ in picture.rows]
    step = days[1] - days[0] if len(days) > 1 else 1
    edges = [*days, days[-1] + step]
    axes.stairs(picture.values, edges, fill=True, color=LINES[0])
    months = [day for day in range(edges[0], edges[-1]) if date.fromordinal(day).day == 1]
    if len(months) > 2:
        axes.set_xticks(_thinned(months), [f"{date.fromordinal(day):%b %Y}" for day in _thinned(months)])
    else:
        axes.set_xticks(_thinned(days), [f"{date.fromordinal(day):%d %b}" for day in _thinned(days)])
    axes.set_xlim(edges[0], edges[-1])
    _amounts(axes)


def _thinned(places: list[int]) -> list[int]:
    """Every so many of these that not too many are left."""
    return places[:: max(1, math.ceil(len(places) / _MOST_TICKS))]


def _heat(axes: "Axes", picture: Picture, _: Outlines) -> None:
    values = np.array([[float(value or 0) for value in row[1:]] for row in picture.rows]).T
    axes.pcolormesh(values, cmap=ListedColormap(SCALE), edgecolors="none", vmin=0, antialiased=False)
    axes.set_yticks(np.arange(len(WEEKDAYS)) + 0.5, WEEKDAYS)
    axes.set_xticks(np.arange(0, 24, 3) + 0.5, [f"{hour}:00" for hour in range(0, 24, 3)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()


def _bins(axes: "Axes", picture: Picture, _: Outlines) -> None:
    values, last = picture.values, len(picture.rows) - 1
    axes.stairs(values[:-1], np.arange(len(values)), fill=True, color=LINES[0])
    # What is above the last bin stands apart: it is no bin as wide as the others.
    axes.stairs(values[-1:], [last + 1, last + 2], fill=True, color=LINES[1])
    names = [str(label).partition(" ")[0] for label, *_ in picture.rows]
    places = list(range(0, last, last // 5))
    axes.set_xticks([*places, last + 1.5], [*(names[place] for place in places), f"{names[last]}+"])
    axes.set_xlim(0, last + 2)
    axes.set_xlabel(picture.columns[0])
    _amounts(axes)


def _ranking(axes: "Axes", picture: Picture, _: Outlines) -> None:
    names = [_short(str(label)) for label, *_ in picture.rows]
    places = np.arange(len(names))
    axes.barh(places, picture.values, height=0.72, color=LINES[0])
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(_amount))


def _short(label: str) -> str:
    label = printable(label)
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _loads(axes: "Axes", picture: Picture, _: Outlines) -> None:
    places = np.arange(len(picture.rows))
    axes.bar(places, picture.values, width=0.8, color=LINES[0], label=picture.columns[1])
    known = [(place, row[2]) for place, row in zip(places, picture.rows, strict=True) if row[2]]
    if known:
        axes.hlines(
            [float(rows or 0) for _, rows in known],
            [place - 0.45 for place, _ in known],
            [place + 0.45 for place, _ in known],
            color=LINES[1],
            label=picture.columns[2],
        )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    _label_loads(axes, picture)
    _amounts(axes)


def _shares(axes: "Axes", picture: Picture, _: Outlines) -> None:
    places = np.arange(len(picture.rows))
    marker = "o" if len(places) < 2 * _MOST_TICKS else ""
    for number, name in enumerate(picture.columns[1:]):
        values = [float(row[number + 1] or 0) for row in picture.rows]
        color = LINES[number % len(LINES)]
        axes.plot(
            places,
            values,
            color=color,
            linewidth=1.4,
            marker=marker,
            markersize=3,
            clip_on=False,
            label=_short(name),
        )
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.grid(axis="y")
    _label_loads(axes, picture)


def _label_loads(axes: "Axes", picture: Picture) -> None:
    places = _thinned(list(range(len(picture.rows))))
    axes.set_xticks(places, [str(picture.rows[place][0]) for place in places])
    axes.set_xlim(-0.6, max(len(picture.rows), 4) - 0.4)


def _map(axes: "Axes", picture: Picture, outlines: Outlines) -> None:
    counts = {
        number: (label, trips)
        for number, (label, trips, *_) in zip(picture.numbers, picture.rows, strict=True)
    }
    limits = _limits([float(trips or 0) for _, trips in counts.values()])
    for zone, outline in outlines.items():
        label, trips = counts.get(zone, (f"Zone {zone}", 0))
        step = int(np.searchsorted(limits, float(trips or 0), side="right"))
        color = SCALE[step] if trips else LIGHT["blank"]
        patch = PathPatch(_path(outline), facecolor=color, edgecolor=LIGHT["paper"], linewidth=0.25)
        patch.set_gid(f"tip:{printable(str(label))}: {int(trips or 0):,}")
        # The map fills its axes; where each outline ends need not be asked for the layout.
        patch.set_in_layout(False)
        axes.add_patch(patch)
    axes.autoscale_view()
    axes.set_aspect(1 / math.cos(math.radians(40.7)))
    axes.set_axis_off()
    edges = [1.0, *limits]
    names = [f"from {_amount(low)}" for low in edges]
    axes.legend(
        handles=[Patch(color=LIGHT["blank"]), *(Patch(color=color) for color in SCALE[: len(edges)])],
        labels=["none", *names],
        loc="upper left",
        handlelength=1,
        handleheight=1,
    )


def _limits(counts: list[float]) -> list[float]:
    """What divides the zones into as many classes as there are colours, alike in size; two digits each."""
    if not counts:
        return []
    found = np.quantile(counts, np.arange(1, len(SCALE)) / len(SCALE))
    return sorted({float(f"{limit:.1e}") for limit in found if limit > 1})


def _path(outline: str) -> Path:
    """A zone's outline, on a grid."""
    rings = [_on_grid(ring) for polygon in _polygons(json.loads(outline)) for ring in polygon]
    return Path.make_compound_path(*(Path(ring, closed=True) for ring in rings if len(ring) > 3))


def _polygons(geometry: Mapping[str, Any]) -> Iterator[Any]:
    found = geometry["coordinates"]
    yield from found if geometry["type"] == "MultiPolygon" else [found]


def _on_grid(ring: Any) -> list[tuple[float, float]]:
    snapped = np.round(np.array(ring)[:, :2] / _GRID_DEGREES).astype(int).tolist()
    return [(x * _GRID_DEGREES, y * _GRID_DEGREES) for (x, y), _ in groupby(snapped)]


def _amounts(axes: "Axes") -> None:
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(_amount))


def _amount(value: float, _: object = None) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


_DRAWN: Mapping[Form, "Callable[[Axes, Picture, Outlines], None]"] = {
    "series": _series,
    "heat": _heat,
    "bins": _bins,
    "ranking": _ranking,
    "loads": _loads,
    "shares": _shares,
    "map": _map,
}
