"""A month's Parquet file: rows by pickup, the schema of all eras, and in its footer what is known of it."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields
from datetime import datetime
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_ingest.errors import DataError
from taxi_ingest.load import LoadRecord
from taxi_ingest.read import Reject
from taxi_ingest.transform import Plan

ROW_GROUP_ROWS = 122_880
"""DuckDB's own: a reader of a day skips most, and each is worth a thread."""

_PREFIX = "taxi_ingest."
"""Of the keys in a footer's metadata: `taxi_ingest.sha256`."""
_TIMES = ("started_at", "finished_at", "ended_at")
_FOOTER_END_BYTES = 8
"""The length of the footer and `PAR1` (https://parquet.apache.org/docs/file-format/)."""
TAIL_BYTES = 1 << 16
"""Enough for the footer of a usual month."""

_REJECTS = pa.schema(
    [("number", pa.int64()), ("column_name", pa.string()), ("reason", pa.string()), ("raw", pa.string())]
)


class MonthWriter:
    """Writes a plan's rows, which come in their order, in the columns of all eras."""

    def __init__(self, file: IO[bytes], plan: Plan, key: str) -> None:
        self._schema = pa.schema([(column.name, column.type) for column in plan.columns])
        loaded = {column.name for column in plan.loaded}
        self._nulls = {
            field.name: pa.nulls(ROW_GROUP_ROWS, field.type)
            for field in self._schema
            if field.name not in loaded
        }
        times = [field.name for field in self._schema if pa.types.is_timestamp(field.type)]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(file, mode="w"),
            self._schema,
            compression="zstd",
            compression_level=1,
            # In their order they are far shorter as differences than by a dictionary, and sooner written.
            use_dictionary=[field.name for field in self._schema if field.name not in times],
            column_encoding=dict.fromkeys(times, "DELTA_BINARY_PACKED"),
            sorting_columns=[pq.SortingColumn(self._schema.get_field_index(key))],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Else it is closed when nobody holds it any more, after its file.
        self._writer.close()

    def write(self, tables: Iterator[pa.Table]) -> None:
        """Write each as a row group, while the next one is made."""
        complete = map(self._completed, tables)
        with ThreadPoolExecutor(1, thread_name_prefix="sort") as pool:
            following = pool.submit(next, complete, None)
            while (table := following.result()) is not None:
                following = pool.submit(next, complete, None)
                self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def close(self, record: LoadRecord) -> None:
        """End the file with what is known of it."""
        self._writer.add_key_value_metadata(_metadata(record))
        self._writer.close()

    def _completed(self, table: pa.Table) -> pa.Table:
        columns = [
            self._nulls[field.name].slice(0, table.num_rows)
            if field.name in self._nulls
            else table.column(field.name).cast(field.type)
            for field in self._schema
        ]
        return pa.table(columns, schema=self._schema)


def footer_bytes(tail: bytes) -> int:
    """How long a file's footer is, by the end of the file."""
    return int.from_bytes(tail[-_FOOTER_END_BYTES:][:4], "little") + _FOOTER_END_BYTES


def read_record(tail: bytes, where: str) -> LoadRecord:
    """What a file says of itself, by its footer. Raises DataError for one that is none of ours."""
    try:
        return _record(pq.read_metadata(pa.BufferReader(tail)).metadata or {})
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise DataError(
            f"{where} is no Parquet file of taxi-ingest's.", "Move it away, or load into another --table."
        ) from None


def _metadata(record: LoadRecord) -> dict[str, str]:
    """As texts; what is none is JSON."""
    return {f"{_PREFIX}{field.name}": _told(getattr(record, field.name)) for field in fields(record)}


def _told(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value)


def _record(metadata: Mapping[bytes, bytes]) -> LoadRecord:
    return LoadRecord(
        **{
            field.name: _read(metadata[f"{_PREFIX}{field.name}".encode()].decode(), field.name)
            for field in fields(LoadRecord)
        }
    )


def _read(text: str, name: str) -> Any:
    if text == "null":
        return None
    if name in _TIMES:
        return datetime.fromisoformat(text)
    return json.loads(text) if name in _JSON else text


_JSON = (
    "load_id",
    "bytes",
    "rows_read",
    "rows_loaded",
    "rows_rejected",
    "known_rows",
    "quality",
    "notes",
    "replaces",
)


class RejectsWriter:
    """Writes rejects, some at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = pq.ParquetWriter(pa.PythonFile(file, mode="w"), _REJECTS, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, rejects: tuple[Reject, ...]) -> None:
        """Write these, too."""
        if rejects:
            rows = [dict(zip(_REJECTS.names, astuple(each), strict=True)) for each in rejects]
            self._writer.write_table(pa.Table.from_pylist(rows, schema=_REJECTS))

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def read_rejects(content: bytes, limit: int | None) -> list[Reject]:
    """The first rejects of a file."""
    rows = pq.read_table(pa.BufferReader(content)).slice(0, limit).to_pylist()
    return [Reject(*row.values()) for row in rows]
