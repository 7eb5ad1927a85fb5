"""What a run says at its end: the object that `--json` prints. Nothing here imports Prefect."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeGuard

from taxi_ingest.errors import InconsistentError, TaxiIngestError, bug
from taxi_ingest.load import LoadResult, Preview, Target
from taxi_ingest.places import Place
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Stream


@dataclass(frozen=True)
class Outcome:
    """The result of `ingest`, as `--json` prints it."""

    status: str
    """loaded, replaced, skipped or planned."""
    table: str
    url: str
    dataset: str | None
    month: str | None
    rows_read: int | None
    """None where nothing was read yet and the file does not say."""
    rows_loaded: int
    rows_rejected: int
    known_rows: int | None
    verdict: str
    load_id: int | None
    sha256: str
    bytes: int
    seconds: float
    rows_per_second: int
    flow_run_url: str | None
    quality: Mapping[str, int]
    notes: tuple[str, ...]
    database: str
    """Where the table is: a libpq URL without a password, or the address of what `--to` names."""
    plan: Preview | None = None

    @classmethod
    def of(
        cls,
        result: LoadResult,
        target: Target,
        place: Place,
        seconds: float,
        flow_run_url: str | None,
    ) -> "Outcome":
        """Put together what a flow run knows at its end, and how long it took."""
        load = result.record
        return cls(
            status=result.status,
            table=str(target),
            url=load.source,
            dataset=load.dataset,
            month=load.month,
            rows_read=load.rows_read,
            rows_loaded=load.rows_loaded,
            rows_rejected=load.rows_rejected,
            known_rows=load.known_rows,
            verdict=load.verdict,
            load_id=load.load_id,
            sha256=load.sha256,
            bytes=load.bytes,
            seconds=round(seconds, 3),
            rows_per_second=0 if result.skipped else round(load.rows_loaded / max(seconds, 0.001)),
            flow_run_url=flow_run_url,
            quality=load.quality,
            notes=tuple(load.notes),
            database=place.address,
        )

    @classmethod
    def planned(
        cls,
        plan: Preview,
        stream: Stream,
        source: SourceFile,
        target: Target,
        place: Place,
        seconds: float,
        flow_run_url: str | None,
    ) -> "Outcome":
        """What `--dry-run` found out."""
        comparison = plan.comparison
        notes = [comparison.note] if comparison and comparison.note else []
        return cls(
            status="planned",
            table=str(target),
            url=source.url,
            dataset=stream.plan.dataset,
            month=stream.plan.month,
            rows_read=plan.rows,
            rows_loaded=0,
            rows_rejected=0,
            known_rows=comparison.known if comparison else None,
            verdict=comparison.verdict if comparison else "unknown",
            load_id=None,
            sha256=source.sha256,
            bytes=source.bytes,
            seconds=round(seconds, 3),
            rows_per_second=0,
            flow_run_url=flow_run_url,
            quality={},
            notes=(*stream.plan.warnings, *notes),
            database=place.address,
            plan=plan,
        )

    def as_json(self) -> dict[str, Any]:
        """A plain object for `--json`."""
        result = asdict(self)
        if self.plan is None:
            del result["plan"]
        return result

    def with_note(self, note: str) -> "Outcome":
        """The same, and something more that its reader should know."""
        return replace(self, notes=(*self.notes, note))


@dataclass(frozen=True)
class NotLoaded:
    """A file of several that was not loaded."""

    status: Literal["failed", "unpublished", "waiting"]
    """Its load failed; TLC has not published it yet; or it was not begun: it was not asked for, or too many
    others had failed."""
    table: str
    url: str | None
    dataset: str | None
    month: str | None
    error: str | None = None
    hint: str | None = None
    exit_code: int = 0
    """What `ingest` of this file would have ended with."""
    is_noted: bool = True
    """Whether it is a try that a ledger keeps, if it keeps any."""

    @classmethod
    def failed(
        cls, error: Exception, *, table: str, url: str | None, dataset: str | None, month: str | None
    ) -> "NotLoaded":
        """One whose load has ended with an error."""
        known = error if isinstance(error, TaxiIngestError) else bug(error)
        is_noted = not isinstance(known, InconsistentError)
        return cls("failed", table, url, dataset, month, str(known), known.hint, known.exit_code, is_noted)

    def as_json(self) -> dict[str, Any]:
        """The same object as of a file that was loaded; what there is not is null."""
        empty = {field.name: None for field in fields(Outcome) if field.name != "plan"}
        known = asdict(self)
        del known["exit_code"], known["is_noted"]
        return {**empty, **known}


@dataclass(frozen=True)
class BackfillOutcome:
    """The result of `backfill`, and of `ingest` of several files, as `--json` prints it."""

    months: tuple[Outcome | NotLoaded, ...]
    """What has become of each, in the order of the months."""
    seconds: float
    flow_run_url: str | None
    database: str
    """Where the tables are: a libpq URL without a password, or the address of what `--to` names."""
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """failed where one has failed, loaded where one was loaded, else skipped."""
        if self.failures:
            return "failed"
        return "loaded" if self.count("loaded", "replaced") else "skipped"

    @property
    def failures(self) -> list[NotLoaded]:
        """Those that failed, in their order."""
        return [month for month in self.months if isinstance(month, NotLoaded) and month.status == "failed"]

    @property
    def exit_code(self) -> int:
        """That of the first failure."""
        return self.failures[0].exit_code if self.failures else 0

    def checked(self) -> "BackfillOutcome":
        """Itself. Raises MonthsFailed where one has failed."""
        if self.failures:
            raise MonthsFailed(self)
        return self

    @property
    def rows_loaded(self) -> int:
        """The rows of those that were loaded now."""
        return sum(month.rows_loaded for month in self.months if is_new(month))

    def count(self, *statuses: str) -> int:
        """How many have one of these statuses."""
        return sum(month.status in statuses for month in self.months)

    def as_json(self) -> dict[str, Any]:
        """A plain object for `--json`."""
        return {
            "status": self.status,
            "months": [month.as_json() for month in self.months],
            "loaded": self.count("loaded", "replaced"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
            "unpublished": self.count("unpublished"),
            "waiting": self.count("waiting"),
            "rows_loaded": self.rows_loaded,
            "seconds": self.seconds,
            "flow_run_url": self.flow_run_url,
            "database": self.database,
            "notes": list(self.notes),
        }

    def with_note(self, note: str) -> "BackfillOutcome":
        """The same, and something more that its reader should know."""
        return replace(self, notes=(*self.notes, note))


def is_new(month: Outcome | NotLoaded) -> TypeGuard[Outcome]:
    """Whether its rows were loaded now."""
    return isinstance(month, Outcome) and month.status in ("loaded", "replaced")


def name_of(load: Outcome | NotLoaded) -> str:
    """`yellow 2019-01`; of a file that is no month its address."""
    return f"{load.dataset} {load.month}" if load.dataset and load.month else str(load.url)


class MonthsFailed(TaxiIngestError):
    """Some of several loads have failed; the exit code is that of the first."""

    def __init__(self, outcome: BackfillOutcome) -> None:
        first = outcome.failures[0]
        number = f"{len(outcome.failures)} of {len(outcome.months)} failed, the first of them"
        super().__init__(f"{number} {name_of(first)}: {first.error}", first.hint or "")
        self.outcome = outcome

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """That of the first failure."""
        return self.outcome.exit_code

    def __reduce__(self) -> Any:
        return type(self), (self.outcome,)
