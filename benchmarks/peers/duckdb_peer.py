"""DuckDB with its postgres extension: CREATE TABLE AS from read_csv."""

import sys
from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner as extension

path, database, table = sys.argv[1:]
[file] = Path(extension.__file__).parent.glob("extensions/*/postgres_scanner.duckdb_extension")
connection = duckdb.connect()
connection.execute(f"LOAD '{file}'")
connection.execute(f"ATTACH '{database}' AS target (TYPE postgres)")
connection.execute(f"CREATE TABLE target.{table} AS FROM read_csv('{path}')")
