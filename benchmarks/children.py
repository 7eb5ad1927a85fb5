"""A parent flow that loads each file by a child flow, so many at a time, as a backfill does.

python children.py JOBS DATABASE TABLE FILE…
"""

import json
import os
import sys
import time

from prefect import flow, task
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from taxi_ingest import Settings, ingest, prefect_api


@task
def month(path: str, table: str) -> int:
    """One file; what is kept of it until the parent ends is a number."""
    return int(ingest(url=path, table=table).rows_loaded)


@flow
def parent(table: str, paths: list[str]) -> int:
    """All files; the rows that were loaded."""
    futures = month.map(paths, table=table)
    wait(futures)
    return sum(future.result() for future in futures)


def main(jobs: int, database: str, table: str, *paths: str) -> None:
    """Print how long a child took: of the whole parent its part, with so many side by side."""
    os.environ["TAXI_INGEST_DATABASE_URL"] = database
    with prefect_api(Settings()):
        began = time.perf_counter()
        parent.with_options(task_runner=ThreadPoolTaskRunner(max_workers=jobs))(table, list(paths))
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds / len(paths)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
