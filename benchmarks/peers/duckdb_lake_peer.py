"""DuckDB's COPY TO of rows in the order of their pickups, as Parquet with zstd; timed once it is imported."""

import json
import sys
import time
from pathlib import Path

import duckdb

path, folder = sys.argv[1:]
target = Path(folder, "trips", "month=2021-01")
target.mkdir(parents=True)
connection = duckdb.connect()
began = time.perf_counter()
connection.execute(
    f"COPY (FROM '{path}' ORDER BY tpep_pickup_datetime) TO '{target}/trips.parquet' "
    "(FORMAT parquet, COMPRESSION zstd)"
)
print(json.dumps({"seconds": time.perf_counter() - began}))
