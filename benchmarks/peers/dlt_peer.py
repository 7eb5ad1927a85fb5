"""dlt: Arrow batches through its postgres destination, by CSV files, the fastest way it has."""

import sys
import tempfile
from collections.abc import Iterator
from urllib.parse import quote

import dlt
import pyarrow
import pyarrow.csv
from psycopg2.extensions import parse_dsn

path, database, table = sys.argv[1:]


def batches() -> Iterator[pyarrow.Table]:
    """The file in parts."""
    for batch in pyarrow.csv.open_csv(path):
        yield pyarrow.Table.from_batches([batch])


parts = parse_dsn(database)
# dlt insists on a password, also where the server asks for none.
credentials = {
    "drivername": "postgresql",
    "username": parts["user"],
    "password": "none",
    "host": quote(parts["host"], safe=""),
    "port": int(parts["port"]),
    "database": parts["dbname"],
}
# Its state in a new folder: else it believes that its own tables are still there.
with tempfile.TemporaryDirectory() as folder:
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=folder,
        destination=dlt.destinations.postgres(credentials=credentials),
        dataset_name="public",
    )
    pipeline.run(batches(), table_name=table, write_disposition="append", loader_file_format="csv")
