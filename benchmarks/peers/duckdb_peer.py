"""DuckDB with its postgres extension: CREATE TABLE AS from read_csv, or read_parquet of several files."""

import sys
from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner as extension

*paths, database, table = sys.argv[1:]
read = "read_parquet" if paths[0].endswith(".parquet") else "read_csv"
[file] = Path(extension.__file__).parent.glob("extensions/*/postgres_scanner.duckdb_extension")
connection = duckdb.connect()
connection.execute(f"LOAD '{file}'")
connection.execute(f"ATTACH '{database}' AS target (TYPE postgres)")
connection.execute(f"CREATE TABLE target.{table} AS FROM {read}({paths})")
