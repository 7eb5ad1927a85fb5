"""A database is a value: it can be sent to another process, and shows no secret."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import PASSWORD, query
from taxi_ingest import Settings, prefect_api
from taxi_ingest.flows.blocks import create_block, database_of_block
from taxi_ingest.job import Job
from taxi_ingest.load import Database, database_at, parse_target, undo
from taxi_ingest.sources import local_file
from taxi_ingest.transform import open_stream

LOAD = """
import pickle, sys
from taxi_ingest.load import load_file
print(load_file(*pickle.load(sys.stdin.buffer)).record.load_id)
"""


def of_block(url: str) -> Database:
    create_block("sent", url, overwrite=True)
    return database_of_block("sent")


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("way", [database_at, of_block])
def test_a_database_that_was_sent_to_another_process_is_loaded_into_from_there(
    trips: Path, database_url: str, way: Callable[[str], Database], settings: Settings
) -> None:
    with prefect_api(settings):
        sent = way(database_url)
    # A connection that it has made stays here.
    assert sent.server_version().startswith("PostgreSQL ")
    stream, file = open_stream(trips, trips.name, 10), local_file(str(trips))
    work = pickle.dumps((stream, file, parse_target("green"), sent, Job(file.url, "green")))
    assert PASSWORD not in repr(sent) + str(sent)
    done = subprocess.run([sys.executable, "-c", LOAD], input=work, capture_output=True, check=True)
    assert (done.stdout, query(database_url, "SELECT count(*) FROM green")) == (b"1\n", [(2,)])
    assert undo(sent, 1).rows_loaded == 2
