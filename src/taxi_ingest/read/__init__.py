"""A local CSV (packed or not), Parquet file or file of outlines, read as Arrow batches in bounded memory.

`inspect` looks at a file once: its format by its content (names lie), how it is written, its columns,
their types.
`open_reader` then reads it in pieces of at most `chunk_size` rows. A piece is cut off in order, by one
thread; it is parsed by any thread, so that several are parsed at a time.
"""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from taxi_ingest.errors import UsageError
from taxi_ingest.read.csv_file import CsvReader, ends_within_a_line, inspect_csv
from taxi_ingest.read.csv_header import parse_delimiter
from taxi_ingest.read.file import Batch, Format, Layout, Piece, Reader, Reject, detect_format
from taxi_ingest.read.parquet_file import ParquetReader, inspect_parquet
from taxi_ingest.read.shapes import ShapesReader, inspect_shapes

__all__ = [
    "Batch",
    "Format",
    "Layout",
    "Piece",
    "Reader",
    "Reject",
    "breaks_off",
    "inspect",
    "open_reader",
    "parse_delimiter",
]


_KINDS = {
    Format.PARQUET: "a Parquet file",
    Format.SHAPEFILE: "a shapefile",
    Format.GEOJSON: "a GeoJSON file",
}


def inspect(path: Path, delimiter: str | None = None, header: bool | None = None) -> Layout:
    """What a file is and which columns it has, from its first megabyte or its Parquet footer.

    `delimiter` and `header` say of a CSV what else is found out: what separates the fields, and whether
    the first row has the names. Raises SourceError for what is no data: empty, an HTML page, a Git LFS
    pointer, cut short; DataError for a header that can't be read or seems to be missing, and for more
    columns than any table holds; UsageError for other files than CSV with `delimiter` or `header`.
    """
    format = detect_format(path)
    if format.is_csv:
        return inspect_csv(path, format, parse_delimiter(delimiter), header)
    if delimiter is not None or header is not None:
        raise UsageError(
            f"{path.name} is {_KINDS[format]}, which has neither delimiter nor header.",
            "Leave --delimiter and --header out.",
        )
    return inspect_parquet(path) if format is Format.PARQUET else inspect_shapes(format)


def open_reader(
    path: Path, layout: Layout, types: Mapping[str, pa.DataType], quoted_newlines: bool
) -> Reader:
    """A reader of the columns named in `types` (by position in `layout.header`, so names are unique).

    A CSV's columns come as these types where all values of a piece fit, else the piece comes as text;
    Parquet's columns come as the file's own types. `quoted_newlines`: whether a line end inside
    quotes belongs to the value; never so in TLC's files, where taking every line end for the end of a
    row keeps one stray quote from swallowing the rows after it.
    """
    if layout.format.is_csv:
        return CsvReader(path, layout, types, quoted_newlines)
    if layout.format is Format.PARQUET:
        return ParquetReader(path, list(types))
    return ShapesReader(path, layout.format, list(types))


def breaks_off(path: Path, layout: Layout) -> bool:
    """Whether a CSV's last line has no end: it was cut if that is no whole row either.

    Files of other formats can't be read at all without their end.
    """
    return layout.format.is_csv and ends_within_a_line(path, layout)
