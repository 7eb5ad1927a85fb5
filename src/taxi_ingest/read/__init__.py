"""A local CSV, CSV.gz or Parquet file, read as Arrow batches in bounded memory.

`inspect` looks at a file once: its format by its content (names lie), its columns, their types.
`open_reader` then reads it in pieces of at most `chunk_size` rows. A piece is cut off in order, by one
thread; it is parsed by any thread, so that several are parsed at a time.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from taxi_ingest.read.batch import Batch, Layout, Piece, Reader, Reject
from taxi_ingest.read.csv_file import CsvReader, inspect_csv
from taxi_ingest.read.format import Format, detect_format
from taxi_ingest.read.parquet_file import ParquetReader, inspect_parquet

__all__ = ["Batch", "Format", "Layout", "Piece", "Reader", "Reject", "inspect", "open_reader"]


def inspect(path: Path) -> Layout:
    """What a file is and which columns it has, from its first megabyte or its Parquet footer.

    Raises SourceError for what is no data: empty, an HTML page, a Git LFS pointer, cut short.
    """
    format = detect_format(path)
    return inspect_parquet(path) if format is Format.PARQUET else inspect_csv(path, format)


def open_reader(
    path: Path, layout: Layout, types: Mapping[str, pa.DataType], quoted_newlines: bool
) -> Reader:
    """A reader of the columns named in `types` (by position in `layout.header`, so names are unique).

    A CSV's columns come as these types where all values of a piece fit, else the piece comes as text;
    Parquet's columns come as the file's own types. `quoted_newlines`: whether a line end inside
    quotes belongs to the value; never so in TLC's files, where taking every line end for the end of a
    row keeps one stray quote from swallowing the rows after it.
    """
    if layout.format is Format.PARQUET:
        return ParquetReader(path, list(types))
    return CsvReader(path, layout, types, quoted_newlines)
