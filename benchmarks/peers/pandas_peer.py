"""pandas.to_sql in chunks of 100,000 rows, as tutorials have it."""

import sys

import pandas
import sqlalchemy

path, database, table = sys.argv[1:]
engine = sqlalchemy.create_engine(database.replace("postgresql:", "postgresql+psycopg2:"))
times = ["tpep_pickup_datetime", "tpep_dropoff_datetime"]
for chunk in pandas.read_csv(path, chunksize=100_000, parse_dates=times):
    chunk.to_sql(table, engine, if_exists="append", index=False)
