"""A Parquet file's columns as BigQuery's."""

from typing import TYPE_CHECKING

import pyarrow as pa

from taxi_ingest.errors import DataError
from taxi_ingest.transform import Plan

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField, Table

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int16(): "INTEGER",
    pa.int32(): "INTEGER",
    pa.int64(): "INTEGER",
    pa.float32(): "FLOAT",
    pa.float64(): "FLOAT",
    pa.string(): "STRING",
    pa.binary(): "BYTES",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    # New York's own time, which has no zone.
    pa.timestamp("us"): "DATETIME",
    pa.timestamp("us", "UTC"): "TIMESTAMP",
}
"""As the interface spells them, in which it answers, too
(https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#parquet_conversions)."""


def columns_of(file: pa.Schema, plan: Plan) -> "list[SchemaField]":
    """The columns of a file that was written after `plan`, with what TLC says of them."""
    from google.cloud.bigquery import SchemaField

    meanings = {column.name: column.meaning for column in plan.columns}
    return [
        SchemaField(field.name, _TYPES[field.type], description=meanings.get(field.name) or "")
        for field in file
    ]


def columns_with(table: "Table | None", columns: "list[SchemaField]") -> "list[SchemaField]":
    """Those that a table has already, then the others. Raises DataError where types differ."""
    existing = {field.name.lower(): field for field in table.schema} if table else {}
    for column in columns:
        has = existing.get(column.name.lower(), column)
        if has.field_type != column.field_type:
            raise DataError(
                f"The table's column {column.name} has the type {has.field_type}, the file's "
                f"{column.field_type}.",
                "Load into another --table.",
            )
    return [*existing.values(), *(column for column in columns if column.name.lower() not in existing)]
