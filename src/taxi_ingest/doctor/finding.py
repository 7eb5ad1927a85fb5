"""What one look has found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from taxi_ingest.errors import TaxiIngestError, bug

State = Literal["ok", "note", "failed"]


@dataclass(frozen=True)
class Finding:
    """One thing between here and a loaded table: what was found, and what to do about it."""

    subject: str
    """What was looked at: `database`."""
    state: State
    """`ok`; `note`, which is slow or odd and hinders no load; or `failed`."""
    found: str
    hint: str = ""
    """What to do; empty where all is well."""
    exit_code: int = 0
    """What a load would end with for this; 0 but where it has failed."""


def ok(subject: str, found: str) -> Finding:
    """A finding that all is well."""
    return Finding(subject, "ok", found)


def note(subject: str, found: str, hint: str) -> Finding:
    """A finding that hinders no load."""
    return Finding(subject, "note", found, hint)


def failed(subject: str, error: TaxiIngestError) -> Finding:
    """A finding that this error would end a load."""
    return Finding(subject, "failed", str(error), error.hint, error.exit_code)


def looked_at(subject: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What a look has found; where it ends with an error, this error."""
    try:
        return look()
    except TaxiIngestError as error:
        return [failed(subject, error)]
    except Exception as error:
        return [failed(subject, bug(error))]
