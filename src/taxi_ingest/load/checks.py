"""What must hold before a load is committed: no row lost, few enough rejected, as many as the month has."""

from collections.abc import Mapping
from dataclasses import dataclass

from taxi_ingest import tlc
from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.history import Verdict
from taxi_ingest.load.rejects import RejectSpool
from taxi_ingest.read import breaks_off
from taxi_ingest.read.csv_file import NOT_UTF8
from taxi_ingest.read.texts import SPELLINGS
from taxi_ingest.settings.job import Allowance
from taxi_ingest.transform import Stream

_OTHER_MONTH = 0.05
"""The share of rows picked up outside the month from which on a file is not compared with that month's:
what TLC publishes has a few such rows in thousands."""

_MOSTLY_OTHERS = 0.5
"""The share of such rows from which on it is the file of another month."""

_MOSTLY_MISSING = 0.5
"""The share of the known rows below which a file that breaks off is refused."""


def check_counts(counts: Counts, stream: Stream, spool: RejectSpool, allowance: Allowance) -> None:
    """Nothing is missing, and no more is rejected than allowed. Raises DataError, SourceError."""
    lost = counts.read - counts.loaded - counts.rejected - counts.removed
    if lost or (counts.removed and stream.step is None):
        raise DataError(
            f"Of {counts.read:,} rows some got lost: {counts}.", "This is a bug: please report it."
        )
    if stream.layout.rows is not None and counts.read != stream.layout.rows:
        raise SourceError(
            f"The file says it has {stream.layout.rows:,} rows, but {counts.read:,} were read.",
            "Download it again.",
        )
    if counts.rejected and not counts.loaded:
        # Whatever is allowed: nothing but rejects is no load.
        raise DataError(
            f"{counts.rejected:,} of {counts.read:,} rows can't be represented, and no row is left; "
            f"nothing was loaded. {spool.first()}",
            _spelling_hint(stream, spool) or "Mend the file, or look whether it is the right one.",
        )
    if not allowance.allows(counts.rejected, counts.read):
        raise DataError(
            f"{counts.rejected:,} of {counts.read:,} rows can't be represented, allowed are {allowance}; "
            f"nothing was loaded. {spool.first()}",
            f"{_spelling_hint(stream, spool)} Mend the file, or allow more with --max-rejects (a number, or "
            "a share like 5%).".lstrip(),
        )


def check_month(counts: Counts, month: str | None) -> None:
    """Raise DataError where most of the rows are of other months than the one that was asked for."""
    outside = counts.oddities.get("pickup_outside_month", 0)
    if month and outside > counts.read * _MOSTLY_OTHERS:
        raise DataError(
            f"{outside:,} of {counts.read:,} rows were picked up outside {month}; nothing was loaded.",
            "Look whether it is the right file (TAXI_INGEST_TLC_URL); to load it as it is, name it: --url.",
        )


def _spelling_hint(stream: Stream, spool: RejectSpool) -> str:
    """How the values of the first reject's column may be spelled, or the file's text encoded; empty where
    that is no question."""
    if spool.first().endswith(NOT_UTF8):
        return "Convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE (or from the encoding it has)."
    types = {column.name: column.type for column in stream.plan.loaded}
    return SPELLINGS.get(types.get(spool.first_column or ""), "")


@dataclass(frozen=True)
class Comparison:
    """The rows that were read, before a user's step, against those that TLC's file is known to have."""

    verdict: Verdict
    read: int
    known: int | None
    """None where there is nothing to compare with."""
    note: str | None = None
    """What the user should know of it."""
    cut: bool = False
    """Whether most of the month is missing, and the file ends in the middle of a row, which is a reject."""

    def notes(self, verify: bool) -> list[str]:
        """What the user should know of it, and of nothing to `verify` by."""
        if self.note is not None:
            return [self.note]
        unverified = verify and self.known is None
        return ["Nothing was verified: no count of rows is known for this file."] if unverified else []

    def check(self, verify: bool, allow_short: bool) -> None:
        """Raise DataError for a file that lacks rows: any if `verify`; most, and cut, unless allowed.

        A part of a month that ends as a file should, as courses hand it out, is loaded with a warning.
        """
        if self.verdict == "short" and (verify or (self.cut and not allow_short)):
            raise DataError(
                f"{self.note} Nothing was loaded.",
                "Fetch the file again; what there is of it is loaded with --allow-short"
                f"{' and without --verify' if verify else ''}.",
            )


def compare(
    stream: Stream, read: int, rejected: int, oddities: Mapping[str, int], changed: bool
) -> Comparison:
    """Compare the rows read with the count that is known of the file's month.

    `changed`: whether the same address had other content before. The count alone is compared: as many rows
    as TLC's file has do not make a file TLC's.
    """
    plan = stream.plan
    known = tlc.known_rows(plan.dataset, plan.month, stream.layout.format)
    if known is None:
        return Comparison("unknown", read, None)
    outside = oddities.get("pickup_outside_month", 0)
    if outside > read * _OTHER_MONTH:
        note = (
            f"{outside:,} of {read:,} rows were picked up outside {plan.month}, so the file is not compared "
            f"with TLC's of that month."
        )
        return Comparison("unknown", read, None, note)
    if read < known:
        month = f"{plan.dataset} {plan.month}"
        note = f"The file has {read:,} rows; TLC's of {month} is known to have {known:,}."
        cut = read < known * _MOSTLY_MISSING and rejected > 0 and breaks_off(stream.path, stream.layout)
        return Comparison(
            "short", read, known, note + (" It breaks off in its last row." if cut else ""), cut
        )
    return Comparison("revised" if read > known or changed else "match", read, known)
