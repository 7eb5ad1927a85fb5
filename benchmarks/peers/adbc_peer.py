"""ADBC: Arrow's CSV reader into a bulk ingest."""

import sys

import adbc_driver_postgresql.dbapi
import pyarrow.csv

path, database, table = sys.argv[1:]
with adbc_driver_postgresql.dbapi.connect(database) as connection, connection.cursor() as cursor:
    cursor.adbc_ingest(table, pyarrow.csv.open_csv(path), mode="create")
    connection.commit()
