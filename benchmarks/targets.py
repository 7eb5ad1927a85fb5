"""What is aimed at, as a table: the speeds that the project's issues ask of a load and of a backfill."""

from dataclasses import dataclass
from statistics import median

from benchmarks.data import MANY_FILES
from benchmarks.turns import Results


@dataclass(frozen=True)
class Target:
    """A limit on a measure of a case, on its ratio to another case's, or on what it has more, a month."""

    what: str
    limit: float
    case: str
    against: str | None = None
    unit: str = ""
    field: str = "seconds"
    beyond: str | None = None
    """The case whose measure is taken off."""
    months: int = 1
    """Among how many the measure is divided."""

    @property
    def others(self) -> list[str]:
        """The other cases that it needs."""
        return [case for case in (self.against, self.beyond) if case]


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


_YEAR, _SMALL = "backfill, 2 jobs, 12 months", "backfill, 2 jobs, 40 small months"

TARGETS = (
    Target("load stage / psql, CSV", 0.62, "load stage, csv", "psql, csv"),
    Target("load stage / zcat | psql, CSV.gz", 0.9, "load stage, csv.gz", "zcat | psql, csv.gz"),
    Target("load stage, Parquet / psql on the equal CSV", 0.55, "load stage, parquet", "psql, csv"),
    Target(
        "load stage / over one connection, 0.1 M rows",
        1.0,
        "load stage, 0.1 M",
        "load stage, one connection, 0.1 M",
    ),
    Target("load stage / without its index", 1.05, "load stage, csv", "load stage, no index, csv"),
    Target("whole ingest / psql, 1.37 M rows", 2.0, "ingest, csv", "psql, csv"),
    Target("whole ingest / psql, 13.7 M rows", 0.55, "ingest, 13.7 M", "psql, 13.7 M"),
    Target("whole ingest / DuckDB", 1.0, "ingest, csv", "DuckDB, csv"),
    Target("whole ingest / ADBC", 1.0, "ingest, csv", "ADBC, csv"),
    Target("whole ingest / dlt", 1.0, "ingest, csv", "dlt, csv"),
    Target("whole ingest / pandas.to_sql", 1.0, "ingest, csv", "pandas, csv"),
    Target("100 rows, stack up", 2.5, "ingest, 100 rows", unit="s"),
    Target("100 rows, stack down", 7.0, "ingest, stack down", unit="s"),
    Target("nothing new", 1.5, "nothing new", unit="s"),
    Target("peak memory, 1.37 M rows", 500, "ingest, csv", unit="MB", field="peak_mb"),
    Target("peak memory, 13.7 M rows", 500, "ingest, 13.7 M", unit="MB", field="peak_mb"),
    Target("growth of peak memory, 13.7 M / 1.37 M", 1.1, "ingest, 13.7 M", "ingest, csv", field="peak_mb"),
    Target("lake month, Parquet / DuckDB's COPY TO", 1.0, "lake stage, parquet", "DuckDB COPY, parquet"),
    Target("lake month, CSV / DuckDB's COPY TO", 1.0, "lake stage, csv", "DuckDB COPY, csv"),
    Target("peak memory, 1.37 M rows into a lake", 600, "ingest --to lake, csv", unit="MB", field="peak_mb"),
    Target(
        "peak memory, 13.7 M rows into a lake", 600, "ingest --to lake, 13.7 M", unit="MB", field="peak_mb"
    ),
    Target("--help", 0.25, "--help", unit="s"),
    Target("backfill of 12 months / DuckDB, one process", 0.85, _YEAR, "DuckDB, 12 months"),
    Target("backfill of 12 months / psql on the equal CSVs", 0.8, _YEAR, "psql, 12 months as CSV"),
    Target("backfill of 12 months / 12 x ingest", 0.55, _YEAR, "ingest, 12 months"),
    Target("backfill of 40 months of 10,000 rows", 15, _SMALL, unit="s"),
    Target(
        "Prefect's share of a month, of one core",
        0.3,
        _SMALL,
        unit="s",
        field="whole_cpu_seconds",
        beyond="load stage, 40 small months",
        months=MANY_FILES,
    ),
    Target("peak memory, backfill with 2 jobs", 700, _YEAR, unit="MB", field="peak_mb"),
    Target(
        "growth of peak memory, 100 months / 12",
        1.1,
        "backfill, 2 jobs, 100 small months",
        "backfill, 2 jobs, 12 small months",
        field="peak_mb",
    ),
)

GUARD = Target("load stage / psql, CSV", 1.1, "load stage, csv", "psql, csv")
"""What `make bench-quick` holds."""


def was_run(target: Target, results: Results) -> bool:
    """Whether its cases were run: a peer may be unavailable."""
    return all(case in results for case in (target.case, *target.others))


def judge(target: Target, results: Results) -> Verdict:
    """The verdict on a target whose cases were run.

    A ratio is the median of the rounds' ratios: what slows down the machine for a while slows down
    both sides of a round.
    """
    values = _values(target, target.case, results)
    if target.against:
        others = _values(target, target.against, results)
        values = [value / other for value, other in zip(values, others, strict=False)]
    if target.beyond:
        others = _values(target, target.beyond, results)
        values = [(value - other) / target.months for value, other in zip(values, others, strict=False)]
    return Verdict(target, median(values), min(values), max(values))


def _values(target: Target, case: str, results: Results) -> list[float]:
    return [getattr(run, target.field) for run in results[case]]
