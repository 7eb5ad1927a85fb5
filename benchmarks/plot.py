"""Draw a result, with the peers' matplotlib: python plot.py results/latest.json"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
# Else the SVG of the same result would be other bytes each time.
matplotlib.rcParams["svg.hashsalt"] = "taxi-ingest"
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

_OURS, _OTHERS = "#1f77b4", "#b0b0b0"
_MONTH = (
    "load stage, parquet",
    "load stage, csv",
    "psql, csv",
    "ingest, csv",
    "ADBC, csv",
    "DuckDB, csv",
    "dlt, csv",
    "pandas, csv",
)
_YEAR = ("load stage, 13.7 M", "ingest, 13.7 M", "psql, 13.7 M")


def main(path: Path) -> None:
    """Write the plot beside the result, as SVG and PNG."""
    result = json.loads(path.read_text())
    heights = [sum(name in result["cases"] for name in names) + 1 for names in (_MONTH, _YEAR)]
    figure, axes = pyplot.subplots(
        2, 1, figsize=(8, 5), layout="constrained", gridspec_kw={"height_ratios": heights}
    )
    _draw(axes[0], _MONTH, result["cases"], "1,369,765 yellow rows, seconds (log scale), median and spread")
    axes[0].set_xscale("log")
    _draw(axes[1], _YEAR, result["cases"], "13,697,650 rows, seconds")
    machine = result["machine"]
    figure.suptitle(f"{result['date'][:10]}, {machine['cpu']}, {machine['cores']} cores", fontsize=8)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def _draw(axes: Axes, names: tuple[str, ...], cases: dict[str, Any], label: str) -> None:
    shown = [name for name in names if name in cases]
    seconds = [cases[name]["seconds"] for name in shown]
    middles = [one["median"] for one in seconds]
    spread = [
        [one["median"] - one["lowest"] for one in seconds],
        [one["highest"] - one["median"] for one in seconds],
    ]
    colors = [_OURS if name.startswith(("load stage", "ingest")) else _OTHERS for name in shown]
    bars = axes.barh(shown, middles, xerr=spread, color=colors, ecolor="#555555")
    axes.bar_label(bars, [f" {value:.1f} s" for value in middles], padding=6)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
