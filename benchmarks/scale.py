"""The model of docs/scale.md: seconds = fixed + per_row * rows, and what a further file costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import linear_regression, median

from benchmarks.data import MONTH, SMALL, TENTH, YEAR
from benchmarks.targets import Results

_CURVE: Mapping[str, int] = {
    "ingest, 100 rows": SMALL,
    "ingest, 0.1 M": TENTH,
    "ingest, csv": MONTH,
    "ingest, 13.7 M": YEAR,
}
FILES, ROWS_EACH = 20, 10_000
MANY = f"load stage, {FILES} files"


@dataclass(frozen=True)
class Model:
    """What a run of `ingest` takes."""

    fixed_seconds: float
    """A process: imports, Prefect's calls, the transaction."""
    seconds_per_million_rows: float
    seconds_per_file: float
    """One more file in the same process, beyond its rows."""


def fit(results: Results) -> Model | None:
    """The least squares line through the medians; None where the cases were not run."""
    if MANY not in results or any(case not in results for case in _CURVE):
        return None
    rows = [count / 1e6 for count in _CURVE.values()]
    seconds = [median(one.seconds for one in results[case]) for case in _CURVE]
    slope, fixed = linear_regression(rows, seconds)
    many = median(one.seconds for one in results[MANY])
    return Model(fixed, slope, (many - slope * FILES * ROWS_EACH / 1e6) / FILES)
