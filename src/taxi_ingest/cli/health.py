"""What `status --check` calls well: what loads need answers, and nothing waits to be looked after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taxi_ingest import stack
from taxi_ingest.cli.grid import retry
from taxi_ingest.cli.local_api import prefect_may_be_configured
from taxi_ingest.errors import DatabaseError, DataError, PrefectError, TaxiIngestError
from taxi_ingest.months import Calendar, Month
from taxi_ingest.settings.environment import Settings

_SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """One thing that is not well."""

    error: str
    hint: str
    exit_code: int


def problems(
    settings: Settings,
    found: Sequence[Calendar],
    unreachable: TaxiIngestError | None,
    where: Sequence[str],
) -> Iterator[Problem]:
    """What is not well, the worst first: that the database is `unreachable`, Prefect, months that failed
    or of which table and ledger disagree.

    `where` are the flags that name the database. Nothing is started.
    """
    if unreachable:
        yield _of(unreachable)
    try:
        _check_prefect(settings)
    except PrefectError as error:
        yield _of(error)
    for calendar in found:
        for month in calendar.months:
            yield from (
                Problem(each.found, each.mend(where), DataError.exit_code) for each in month.disagreements
            )
            if month.attempt and not month.disagreements:
                yield _failed(calendar, month, where)


def summed_up(found: Sequence[Problem]) -> TaxiIngestError:
    """All of them as one error, with the hint and the exit code of the first."""
    more = [f"and {len(found) - _SHOWN} more: --json has them all."] if len(found) > _SHOWN else []
    return _NotWell("\n".join([*(each.error for each in found[:_SHOWN]), *more]), found[0])


class _NotWell(TaxiIngestError):
    def __init__(self, message: str, first: Problem) -> None:
        super().__init__(message, first.hint)
        self.exit_code = first.exit_code  # type: ignore[misc]


def _of(error: TaxiIngestError) -> Problem:
    return Problem(str(error), error.hint, error.exit_code)


def _check_prefect(settings: Settings) -> None:
    """Raise PrefectError where the API that flows use does not answer."""
    if prefect_may_be_configured():
        from taxi_ingest.flows.diagnosis import examine_prefect

        if examine_prefect(settings).version:
            return
    local = stack.prefect_status(settings)
    if not local.running:
        note = f" ({local.note})" if local.note else ""
        raise PrefectError(f"The local Prefect server does not run{note}.", "`taxi-ingest up` starts it.")


def stopped(settings: Settings) -> DatabaseError | None:
    """That the local stack's database does not run; None where Prefect alone does not, which may know
    another one."""
    if stack.database_status(settings).running:
        return None
    return DatabaseError("The local stack's database does not run.", "`taxi-ingest up` starts it.")


def _failed(calendar: Calendar, month: Month, where: Sequence[str]) -> Problem:
    attempt = month.attempt
    assert attempt, "only of those whose last try failed"
    when = f"{attempt.failed_at.astimezone():%Y-%m-%d %H:%M}"
    return Problem(
        f"{month.name} could not be loaded into {calendar.target} ({when}): {attempt.message}",
        f"`{retry(calendar, month.month, where)}` tries again.",
        attempt.exit_code,
    )
