"""Which types a file's columns get beside those that the table's already have."""

from taxi_ingest.load import table
from taxi_ingest.load.table import ExistingTable, Target
from taxi_ingest.transform import Stream
from taxi_ingest.transform.types import FOR_DECIMALS


def fitted(stream: Stream, target: Target, existing: ExistingTable | None) -> Stream:
    """The stream with the types that the table's columns already have, where those are wide enough."""
    if existing is None:
        return stream
    for column in stream.plan.loaded:
        has = existing.columns.get(column.name)
        if has is None:
            continue
        # Text that is only guessed may come from words for no value, or from one number of many digits.
        needs_more = table.is_wider(column.type, than=has) and not (column.guessed and column.type == "text")
        if existing.partitioned and needs_more:
            continue
        if existing.partitioned and column.guessed and (both := FOR_DECIMALS.get((has, column.type))):
            stream = stream.with_type(column.name, both)
            continue
        if has != column.type:
            table.check_loadable(target, column, has)
        # Values for which a user's own column would have to be widened are rejected.
        stream = stream.with_stored_type(column.name, has, final=not existing.partitioned)
    return stream
