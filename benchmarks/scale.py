"""The model of docs/scale.md: seconds = fixed + per_row * rows + per_file * files."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.data import Input
from benchmarks.turns import Results

MODELLED = ("ingest", "load stage")
CURVE = ("100 rows", "0.1 M", "csv", "13.7 M", "many files")
"""The inputs that differ in rows and files only."""


@dataclass(frozen=True)
class Point:
    """A case of the curve: its median, and what the model says."""

    input: str
    rows: int
    files: int
    seconds: float
    fitted_seconds: float


@dataclass(frozen=True)
class Model:
    """What a contender takes, by least squares of the relative errors.

    The absolute ones would leave the short runs, which tell what a start and a file cost, to the noise
    of the long ones. For `ingest` each file is a process of its own: what a process costs is per file.
    """

    contender: str
    fixed_seconds: float
    seconds_per_million_rows: float
    seconds_per_file: float
    points: tuple[Point, ...]


def fit(contender: str, results: Results, inputs: Mapping[str, Input]) -> Model:
    """The model of a contender, which has run on the whole curve."""
    # Not before everything is measured: children's peak memory begins with ours.
    import numpy

    on_curve = [inputs[name] for name in CURVE]
    terms = numpy.array([[1, input.rows / 1e6, len(input.paths)] for input in on_curve])
    seconds = numpy.array([median(run.seconds for run in results[f"{contender}, {name}"]) for name in CURVE])
    costs, *_ = numpy.linalg.lstsq(terms / seconds[:, None], numpy.ones(len(seconds)), rcond=None)
    fitted = terms @ costs
    points = (
        Point(input.name, input.rows, len(input.paths), float(took), float(says))
        for input, took, says in zip(on_curve, seconds, fitted, strict=True)
    )
    fixed, per_million, per_file = map(float, costs)
    return Model(contender, fixed, per_million, per_file, tuple(points))
