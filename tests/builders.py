"""The files that tests load: trips of TLC's, its zones, and anything else."""

import json
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TRIPS = "VendorID,lpep_pickup_datetime,total_amount\n1,2024-01-01 00:00:00,2.5\n2,2024-01-02 00:00:00,3.5\n"
"""Two green trips, as a CSV."""
HEADER = "VendorID,tpep_pickup_datetime,passenger_count,total_amount"
JANUARY = "yellow_tripdata_2024-01.csv"
ZONES = "LocationID,Borough,Zone,service_zone"

_numbers = count()


def row(
    amount: object = 2, passengers: object = 1, *, vendor: object = 1, pickup: str = "2024-01-15 12:00:00"
) -> str:
    """A yellow trip, as a line of CSV."""
    return f"{vendor},{pickup},{passengers},{amount}"


def trips(folder: Path, rows: list[str], name: str = JANUARY) -> Path:
    """A CSV of yellow trips."""
    return csv_of(folder, HEADER, *rows, name=name)


def months(folder: Path, numbers: range) -> list[Path]:
    """A CSV for each of these months of 2024, whose one trip cost as many dollars as its month's number."""
    return [trips(folder, [row(n)], f"yellow_tripdata_2024-{n:02}.csv") for n in numbers]


def elsewhere(folder: Path, rows: list[str], name: str = JANUARY) -> Path:
    """A CSV of yellow trips of the same name in another folder."""
    (folder / "mirror").mkdir(exist_ok=True)
    return trips(folder / "mirror", rows, name)


def parquet_trips(folder: Path, name: str, pickup: int, rows: int) -> Path:
    """A Parquet file of yellow trips, all begun at one second since 1970."""
    ones = pa.array([1] * rows)
    moments = pa.array([pickup * 1_000_000] * rows, pa.timestamp("us"))
    columns = dict(zip(HEADER.split(","), (ones, moments, ones, ones), strict=True))
    return parquet_of(folder, columns, name)


def plain_table(name: str) -> str:
    """The SQL of a user's own table that yellow trips go into."""
    return (
        f'CREATE TABLE {name} ("VendorID" int, tpep_pickup_datetime timestamp, passenger_count int, '
        "total_amount float)"
    )


def zones(folder: Path, *names: str, name: str = "zones.csv") -> Path:
    """A CSV of taxi zones of these names, numbered from 1."""
    return csv_of(folder, ZONES, *(f"{number},B,{zone},S" for number, zone in enumerate(names, 1)), name=name)


def any_rows(folder: Path, rows: int) -> Path:
    """A CSV that is none of TLC's, of as many rows, all alike."""
    return written(folder, "n,t\n" + "1,some text\n" * rows, "any.csv")


def csv_of(folder: Path, *lines: str, name: str | None = None) -> Path:
    """A CSV of these lines; of a new name, if none is given."""
    return written(folder, "\n".join(lines) + "\n", name or f"file_{next(_numbers)}.csv")


def parquet_of(folder: Path, columns: dict[str, pa.Array], name: str | None = None) -> Path:
    """A Parquet file of these columns; of a new name, if none is given."""
    path = folder / (name or f"file_{next(_numbers)}.parquet")
    pq.write_table(pa.table(columns), path)
    return path


def written(folder: Path, content: bytes | str, name: str = "file.csv") -> Path:
    """A file of this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def two_squares(folder: Path, name: str) -> Path:
    """A GeoJSON of zones 1 and 2."""
    features = [
        {
            "type": "Feature",
            "properties": {"LocationID": number, "zone": name, "borough": "B"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[-74, number], [-73, number], [-73, number + 1], [-74, number]]],
            },
        }
        for number in (1, 2)
    ]
    return written(folder, json.dumps({"type": "FeatureCollection", "features": features}), "zones.geojson")
