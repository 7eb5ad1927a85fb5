"""What is aimed at: the project's issue "Faster than psql \\copy, orchestration included", as a table."""

from dataclasses import dataclass
from statistics import median

from benchmarks.turns import Results


@dataclass(frozen=True)
class Target:
    """A limit on a measure of a case, or on its ratio to another case's."""

    what: str
    limit: float
    case: str
    against: str | None = None
    unit: str = ""
    field: str = "seconds"


@dataclass(frozen=True)
class Verdict:
    """A target and what was reached: the median of the rounds, and their spread."""

    target: Target
    reached: float
    lowest: float
    highest: float

    @property
    def met(self) -> bool:
        return self.reached <= self.target.limit


TARGETS = (
    Target("load stage / psql, CSV", 0.9, "load stage, csv", "psql, csv"),
    Target("load stage / zcat | psql, CSV.gz", 0.9, "load stage, csv.gz", "zcat | psql, csv.gz"),
    Target("load stage, Parquet / psql on the equal CSV", 0.7, "load stage, parquet", "psql, csv"),
    Target("load stage / without its index", 1.05, "load stage, csv", "load stage, no index, csv"),
    Target("whole ingest / psql, 1.37 M rows", 2.0, "ingest, csv", "psql, csv"),
    Target("whole ingest / psql, 13.7 M rows", 0.9, "ingest, 13.7 M", "psql, 13.7 M"),
    Target("whole ingest / DuckDB", 1.0, "ingest, csv", "DuckDB, csv"),
    Target("whole ingest / ADBC", 1.0, "ingest, csv", "ADBC, csv"),
    Target("whole ingest / dlt", 1.0, "ingest, csv", "dlt, csv"),
    Target("whole ingest / pandas.to_sql", 1.0, "ingest, csv", "pandas, csv"),
    Target("100 rows, stack up", 2.5, "ingest, 100 rows", unit="s"),
    Target("100 rows, stack down", 7.0, "ingest, stack down", unit="s"),
    Target("nothing new", 1.5, "nothing new", unit="s"),
    Target("peak memory, 1.37 M rows", 450, "ingest, csv", unit="MB", field="peak_mb"),
    Target("peak memory, 13.7 M rows", 450, "ingest, 13.7 M", unit="MB", field="peak_mb"),
    Target("growth of peak memory, 13.7 M / 1.37 M", 1.1, "ingest, 13.7 M", "ingest, csv", field="peak_mb"),
    Target("--help", 0.25, "--help", unit="s"),
)

GUARD = Target("load stage / psql, CSV", 1.1, "load stage, csv", "psql, csv")
"""What `make bench-quick` holds."""


def was_run(target: Target, results: Results) -> bool:
    """Whether its cases were run: a peer may be unavailable."""
    return target.case in results and (target.against is None or target.against in results)


def judge(target: Target, results: Results) -> Verdict:
    """The verdict on a target whose cases were run.

    A ratio is the median of the rounds' ratios: what slows down the machine for a while slows down
    both sides of a round.
    """
    values = [getattr(run, target.field) for run in results[target.case]]
    if target.against:
        others = [getattr(run, target.field) for run in results[target.against]]
        values = [value / other for value, other in zip(values, others, strict=False)]
    return Verdict(target, median(values), min(values), max(values))
