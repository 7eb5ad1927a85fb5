"""Which types a file's columns get beside those that the table's already have."""

import pyarrow as pa

from taxi_ingest.errors import DataError
from taxi_ingest.load.table import ExistingTable, Target
from taxi_ingest.load.types import is_widening, name_of, type_named
from taxi_ingest.read.texts import DECIMAL
from taxi_ingest.transform import PlannedColumn, Stream


def fitted(stream: Stream, target: Target, existing: ExistingTable | None) -> Stream:
    """The stream with the types that the table's columns already have, where those are wide enough."""
    if existing is None:
        return stream
    for column in stream.plan.loaded:
        if column.name not in existing.columns:
            continue
        has = _stored_type(target, existing, column)
        # Text that is only guessed may come from words for no value, or from one number of many digits.
        needs_more = is_widening(has, column.type) and not (column.guessed and column.type == pa.string())
        if existing.partitioned and needs_more:
            continue
        if existing.partitioned and _adds_decimals(column, has):
            stream = stream.with_type(column.name, DECIMAL)
            continue
        # Values for which a user's own column would have to be widened are rejected.
        stream = stream.with_stored_type(column.name, has, final=not existing.partitioned)
    return stream


def _adds_decimals(column: PlannedColumn, has: pa.DataType) -> bool:
    """Whether the first rows have decimals for a column of whole numbers. What becomes of it is known before
    all rows are read, as a view on it may forbid that."""
    return column.guessed and column.type == pa.float64() and is_widening(has, DECIMAL)


def _stored_type(target: Target, existing: ExistingTable, column: PlannedColumn) -> pa.DataType:
    """The type of the table's column. Raises DataError for one that the file's values can't be put into."""
    name = existing.columns[column.name]
    if (type := type_named(name)) is None:
        raise DataError(
            f"Column {column.name!r} of {target} has the type {name}, the file's has {name_of(column.type)}.",
            "Load into another --table, or change the column's type first.",
        )
    return type
