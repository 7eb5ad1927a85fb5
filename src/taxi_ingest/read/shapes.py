"""The outlines of the taxi zones: TLC's shapefile in a zip archive, or GeoJSON.

A shapefile's .prj says in which coordinates it is (TLC's: feet of New York's state plane), GeoJSON's are
degrees (https://www.rfc-editor.org/rfc/rfc7946#section-4). Either becomes a row a zone, in degrees. TLC's
shapefile has several shapes of one zone (56, 103), which become one.

What reads them is an extra, `taxi-ingest[geo]`, and imported only here and in transform/zones.py.
"""

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from taxi_ingest.errors import DataError, SourceError, TaxiIngestError, UsageError
from taxi_ingest.read.file import Batch, Format, Layout, Piece, batch_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Features = list[tuple[Mapping[str, Any], "BaseGeometry"]]
"""What a file has: properties and an outline each."""

Zones = Mapping[int, tuple[Mapping[str, Any], list["BaseGeometry"]]]
"""LocationID -> the zone's properties and its outlines, in order."""

_EXTRA = ("shapely", "pyproj", "shapefile")
_MOST_BYTES = 128 << 20
"""Of a file, unpacked; TLC's has 2 MB, the GeoJSON 4."""
_SCHEMA = pa.schema(
    {
        "LocationID": pa.int64(),
        "Borough": pa.string(),
        "Zone": pa.string(),
        "longitude": pa.float64(),
        "latitude": pa.float64(),
        "geojson": pa.string(),
        "wkt": pa.string(),
    }
)

INSTALL = "pip install 'taxi-ingest[geo]'"
"""What installs what outlines need."""


def can_read_shapes() -> bool:
    """Whether what reads outlines is installed."""
    return all(map(find_spec, _EXTRA))


def check_can_read_shapes() -> None:
    """Raise UsageError where what reads outlines is not installed."""
    if not can_read_shapes():
        raise UsageError("The zones' outlines need packages that are not installed.", f"{INSTALL}.")


def inspect_shapes(format: Format) -> Layout:
    """The columns that each file of outlines gives; what is wrong with it is found when it is read.

    Raises UsageError where what reads them is not installed.
    """
    check_can_read_shapes()
    return Layout(format, _SCHEMA, rows=None)


class ShapesReader:
    """Reads the outlines of a shapefile or GeoJSON, a row a zone, of these columns."""

    def __init__(self, path: Path, format: Format, columns: list[str]) -> None:
        self._path = path
        self._format = format
        self._columns = columns

    def pieces(self, chunk_size: int) -> Iterator[Piece]:
        """The zones, `chunk_size` at a time. Raises SourceError for a damaged file."""
        with _damage_explained(self._path):
            rows = _rows(_by_zone(_READERS[self._format](self._path))).select(self._columns)
        done = 0
        for batch in rows.to_batches(max_chunksize=chunk_size):
            yield Piece(batch, first_number=done + 1, position=self._path.stat().st_size)
            done += batch.num_rows

    def parse(self, piece: Piece) -> Batch:
        """The rows of a piece, of which none can be a reject."""
        return batch_of(piece)


def _shapefile(path: Path) -> Features:
    import pyproj
    import shapefile
    import shapely
    from shapely.geometry import shape

    shp, dbf, prj = _unpacked(path, ".shp", ".dbf", ".prj")
    file = shapefile.Reader(shp=io.BytesIO(shp), dbf=io.BytesIO(dbf))
    crs = pyproj.CRS.from_wkt(prj.decode())
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    shapes = [shape(found.__geo_interface__) for found in file.shapes()]
    moved = shapely.transform(np.array(shapes), lambda xy: np.column_stack(to_degrees.transform(*xy.T)))
    return [(record.as_dict(), found) for record, found in zip(file.records(), moved, strict=True)]


def _unpacked(path: Path, *suffixes: str) -> list[bytes]:
    """The parts of a zipped shapefile; what macOS adds to an archive is none."""
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if not one.filename.startswith("__MACOSX/")]
        named = {Path(member.filename).suffix.lower(): member for member in members}
        for suffix in suffixes:
            _check_size(named[suffix].file_size)
        return [archive.read(named[suffix]) for suffix in suffixes]


def _geojson(path: Path) -> Features:
    from shapely.geometry import shape

    _check_size(path.stat().st_size)
    features = json.loads(path.read_bytes())["features"]
    return [(feature["properties"], shape(feature["geometry"])) for feature in features]


def _check_size(size: int) -> None:
    """What is read here is held in memory, whole."""
    if size > _MOST_BYTES:
        raise ValueError(f"{size:,} bytes are more than outlines of zones take")


_READERS: Mapping[Format, Callable[[Path], Features]] = {
    Format.SHAPEFILE: _shapefile,
    Format.GEOJSON: _geojson,
}


def _by_zone(features: Features) -> Zones:
    """The zones, whose properties' names count without case and underscores, as others publish them too."""
    zones: dict[int, tuple[dict[str, Any], list[BaseGeometry]]] = defaultdict(lambda: ({}, []))
    for named, outline in features:
        properties = {name.lower().replace("_", ""): value for name, value in named.items()}
        if not str(properties.get("locationid", "")).isdigit():
            raise DataError("An outline has no LocationID: these are no taxi zones.", "Is it the right file?")
        known, outlines = zones[int(properties["locationid"])]
        known |= properties
        outlines.append(outline)
    return dict(sorted(zones.items()))


def _rows(zones: Zones) -> pa.Table:
    import shapely

    if not zones:
        raise DataError("There is no outline in it.", "Is it the right file?")
    # Counter-clockwise, as GeoJSON wants it; a shapefile's are clockwise.
    outlines = shapely.orient_polygons([_one(outlines) for _, outlines in zones.values()])
    west, south, east, north = shapely.total_bounds(outlines)
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise DataError("The outlines are not in degrees.", "GeoJSON has longitude and latitude (WGS 84).")
    centroids = shapely.get_coordinates(shapely.centroid(outlines))
    columns = [
        list(zones),
        [properties.get("borough") for properties, _ in zones.values()],
        [properties.get("zone") for properties, _ in zones.values()],
        centroids[:, 0],
        centroids[:, 1],
        shapely.to_geojson(outlines),
        # All digits.
        shapely.to_wkt(outlines, rounding_precision=-1),
    ]
    typed = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    return pa.table(typed, schema=_SCHEMA)


def _one(outlines: list["BaseGeometry"]) -> "BaseGeometry":
    """A zone's outlines as one MultiPolygon; that of one which is whole already keeps its points."""
    import shapely

    whole = outlines[0] if len(outlines) == 1 else shapely.union_all(outlines)
    return shapely.MultiPolygon(list(shapely.get_parts(whole)))


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    """Raise SourceError for whatever the readers raise over a file that is damaged or none of theirs."""
    try:
        yield
    except TaxiIngestError:
        raise
    except Exception as error:
        raise SourceError(
            f"{path.name} is damaged, or no file of zones' outlines: {type(error).__name__}: {error}.",
            "Download it again.",
        ) from error
