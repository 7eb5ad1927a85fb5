"""Draw a result, with the peers' matplotlib: python plot.py results/latest.json"""

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

SHOWN = ("load stage, parquet", "load stage, csv", "psql, csv", "ADBC, csv", "DuckDB, csv", "ingest, csv")
SLOW = ("dlt, csv", "pandas, csv")


def main(path: Path) -> None:
    """Write the plot beside the result, as SVG and PNG."""
    cases = json.loads(path.read_text())["cases"]
    names = [name for name in (*SHOWN, *SLOW) if name in cases]
    seconds = [[one["seconds"] for one in cases[name]] for name in names]
    middles = [median(values) for values in seconds]
    spread = [
        [middle - min(values) for middle, values in zip(middles, seconds, strict=True)],
        [max(values) - middle for middle, values in zip(middles, seconds, strict=True)],
    ]
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    ours = ["#1f77b4" if name.startswith(("load stage", "ingest")) else "#b0b0b0" for name in names]
    bars = axes.barh(names, middles, xerr=spread, color=ours, ecolor="#555555")
    axes.bar_label(bars, [f" {value:.1f} s" for value in middles], padding=6)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds for 1,369,765 yellow rows, median and spread (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
