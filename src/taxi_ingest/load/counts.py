"""What the counts of a load's rows must be before it is committed."""

from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.job import Allowance
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.rejects import RejectSpool
from taxi_ingest.read.csv_file import NOT_UTF8
from taxi_ingest.read.texts import SPELLINGS
from taxi_ingest.transform import Stream


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


def _spelling_hint(stream: Stream, spool: RejectSpool) -> str:
    """How the values of the first reject's column may be spelled, or the file's text encoded; empty where
    that is no question."""
    if spool.first().endswith(NOT_UTF8):
        return "Convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE (or from the encoding it has)."
    types = {column.name: column.type for column in stream.plan.loaded}
    return SPELLINGS.get(types.get(spool.first_column or ""), "")
