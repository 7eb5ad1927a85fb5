"""The load stage into a lake, from the opened file to the whole object, in a process that has imported all.

python lake_stage.py FOLDER FILE…
"""

import json
import sys
import time
from pathlib import Path

from taxi_ingest.load import parse_target
from taxi_ingest.places import place_at
from taxi_ingest.settings.job import Job
from taxi_ingest.sources import local_file
from taxi_ingest.transform import open_stream


def main(folder: str, *paths: str) -> None:
    """Load each file, and print how long that took in all."""
    lake = place_at(folder)
    # What extract has done before: the sha256 is known.
    sources = [local_file(path) for path in paths]
    began = time.perf_counter()
    for source in sources:
        stream = open_stream(Path(source.path), source.name, 100_000)
        lake.load(stream, source, parse_target("trips"), Job(url=source.url, table="trips"))
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(*sys.argv[1:])
