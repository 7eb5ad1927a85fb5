"""The same rows in four places: our partitions and views, a plain table, one with an index, DuckDB's file."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.place import Place
from taxi_ingest.load import database_at, load_file, parse_target
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import local_file
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.transform import open_stream
from taxi_ingest.views import make_views

PLAIN, INDEXED, ZONES = "plain_trips", "indexed_trips", "taxi_zones"

_ORDER = """
import sys
import numpy, pyarrow, pyarrow.csv, pyarrow.parquet
rows = pyarrow.csv.read_csv(sys.argv[1])
seconds = rows["tpep_pickup_datetime"].to_numpy().astype("M8[s]").astype(float)
late = numpy.random.default_rng(0).normal(0, 900, len(seconds))
rows = rows.take(pyarrow.array(numpy.argsort(seconds + late)))
pyarrow.parquet.write_table(rows, sys.argv[2], row_group_size=2**40)
pyarrow.csv.write_csv(rows, sys.argv[3])
"""


def ordered(csv: Path) -> Path:
    """A month's rows ordered by pickup, roughly, as TLC's are: a Parquet file, beside a CSV of that name."""
    folder = csv.parent.with_name(f"{csv.parent.name}-ordered")
    folder.mkdir(exist_ok=True)
    parquet, whole = folder / f"{csv.stem}.parquet", folder / csv.name
    if not whole.exists():
        part = folder / f"part-{csv.name}"
        subprocess.run([sys.executable, "-c", _ORDER, str(csv), str(parquet), str(part)], check=True)
        part.rename(whole)
    return parquet


def fill_ours(place: Place, paths: Sequence[Path]) -> None:
    """Load the months and the zones as `backfill` and `zones` do, and make the views."""
    place.begin(typed=False)
    database = database_at(place.database)
    zones = write_sample("zones", "", place.folder / "taxi_zone_lookup.csv")
    for path, table in [*((path, "yellow_tripdata") for path in paths), (zones, ZONES)]:
        source = local_file(str(path))
        stream = open_stream(path, source.name, 100_000)
        load_file(stream, source, parse_target(table), database, Job(source.url, table))
    make_views(database)


def fill_plain(place: Place, paths: Sequence[Path]) -> None:
    """Copy the same rows into plain tables with psql; one gets the index that one would give it."""
    for table in (PLAIN, INDEXED):
        place.sql(place.typed_table.replace("CREATE TABLE trips ", f"CREATE TABLE {table} "))
        for path in paths:
            csv = path.with_suffix(".csv")
            place.run(place.psql, place.database, "-qX", "-c", rf"\copy {table} from '{csv}' with csv header")
    place.sql(f"CREATE INDEX ON {INDEXED} (tpep_pickup_datetime)")
    place.sql(f"VACUUM ANALYZE {PLAIN}, {INDEXED}")


def fill_duckdb(place: Place, paths: Sequence[Path]) -> Path:
    """Make DuckDB's own file of the same rows."""
    file = place.folder / "queries.duckdb"
    file.unlink(missing_ok=True)
    with duckdb.connect(str(file)) as connection:
        connection.read_parquet([str(path) for path in paths]).create(PLAIN)
        connection.read_csv(str(place.folder / "taxi_zone_lookup.csv")).create(ZONES)
    return file
