"""The load stage alone, from the opened file to the commit, in a process that has imported all it needs.

python load_stage.py DATABASE TABLE FILE…
"""

import json
import sys
import time
from pathlib import Path

from taxi_ingest.load import database_at, load_file, parse_target
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import local_file
from taxi_ingest.transform import open_stream


def main(database: str, table: str, *paths: str, connections: int | None = None) -> None:
    """Load each file, and print how long that took in all; over as many connections as pay unless told."""
    # What extract has done before: the sha256 is known.
    sources = [local_file(path) for path in paths]
    began = time.perf_counter()
    for source in sources:
        stream = open_stream(Path(source.path), source.name, 100_000)
        job = Job(source.url, table, connections=connections)
        load_file(stream, source, parse_target(table), database_at(database), job)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
