"""A try that failed leaves its trace in the ledger, and nothing else anywhere."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest

from builders import row, trips
from helpers import execute, loaded, query
from taxi_ingest.errors import DatabaseError, DataError, SourceError, TaxiIngestError, UsageError
from taxi_ingest.load import Database, Target, database_at, note_attempt
from taxi_ingest.load.ledger import ATTEMPTS_SINCE
from taxi_ingest.load.migrations import LATEST

SOURCE = "http://127.0.0.1/yellow_tripdata_2024-02.csv"
BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
RUN = "http://127.0.0.1:4200/runs/flow-run/1"


def note(database: Database, error: TaxiIngestError) -> None:
    note_attempt(
        database,
        error,
        target=Target("public", "trips"),
        source=SOURCE,
        started_at=BEGAN,
        dataset="yellow",
        month="2024-02",
        flow_run_url=RUN,
    )


@pytest.fixture
def noted(tmp_path: Path, embedded_database: Database) -> Database:
    """A database with a ledger, and one load."""
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    return embedded_database


@pytest.mark.parametrize("kind", [SourceError, DataError, DatabaseError])
def test_a_try_that_failed_is_written_down_with_what_it_was(
    noted: Database, embedded_database_url: str, kind: type[TaxiIngestError]
) -> None:
    note(noted, kind("It is gone.", "Look for it."))
    assert query(
        embedded_database_url,
        "SELECT table_schema, table_name, source, dataset, month, started_at = '2024-03-01 00:00+00',"
        " failed_at > started_at, exit_code, message, flow_run_url FROM taxi_ingest.attempts",
    ) == [
        ("public", "trips", SOURCE, "yellow", "2024-02", True, True, kind.exit_code, "It is gone.", RUN),
    ]


def test_each_try_is_one_row_and_a_load_none(
    noted: Database, embedded_database_url: str, tmp_path: Path
) -> None:
    for _ in range(2):
        note(noted, SourceError("It is gone.", "Look for it."))
    loaded(trips(tmp_path, [row(2)], "yellow_tripdata_2024-02.csv"), noted)
    assert query(embedded_database_url, "SELECT count(*) FROM taxi_ingest.attempts") == [(2,)]


def test_a_slip_of_the_command_line_is_no_try(noted: Database, embedded_database_url: str) -> None:
    note(noted, UsageError("No such flag.", "Leave it out."))
    assert query(embedded_database_url, "SELECT count(*) FROM taxi_ingest.attempts") == [(0,)]


def test_a_long_message_is_cut(noted: Database, embedded_database_url: str) -> None:
    note(noted, DataError("é" * 100_000, "Look."))
    [(length,)] = query(embedded_database_url, "SELECT length(message) FROM taxi_ingest.attempts")
    assert length == 1000


def test_a_failure_makes_no_ledger(embedded_database: Database, embedded_database_url: str) -> None:
    note(embedded_database, SourceError("It is gone.", "Look for it."))
    assert query(embedded_database_url, "SELECT to_regnamespace('taxi_ingest') IS NULL") == [(True,)]


@pytest.mark.parametrize("number", range(1, LATEST))
def test_a_failure_leaves_an_older_ledger_as_it_is_and_the_next_load_brings_it_up_to_date(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, number: int
) -> None:
    for older in range(1, number + 1):
        execute(
            embedded_database_url, files("taxi_ingest.load.migrations").joinpath(f"{older}.sql").read_text()
        )
    tables = (
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'taxi_ingest'::regnamespace AND relkind = 'r'"
    )
    before = query(embedded_database_url, tables)
    note(embedded_database, SourceError("It is gone.", "Look for it."))
    assert query(embedded_database_url, tables) == before
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    note(embedded_database, SourceError("It is gone.", "Look for it."))
    kept = 2 if number >= ATTEMPTS_SINCE else 1
    assert query(embedded_database_url, "SELECT exit_code FROM taxi_ingest.attempts") == [(3,)] * kept


def test_what_cannot_be_written_down_hides_no_error(noted: Database, embedded_database_url: str) -> None:
    execute(embedded_database_url, "ALTER TABLE taxi_ingest.attempts DROP COLUMN message")
    note(noted, SourceError("It is gone.", "Look for it."))
    note(database_at("postgresql://me@127.0.0.1:1/db"), SourceError("It is gone.", "Look for it."))
    assert query(embedded_database_url, "SELECT count(*) FROM taxi_ingest.attempts") == [(0,)]
