"""One description of a load, or of many: what, where to, how. Every default stands here, once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from taxi_ingest.errors import UsageError

DEFAULT_BLOCK = "postgres-connector"
"""The Prefect block whose database is used, if there is one and no other is named."""

BlockType = Literal[
    "sqlalchemy-connector", "gcs-bucket", "s3-bucket", "gcp-credentials", "bigquery-warehouse"
]
"""The types of Prefect's blocks that are of use here, by its names: a database's, and those of clouds."""

IfLoaded = Literal["skip", "replace", "fail"]
Names = Literal["tlc", "snake", "lower"]
"""How a table's columns are spelled: as TLC spells them now; in snake_case, or as TLC does but in lower case,
which need no quotes."""

Reprocess = Literal["missing", "failed", "revised", "new", "all"]
"""Which months to load: all that the table has not, those whose last try failed, those whose file has changed
since, those that are missing or have changed, or every one anew."""

NEW_YORK = "America/New_York"
"""The time zone of schedules that name none."""

MONTHS_BACK = 6
"""For how many months a schedule looks for what is new: TLC publishes one two months later, or more."""

_MOST_JOBS = 8
_MOST_CONNECTIONS = 4
_MOST_ASKED_FOR = 16
"""More would only make more partitions."""


def usual_jobs() -> int:
    """How many loads at once the cores bear: each keeps a backend busy, and its client half a core."""
    return min(len(os.sched_getaffinity(0)), _MOST_JOBS)


def usual_connections() -> int:
    """Over how many connections one large file pays to be loaded: each keeps a backend busy."""
    return min(len(os.sched_getaffinity(0)), _MOST_CONNECTIONS)


@dataclass(frozen=True)
class Allowance:
    """How many rows of a file may be rejected: a number, or a share in percent."""

    rows: int | None = None
    percent: float = 1.0

    def allows(self, rejected: int, read: int) -> bool:
        """Whether that many rejects are within it."""
        return rejected <= (self.rows if self.rows is not None else read * self.percent / 100)

    def __str__(self) -> str:
        return f"{self.rows:,}" if self.rows is not None else f"{self.percent:g} %"


def parse_allowance(text: str) -> Allowance:
    """`100` or `1%`. Raises UsageError for anything else."""
    number = text.strip().removesuffix("%")
    try:
        allowance = (
            Allowance(percent=float(number)) if text.strip().endswith("%") else Allowance(rows=int(number))
        )
    except ValueError:
        allowance = Allowance(rows=-1)
    largest = 100.0 if allowance.rows is None else float("inf")
    if not 0 <= (allowance.rows if allowance.rows is not None else allowance.percent) <= largest:
        raise UsageError(f"--max-rejects {text} is neither a number nor a share.", "Write 100 or 1%.")
    return allowance


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How files are loaded; what a flow gets, so that Prefect stores it and shows it to everyone."""

    chunk_size: int = 100_000
    """Rows to take at a time."""
    to: str | None = None
    """The address of the place that the table is in, without a password; without one, see places/."""
    block: str | None = None
    """The block of the place; without one, see places/databases.py."""
    if_loaded: IfLoaded = "skip"
    """What to do with a file that the table has already."""
    max_rejects: str = "1%"
    """How many rows may be rejected: `100` or `1%`."""
    verify: bool = False
    """Whether fewer rows than TLC's file is known to have abort the load."""
    names: Names | None = None
    """How a new table's columns are spelled; the table remembers it."""
    transform: str | None = None
    """`module:function` of the user's, from DataFrame to DataFrame, called with each chunk."""
    cache: bool = True
    """Whether a download is kept, and taken from those kept before."""
    keep_both: bool = False
    """Whether a month that the table has from another address is loaded beside it."""
    allow_short: bool = False
    """Whether a CSV is loaded that was cut, most of its month's known rows missing."""
    index: bool = True
    """Whether the load gets an index on the pickup time."""
    delimiter: str | None = None
    """What separates a CSV's fields, found out unless told: one character, or `tab`."""
    header: bool | None = None
    """Whether a CSV's first row has the names, found out unless told."""
    connections: int | None = None
    """Over how many connections a file is copied; as many as pay, if not told."""
    wait: bool = True
    """Whether another run that does the same is waited for, rather than left alone."""
    limit: str | None = None
    """The global concurrency limit of Prefect's of which the load holds a slot."""
    source_block: str | None = None
    """The block of a bucket or a cloud, with whose credentials files in buckets are read."""

    def __post_init__(self) -> None:
        """Raise UsageError for a `max_rejects` that says nothing, and for no connections."""
        parse_allowance(self.max_rejects)
        if self.connections is not None and not 1 <= self.connections <= _MOST_ASKED_FOR:
            raise UsageError(
                f"A file is copied over 1 to {_MOST_ASKED_FOR} connections, not {self.connections}.",
                "Leave it out: as many are used as pay.",
            )

    @property
    def allowance(self) -> Allowance:
        """`max_rejects`, parsed."""
        return parse_allowance(self.max_rejects)


DEFAULT_OPTIONS = LoadOptions()


@dataclass(frozen=True)
class Job(LoadOptions):
    """One file into one table, and how.

    The command line takes a login out of `url` before a flow gets it (cli/watch.py).
    """

    url: str
    """Path, or URL (file, http, https, gs, s3, az), of a CSV (also packed) or Parquet file."""
    table: str
    """Table, or schema.table; made where it is missing."""
    dry_run: bool = False
    """Whether to find out what would happen, and load nothing."""
    month: str | None = None
    """The month that was asked for: a file whose rows are mostly of others is refused."""


@dataclass(frozen=True, kw_only=True)
class BackfillJob:
    """Many months, each into the table of its dataset, and how."""

    datasets: Sequence[str]
    """yellow, green, fhv, fhvhv."""
    months: str
    """`2019-01..2021-07`, `2019`, `2023-01..` (till now) or `all`."""
    table: str | None = None
    """Table, or schema.table, of the one dataset; each dataset's usual one if none is named."""
    jobs: int | None = None
    """How many to load at once, in a work pool for each of its workers; what the cores bear if not told."""
    reprocess: Reprocess = "missing"
    newest_first: bool = False
    """Whether to begin with the latest month."""
    max_failures: int | None = None
    """After how many failures no other month is begun."""
    until: str | None = None
    """The month at which an open range ends; the present one if none is named."""
    work_pool: str | None = None
    """The work pool of Prefect's whose workers load the months; this process if none is named."""
    limit: int | None = None
    """How many of all workers may write to the database at once."""
    options: LoadOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that mean nothing."""
        check_numbers(self.jobs, self.max_failures, self.limit)
        if self.limit and not self.work_pool:
            raise UsageError(
                "A limit is for the workers of a work pool.",
                "Name one (--work-pool), or say how many to load at once (--jobs).",
            )


def check_numbers(*numbers: int | None) -> None:
    """Raise UsageError for jobs, failures or the like of which there are less than one."""
    if any(number is not None and number < 1 for number in numbers):
        raise UsageError("Less than one job or failure loads nothing.", "Give 1 or more, or leave it out.")
