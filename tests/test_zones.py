"""Zones have outlines; trips that have coordinates only get the zones they lie in; a map is a query away."""

import csv
import json
import math
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pytest

from builders import csv_of, written
from helpers import (
    ROOT,
    SHARED_DATA,
    Cli,
    Publish,
    Rows,
    execute,
    loaded,
    query,
    run_python,
    together,
    value,
)
from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.load import (
    Assignment,
    Database,
    assign_zones,
    loads_to_assign,
    outlines_in,
    parse_target,
    undo,
)
from taxi_ingest.stack import psql_command
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.transform.zones import Zones
from taxi_ingest.views import make_views

REAL = SHARED_DATA / "zones"
SAMPLE = ROOT / "tests" / "zone_sample.csv"
"""Real trips of 2009 to 2016, their zones found by counting crossings of NYC's GeoJSON, not by shapely."""

COORDINATES = "pickup_longitude,pickup_latitude,dropoff_longitude,dropoff_latitude"
ASSIGNED = "assigned_pickup_zone, assigned_dropoff_zone"
TRIP = f"VendorID,lpep_pickup_datetime,total_amount,{COORDINATES}"

needs_real_zones = pytest.mark.skipif(not REAL.exists(), reason="TLC's zones are not in ../shared/data")


def square(west: float, south: float, size: float = 1.0) -> list[list[list[float]]]:
    """The coordinates of a polygon."""
    east, north = west + size, south + size
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def geojson(folder: Path, zones: list[tuple[object, Any]], name: str = "taxi_zones.geojson") -> Path:
    """A GeoJSON of zones, each a number and the coordinates of its polygon."""
    features = [
        {
            "type": "Feature",
            "properties": {"location_id": number, "zone": f"Zone {number}", "Borough": "B"},
            "geometry": {"type": "Polygon", "coordinates": coordinates},
        }
        for number, coordinates in zones
    ]
    return written(folder, json.dumps({"type": "FeatureCollection", "features": features}), name)


def two_zones(folder: Path, *, first: int = 1) -> Path:
    """Two squares side by side, from 74 to 72 degrees west, 40 to 41 north."""
    return geojson(folder, [(first, square(-74, 40)), (first + 1, square(-73, 40))])


def coordinates(folder: Path, *points: tuple[object, ...], name: str = "green_tripdata_2014-01.csv") -> Path:
    """Green trips with coordinates only, each costing a dollar more than the one before."""
    rows = [f"1,2014-01-01 00:00:{n:02},{n},{','.join(map(str, point))}" for n, point in enumerate(points, 1)]
    return csv_of(folder, TRIP, *rows, name=name)


def assigned(database: Database, shapes: Path | None = None, table: str = "shapes") -> list[Assignment]:
    """What the library does for `zones --assign`."""
    if shapes:
        loaded(shapes, database, table, chunk_size=1000)
    outlines = outlines_in(database, parse_target(table))
    done = [
        assign_zones(database, load_id, outlines, Zones(outlines.texts).at)
        for load_id in loads_to_assign(database, outlines)
    ]
    return [each for each in done if each]


def zones_of(url: str, table: str = "trips") -> Rows:
    return query(url, f"SELECT {ASSIGNED} FROM {table} ORDER BY total_amount")


@pytest.fixture(scope="session")
def tlc_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TLC's download: its real shapefile in a zip archive."""
    path = tmp_path_factory.mktemp("tlc") / "taxi_zones.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._taxi_zones.shp", b"")
        for file in sorted((REAL / "taxi_zones").iterdir()):
            archive.write(file, file.name)
    return path


# Outlines


@needs_real_zones
def test_tlcs_shapefile_becomes_a_row_a_zone_in_degrees(
    tlc_zip: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    result = loaded(tlc_zip, embedded_database, "shapes", chunk_size=100)
    assert (result.record.dataset, result.record.rows_loaded) == ("zone_shapes", 260)
    found = query(
        embedded_database_url,
        """SELECT "LocationID", "Borough", "Zone", longitude, latitude, geojson::json, wkt
        FROM shapes ORDER BY 1""",
    )
    # 57, 104 and 105 are shapes of 56 and 103 in it.
    assert {row[0] for row in found} == set(range(1, 264)) - {57, 104, 105}
    assert found[0][1:3] == ("EWR", "Newark Airport")
    published = {
        feature["properties"]["LocationID"]: vertices(feature["geometry"]["coordinates"])
        for feature in json.loads((REAL / "taxi_zones.geojson").read_text())["features"]
    }
    together = {56: [56, 57], 103: [103, 104, 105]}
    for zone, _, _, longitude, latitude, shape, wkt in found:
        expected = [point for part in together.get(zone, [zone]) for point in published[part]]
        assert shape["type"] == "MultiPolygon"
        west, south, east, north = bounds(expected)
        assert bounds(vertices(shape["coordinates"])) == pytest.approx((west, south, east, north), abs=1e-9)
        assert west < longitude < east
        assert south < latitude < north
        assert wkt.startswith("MULTIPOLYGON (((")


def vertices(coordinates: Any) -> list[tuple[float, float]]:
    """All points of a GeoJSON's coordinates, however deep."""
    if isinstance(coordinates[0], float | int):
        return [(coordinates[0], coordinates[1])]
    return [point for part in coordinates for point in vertices(part)]


def bounds(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    longitudes, latitudes = zip(*points, strict=True)
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def test_a_geojson_loads_with_its_centroids(tmp_path: Path, database: Database, database_url: str) -> None:
    loaded(two_zones(tmp_path), database, "shapes")
    assert query(database_url, 'SELECT "LocationID", "Zone", longitude, latitude FROM shapes ORDER BY 1') == [
        (1, "Zone 1", -73.5, 40.5),
        (2, "Zone 2", -72.5, 40.5),
    ]


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        ([("", square(-74, 40))], "no LocationID"),
        ([(1, square(980_000, 190_000))], "not in degrees"),
    ],
)
def test_what_are_no_zones_is_refused(
    tmp_path: Path, embedded_database: Database, zones: list[tuple[object, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        loaded(geojson(tmp_path, zones), embedded_database, "shapes")


def damaged(folder: Path) -> Iterator[tuple[str, Path]]:
    whole = two_zones(folder).read_text()
    yield "a cut GeoJSON", written(folder, whole[: len(whole) // 2], "cut.geojson")
    yield (
        "features without a geometry",
        written(
            folder,
            '{"type": "FeatureCollection", "features": [{"properties": {"LocationID": 1}}]}',
            "a.geojson",
        ),
    )
    for name, members in {
        "no shapefile": {".shp": b"no"},
        "parts missing": {".shp": b"", ".dbf": b""},
    }.items():
        path = folder / f"{name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for suffix, content in members.items():
                archive.writestr(f"zones{suffix}", content)
        yield name, path


def test_a_damaged_file_of_outlines_is_a_source_that_is_refused(
    tmp_path: Path, embedded_database: Database
) -> None:
    for what, path in damaged(tmp_path):
        with pytest.raises(SourceError, match="damaged") as failure:
            loaded(path, embedded_database, "shapes")
        assert failure.value.exit_code == 3, what


def test_where_there_is_postgis_outlines_are_geometries_too(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    with_postgis(database_url)
    loaded(two_zones(tmp_path), database, "shapes")
    kinds = "SELECT DISTINCT public.st_geometrytype(geometry), public.st_srid(geometry) FROM shapes"
    assert query(database_url, kinds) == [("ST_MultiPolygon", 4326)]
    loaded(two_zones(tmp_path, first=5), database, "shapes")
    found = """SELECT "LocationID" FROM shapes
        WHERE public.st_contains(geometry, public.st_setsrid(public.st_point(-72.5, 40.5), 4326))"""
    assert query(database_url, found) == [(6,)]


def with_postgis(url: str) -> None:
    try:
        execute(url, "CREATE EXTENSION postgis")
    except psycopg2.Error:
        pytest.skip("this Postgres has no PostGIS")


# The command


@pytest.fixture
def mirror(publish: Publish, tmp_path: Path) -> Path:
    """The folder of a mirror that has names of zones; the settings name it."""
    del publish
    write_sample("zones", "", tmp_path / "taxi_zone_lookup.csv")
    return tmp_path


@pytest.fixture
def db(embedded_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database that the settings name."""
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    return embedded_database_url


def test_zones_loads_names_and_outlines_once(mirror: Path, cli: Cli, db: str) -> None:
    two_zones(mirror)
    first, again = (json.loads(cli("zones", "--json").stdout) for _ in range(2))
    assert (first["table"], first["rows_loaded"], first["assigned"]) == ("taxi_zones", 265, None)
    assert (first["shapes"]["table"], first["shapes"]["rows_loaded"]) == ("taxi_zones_shapes", 2)
    assert (again["status"], again["shapes"]["status"]) == ("skipped", "skipped")
    shown = cli("zones").stdout
    assert "outlines taxi_zones_shapes: 2 zones from http" in shown
    two_zones(mirror, first=7)
    assert json.loads(cli("zones", "--json").stdout)["shapes"]["status"] == "replaced"
    assert query(db, 'SELECT "LocationID" FROM taxi_zones_shapes ORDER BY 1') == [(7,), (8,)]


@pytest.mark.usefixtures("mirror", "db")
def test_a_mirror_without_outlines_has_names(cli: Cli) -> None:
    done = cli("zones", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["rows_loaded"], found["shapes"]) == (0, 265, None)
    assert found["notes"] == ["There are no outlines of zones beside it; --shapes FILE names some."]
    missing = cli("zones", "--assign")
    assert (missing.returncode, "has no outlines of zones" in missing.stderr) == (4, True)


def test_without_the_extra_names_are_loaded_and_it_is_said_how_to_get_outlines(
    mirror: Path, cli: Cli, db: str
) -> None:
    # With Prefect's server up.
    del cli
    two_zones(mirror)
    bare = "import sys; sys.modules['shapely'] = None; from taxi_ingest.__main__ import main; main()"
    done = run_python(bare, "zones", env=dict(os.environ))
    assert (done.returncode, "taxi-ingest[geo]" in done.stdout) == (0, True), done.stderr
    assert value(db, "SELECT count(*) FROM taxi_zones") == 265
    for flag in ("--assign", f"--shapes={mirror / 'taxi_zones.geojson'}"):
        refused = run_python(bare, "zones", flag, env=dict(os.environ))
        assert (refused.returncode, "taxi-ingest[geo]" in refused.stderr) == (2, True)


@pytest.mark.usefixtures("mirror")
def test_only_a_file_of_outlines_is_taken_for_one(tmp_path: Path, cli: Cli, db: str) -> None:
    names = ("taxi_zones.shp", "zones.csv", "zones")
    for path in (tmp_path / name for name in names):
        path.write_text("LocationID,wkt\n1,POINT EMPTY\n")
        refused = cli("zones", "--shapes", path)
        assert (refused.returncode, ".shp, .dbf and .prj" in refused.stderr) == (2, True), refused.stderr
    empty = tmp_path / "none.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    refused = cli("zones", "--shapes", empty)
    assert (refused.returncode, "There is no outline in it." in refused.stderr) == (4, True), refused.stderr
    assert value(db, "SELECT to_regclass('taxi_zones_shapes')") is None


def test_assign_tells_what_lies_nowhere(mirror: Path, cli: Cli, db: str) -> None:
    path = coordinates(mirror, (-73.5, 40.5, -72.5, 40.5), (0, 0, -72.5, 40.5))
    assert cli("ingest", path, "--table", "trips").returncode == 0
    execute(db, "CREATE SCHEMA answers")
    assert "Loads of trips that have coordinates only: 1." in cli("views", "--schema", "answers").stdout
    done = cli("zones", "--shapes", two_zones(mirror), "--assign")
    assert "coordinates only" not in cli("views", "--schema", "answers").stdout
    assert "green 2014-01 (load 1): 2 trips; in no zone 1 pickups, 0 drop-offs" in done.stdout, done.stderr
    assert zones_of(db) == [(1, 2), (None, 2)]
    again = cli("zones", "--assign", "--json")
    assert json.loads(again.stdout)["assigned"] == []
    assert "have their zones already" in cli("zones", "--assign").stdout
    assert "1 picked up in no zone" in cli("ingest", path, "--table", "trips").stdout
    quality = json.loads(cli("loads", "--json").stdout)["loads"][0]["quality"]
    assert (quality["pickup_in_no_zone"], quality["dropoff_in_no_zone"]) == (1, 0)


# Points


def test_a_point_lies_in_the_zone_around_it_or_in_none() -> None:
    zones = Zones({9: wkt(-73, 40), 4: wkt(-74, 40)})
    points = [(-73.5, 40.5), (-72.5, 40.5), (-73, 40.5), (0, 0), (-73.5, math.nan), (math.nan, math.nan)]
    longitudes, latitudes = np.array(points).T
    assert zones.at(longitudes, latitudes).tolist() == [4, 9, 4, 0, 0, 0]
    assert zones.at(longitudes[:0], latitudes[:0]).tolist() == []


def wkt(west: float, south: float) -> str:
    ring = ", ".join(f"{x} {y}" for x, y in square(west, south)[0])
    return f"MULTIPOLYGON ((({ring})))"


@needs_real_zones
def test_real_trips_of_eight_years_lie_where_counting_crossings_says(
    embedded_database: Database, embedded_database_url: str
) -> None:
    with SAMPLE.open() as file:
        sample = list(csv.DictReader(file))
    assert len({row["file"][:-3] for row in sample}) == 12
    for name in {row["file"] for row in sample}:
        table = name.partition("_")[0]
        path = SHARED_DATA / "csv_heads" / f"{name}.csv"
        loaded(path, embedded_database, table, chunk_size=1000, max_rejects="100%")
    assigned(embedded_database, REAL / "taxi_zones.geojson")
    for row in sample:
        points = " AND ".join(f"{column} = {row[column]}" for column in COORDINATES.split(","))
        found = query(
            embedded_database_url,
            f"SELECT DISTINCT {ASSIGNED} FROM {row['file'].partition('_')[0]} WHERE {points}",
        )
        expected = tuple(
            int(row[column]) if row[column] else None for column in ("pickup_zone", "dropoff_zone")
        )
        assert found == [expected], row


@needs_real_zones
def test_postgis_finds_the_same_zones(tlc_zip: Path, database: Database, database_url: str) -> None:
    with_postgis(database_url)
    for year in (2009, 2013, 2016):
        path = SHARED_DATA / "csv_heads" / f"yellow_tripdata_{year}-01.csv"
        loaded(path, database, chunk_size=1000, max_rejects="100%")
    assigned(database, tlc_zip)
    wrong = """SELECT count(*) FROM trips LEFT JOIN shapes ON public.st_contains(
            geometry, public.st_setsrid(public.st_point({0}_longitude, {0}_latitude), 4326))
        WHERE "LocationID" IS DISTINCT FROM assigned_{0}_zone"""
    assert [value(database_url, wrong.format(end)) for end in ("pickup", "dropoff")] == [0, 0]
    assert value(database_url, "SELECT count(assigned_pickup_zone) FROM trips") > 250


# Loads


@pytest.mark.parametrize("names", ["tlc", "snake"])
def test_loads_of_coordinates_get_zones_whenever_the_outlines_come(
    tmp_path: Path, database: Database, database_url: str, names: Any
) -> None:
    path = coordinates(tmp_path, (-73.5, 40.5, -72.5, 40.5), ("", "", -72.5, 50), (-72.1, 40.1, -73, 40))
    load_id = loaded(path, database, names=names).record.load_id
    columns = "load_id, dataset, month, rows_read, rows_loaded, rows_rejected, sha256, status"
    before = query(database_url, f"SELECT {columns} FROM taxi_ingest.loads")
    content = "SELECT to_jsonb(trips) - 'assigned_pickup_zone' - 'assigned_dropoff_zone' FROM trips"
    rows = query(database_url, content)
    [done] = assigned(database, two_zones(tmp_path))
    assert done == Assignment(load_id, "trips", "green", "2014-01", 3, 1, 1)
    assert zones_of(database_url) == [(1, 2), (None, None), (2, 1)]
    # In their order, as before.
    assert query(database_url, content) == rows
    assert query(database_url, f"SELECT {columns} FROM taxi_ingest.loads WHERE load_id = {load_id}") == before
    assert indexes(database_url) == [f"load_{load_id}_pickup"]
    assert loaded(path, database).status == "skipped"


def test_a_load_of_several_parts_gets_its_zones_in_all_of_them(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    points = [(-73.5 if number % 3 else -72.5, 40.5, -73.5, 50) for number in range(50)]
    progress = together(database_url, 2)
    loaded(coordinates(tmp_path, *points), database, connections=2, on_progress=progress)
    read: list[tuple[int, int]] = []
    loaded(two_zones(tmp_path), database, "shapes", chunk_size=1000)
    outlines = outlines_in(database, parse_target("shapes"))
    [load_id] = loads_to_assign(database, outlines)
    done = assign_zones(
        database, load_id, outlines, Zones(outlines.texts).at, lambda now, all, _: read.append((now, all))
    )
    assert done == Assignment(load_id, "trips", "green", "2014-01", 50, 0, 50)
    assert zones_of(database_url) == [(1 if number % 3 else 2, None) for number in range(50)]
    assert indexes(database_url) == ["load_1_pickup", "load_2_pickup"]
    assert len(read) == 2, "the parts"
    assert read[-1][0] == read[-1][1]
    assert loads_to_assign(database, outlines) == []


def indexes(url: str) -> list[str]:
    return [
        name
        for (name,) in query(url, "SELECT indexname FROM pg_indexes WHERE tablename ~ '^load_' ORDER BY 1")
    ]


def files_of(url: str) -> Rows:
    """The partitions, and the files that they lie in."""
    return query(url, "SELECT relname, relfilenode FROM pg_class WHERE relname ~ '^load_[0-9]+$' ORDER BY 1")


def test_nothing_is_assigned_twice_and_other_loads_are_left_alone(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    modern = csv_of(
        tmp_path,
        "VendorID,lpep_pickup_datetime,PULocationID,DOLocationID,total_amount",
        "1,2024-01-01 00:00:00,7,8,9",
        name="green_tripdata_2024-01.csv",
    )
    loaded(modern, embedded_database)
    [(name, file)] = files_of(embedded_database_url)
    loaded(coordinates(tmp_path, (-73.5, 40.5, 0, 0)), embedded_database)
    assert len(assigned(embedded_database, two_zones(tmp_path))) == 1
    after = files_of(embedded_database_url)
    assert (name, file) in after
    assert assigned(embedded_database) == []
    assert files_of(embedded_database_url) == after
    assert zones_of(embedded_database_url) == [(1, None), (None, None)]


def test_what_is_loaded_later_and_what_is_replaced_gets_its_zones_by_the_next_run(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(coordinates(tmp_path, (-73.5, 40.5, 0, 0)), embedded_database)
    assigned(embedded_database, two_zones(tmp_path))
    loaded(coordinates(tmp_path, (-72.5, 40.5, 0, 0), (-72.5, 40.5, 0, 0)), embedded_database)
    other = coordinates(tmp_path, (-72.5, 40.5, 0, 0), name="green_tripdata_2014-02.csv")
    load_id = loaded(other, embedded_database).record.load_id
    assert zones_of(embedded_database_url) == [(None, None)] * 3
    assert [done.rows for done in assigned(embedded_database)] == [2, 1]
    assert zones_of(embedded_database_url) == [(2, None)] * 3
    undo(embedded_database, load_id)
    assert zones_of(embedded_database_url) == [(2, None)] * 2


def test_other_outlines_find_other_zones(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(coordinates(tmp_path, (-73.5, 40.5, 0, 0)), embedded_database)
    assigned(embedded_database, two_zones(tmp_path))
    assert len(assigned(embedded_database, two_zones(tmp_path, first=40))) == 1
    assert zones_of(embedded_database_url) == [(40, None)]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), DataError("no", "no")])
def test_what_is_cut_short_leaves_nothing_half_and_can_go_on(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, failure: BaseException
) -> None:
    loaded(coordinates(tmp_path, (-73.5, 40.5, 0, 0)), embedded_database)
    loaded(two_zones(tmp_path), embedded_database, "shapes")
    outlines = outlines_in(embedded_database, parse_target("shapes"))
    [load_id] = loads_to_assign(embedded_database, outlines)
    before = files_of(embedded_database_url)

    def cut(*_: object) -> None:
        raise failure

    with pytest.raises(type(failure)):
        assign_zones(embedded_database, load_id, outlines, Zones(outlines.texts).at, cut)
    assert files_of(embedded_database_url) == before
    assert zones_of(embedded_database_url) == [(None, None)]
    assert [done.rows for done in assigned(embedded_database)] == [1]
    assert zones_of(embedded_database_url) == [(1, None)]


def test_the_table_can_be_read_and_loaded_into_meanwhile_and_is_not_changed(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(coordinates(tmp_path, (-73.5, 40.5, 0, 0)), embedded_database)
    other = coordinates(tmp_path, (-72.5, 40.5, 0, 0), name="green_tripdata_2014-02.csv")
    loaded(two_zones(tmp_path), embedded_database, "shapes")
    outlines = outlines_in(embedded_database, parse_target("shapes"))
    [load_id] = loads_to_assign(embedded_database, outlines)
    read: list[Rows] = []

    def meanwhile(*_: object) -> None:
        read.append(zones_of(embedded_database_url))
        loaded(other, embedded_database)
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            execute(embedded_database_url, "SET lock_timeout = '100ms'", "UPDATE trips SET total_amount = 9")

    assign_zones(embedded_database, load_id, outlines, Zones(outlines.texts).at, meanwhile)
    assert read == [[(None, None)]]
    assert zones_of(embedded_database_url) == [(1, None), (None, None)]


def test_a_load_that_someone_has_assigned_or_undone_meanwhile_is_passed_over(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(coordinates(tmp_path, (-73.5, 40.5, 0, 0)), embedded_database)
    loaded(two_zones(tmp_path), embedded_database, "shapes")
    outlines = outlines_in(embedded_database, parse_target("shapes"))
    [load_id] = loads_to_assign(embedded_database, outlines)
    assert len(assigned(embedded_database)) == 1
    late = assign_zones(embedded_database, load_id, outlines, Zones(outlines.texts).at)
    undo(embedded_database, load_id)
    gone = assign_zones(embedded_database, load_id, outlines, Zones(outlines.texts).at)
    assert (late, gone) == (None, None)


def test_users_own_tables_and_columns_are_never_altered(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(
        embedded_database_url,
        f"""CREATE TABLE own ("VendorID" int, lpep_pickup_datetime timestamp, total_amount float8,
        {COORDINATES.replace(",", " float8, ")} float8)""",
    )
    path = coordinates(tmp_path, (-73.5, 40.5, 0, 0))
    loaded(path, embedded_database, "own")
    assert assigned(embedded_database, two_zones(tmp_path)) == []
    loaded(path, embedded_database)
    execute(embedded_database_url, "ALTER TABLE trips ADD COLUMN assigned_dropoff_zone text DEFAULT 'mine'")
    with pytest.raises(DataError, match="of its own"):
        assigned(embedded_database)
    assert value(embedded_database_url, "SELECT assigned_dropoff_zone FROM trips") == "mine"


def test_a_table_of_a_thousand_pages_keeps_its_rows_and_its_order(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxi_ingest.load.assignment._PAGES_AT_A_TIME", 7)
    loaded(
        write_sample("yellow", "2010-01", tmp_path / "a.csv", rows=5000), embedded_database, chunk_size=1000
    )
    execute(embedded_database_url, "DELETE FROM trips WHERE total_amount > 20")
    content = "SELECT to_jsonb(trips) - 'assigned_pickup_zone' - 'assigned_dropoff_zone' FROM trips"
    rows = query(embedded_database_url, content)
    [done] = assigned(embedded_database, two_zones(tmp_path))
    assert (done.rows, query(embedded_database_url, content)) == (len(rows), rows)
    wrong = """SELECT count(*) FROM trips WHERE assigned_pickup_zone IS DISTINCT FROM
        CASE WHEN pickup_latitude BETWEEN 40 AND 41 THEN
            CASE WHEN pickup_longitude BETWEEN -74 AND -73 THEN 1
                 WHEN pickup_longitude BETWEEN -73 AND -72 THEN 2 END END"""
    assert value(embedded_database_url, wrong) == 0


# The map


@needs_real_zones
def test_the_question_of_the_ten_pairs_is_answered_and_drawn(
    embedded_database: Database, embedded_database_url: str
) -> None:
    files = {
        SHARED_DATA / "csv" / "yellow_tripdata_2021-01.csv": "yellow_tripdata",
        REAL / "taxi_zone_lookup.csv": "taxi_zones",
        REAL / "taxi_zones.geojson": "taxi_zones_shapes",
    }
    for path, table in files.items():
        loaded(path, embedded_database, table, chunk_size=10_000)
    make_views(embedded_database)
    [question] = re.findall(
        r"```sql\n(SELECT pickup_zone.*?)```", (ROOT / "docs" / "views.md").read_text(), re.S
    )
    first = query(embedded_database_url, question)
    assert (len(first), first[0]) == (10, ("Lenox Hill East", "Yorkville East", 21))
    drawn = subprocess.run(
        [*psql_command(embedded_database.address), "-XAtqf", ROOT / "docs" / "friday_map.sql"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert drawn.stderr == ""
    assert drawn.stdout.count("<li>") == 10
    assert drawn.stdout.count("<path transform") == 263
    assert "Lenox Hill East to Yorkville East: 21 trips" in drawn.stdout
