"""`status` shows what has become of each month, whoever looks: a terminal, a pipe, a program."""

import json
import os
import pty
import re
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from builders import plain_table, row, trips
from helpers import PROGRAM, execute, free_port, loaded, query, run_cli, sessions, until
from http_server import Server
from taxi_ingest.errors import SourceError
from taxi_ingest.load import Database, Target, note_attempt
from taxi_ingest.sources import Cache, parse_source

SOURCE = "http://127.0.0.1/trip-data/yellow_tripdata_{}.parquet"
STATES = ["loaded", "short", "revised", "inconsistent", "failed", "missing", "unpublished"]


def month_file(folder: Path, month: str, amount: int = 1) -> Path:
    return trips(folder, [row(amount, pickup=f"{month}-15 12:00:00")], f"yellow_tripdata_{month}.csv")


def fail(database: Database, month: str, table: str = "yellow_tripdata", message: str = "is gone.") -> None:
    source = SOURCE.format(month)
    note_attempt(
        database,
        SourceError(f"{source} {message}", "Look for it."),
        target=Target("public", table),
        source=source,
        started_at=datetime(2024, 3, 1, tzinfo=UTC),
        dataset="yellow",
        month=month,
    )


@pytest.fixture
def months(tmp_path: Path, embedded_database: Database) -> Database:
    """A database with one month loaded, one short and one failed."""
    for month in ("2020-02", "2021-01"):
        loaded(month_file(tmp_path, month), embedded_database, "yellow_tripdata")
    execute(
        embedded_database.address, "UPDATE taxi_ingest.loads SET verdict = 'match' WHERE month = '2020-02'"
    )
    fail(embedded_database, "2020-03")
    return embedded_database


def shown(database: Database, *flags: str) -> str:
    done = run_cli("status", "--database-url", database.address, *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def told(database: Database, *flags: str) -> dict[str, Any]:
    return dict(json.loads(shown(database, "--json", *flags)))


def test_the_grid_has_years_down_months_across_and_a_sign_for_each_state(months: Database) -> None:
    lines = shown(months).splitlines()
    assert f"Months    in {months.address}" in lines
    assert "yellow: 2 rows in yellow_tripdata" in lines
    assert "      01 02 03 04 05 06 07 08 09 10 11 12" in lines
    assert not [line for line in lines if line.startswith("2019")]
    assert "2020   .  #  x  .  .  .  .  .  .  .  .  ." in lines
    assert "2021   ~  .  .  .  .  .  .  .  .  .  .  ." in lines
    assert f"nothing of 2009..2019, 2022..{date.today().year}" in lines
    assert any(
        re.fullmatch(r"# 1 loaded  ~ 1 short  x 1 failed  \. \d+ missing  - \d unpublished", line)
        for line in lines
    )


def test_a_dataset_that_begins_within_a_year_begins_in_its_column(months: Database) -> None:
    assert "2013                        .  .  .  .  ." in shown(months, "--dataset", "green").splitlines()


def test_what_failed_is_named_with_when_and_why_and_the_command_that_tries_again(months: Database) -> None:
    text = shown(months)
    assert re.search(r"^2020-03  \d{4}-\d\d-\d\d \d\d:\d\d  is gone\.$", text, re.MULTILINE)
    command = "taxi-ingest backfill yellow all --reprocess failed --database-url"
    assert f"Try again: {command} '{months.address}'" in text


def test_the_command_that_tries_again_names_another_table(
    tmp_path: Path, embedded_database: Database
) -> None:
    loaded(month_file(tmp_path, "2020-02"), embedded_database, "my trips")
    fail(embedded_database, "2020-03", "my trips")
    assert "--reprocess failed --table 'my trips'" in shown(embedded_database)


def test_many_failures_with_long_and_hostile_messages_are_one_short_line_each(months: Database) -> None:
    for number in range(1, 13):
        fail(months, f"2018-{number:02}", message="\x1b[31m is\n gone, " + "and gone " * 50)
    text = shown(months, "--dataset", "yellow")
    failures = re.findall(r"^\d{4}-\d\d  .*$", text, re.MULTILINE)
    assert len(failures) == 10
    assert all(len(line) == 80 and line.endswith(" ...") for line in failures)
    assert "\x1b" not in text
    assert "and 3 more: --json has them all" in text


def test_all_but_addresses_fits_80_columns_and_is_ascii(months: Database) -> None:
    for number in range(1, 13):
        fail(months, f"2018-{number:02}")
    lines = shown(months).splitlines()
    assert all(len(line) <= 80 for line in lines if "postgresql" not in line)
    assert all(line.isascii() for line in lines)


def test_a_terminal_shows_the_signs_in_colour_and_no_color_is_obeyed(months: Database) -> None:
    assert "\x1b[1;31mx" in at_a_terminal(months, {})
    plain = at_a_terminal(months, {"NO_COLOR": "1"})
    assert "2020   .  #  x  ." in re.sub(r"\x1b\[[0-9;]*m", "", plain)
    assert "\x1b[1;31mx" not in plain


def at_a_terminal(database: Database, env: dict[str, str]) -> str:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "status", "--database-url", database.address],
        stdout=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **env},
    )
    os.close(terminal)
    seen = b""
    try:
        while part := os.read(main, 65536):
            seen += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    assert process.wait(60) == 0
    return seen.decode()


def test_json_has_every_month_of_each_dataset_and_table(months: Database, embedded_url: str) -> None:
    found = told(months)
    assert (found["database"], found["ledger"], found["notes"]) == (embedded_url, months.address, [])
    [yellow] = found["datasets"]
    assert (yellow["dataset"], yellow["table"]) == ("yellow", "yellow_tripdata")
    assert list(yellow["counts"]) == [*STATES, "rows_loaded"]
    assert [yellow["counts"][name] for name in ("loaded", "short", "failed", "rows_loaded")] == [1, 1, 1, 2]
    by_month = {month["month"]: month for month in yellow["months"]}
    assert next(iter(by_month)) == "2009-01"
    assert len(by_month) == sum(yellow["counts"][state] for state in STATES)
    assert by_month["2021-01"] == {
        "month": "2021-01",
        "state": "short",
        "rows_loaded": 1,
        "known_rows": 1_369_769,
        "load_id": 2,
        "failed_at": None,
        "error": None,
        "disagreements": [],
    }
    failed = by_month["2020-03"]
    assert (failed["state"], failed["load_id"]) == ("failed", None)
    assert failed["error"] == f"{SOURCE.format('2020-03')} is gone."
    assert datetime.fromisoformat(failed["failed_at"]).tzinfo


def test_the_grids_are_of_the_datasets_and_the_table_that_are_named(tmp_path: Path, months: Database) -> None:
    loaded(month_file(tmp_path, "2024-01"), months, "other")

    def tables(*flags: str) -> list[tuple[str, str]]:
        return [(each["dataset"], each["table"]) for each in told(months, *flags)["datasets"]]

    assert tables() == [("yellow", "yellow_tripdata"), ("yellow", "other")]
    assert tables("--table", "other") == [("yellow", "other")]
    assert tables("--dataset", "fhv") == [("fhv", "fhv_tripdata")]
    assert tables("--dataset", "fhv", "--dataset", "yellow", "--table", "x") == [
        ("fhv", "x"),
        ("yellow", "x"),
    ]
    assert tables("--table", "x") == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--dataset", "yelow"), "Did you mean yellow?"),
        (("--dataset", "zones"), "taxi-ingest zones"),
        (("--table", ""), "no table name"),
    ],
)
def test_a_dataset_or_table_that_is_none_is_refused(
    embedded_database: Database, flags: tuple[str, str], said: str
) -> None:
    done = run_cli("status", "--json", "--database-url", embedded_database.address, *flags)
    result = json.loads(done.stdout)
    assert (done.returncode, result["status"]) == (2, "failed")
    assert said in result["error"] + result["hint"]


def test_only_when_asked_the_sources_are_asked_which_files_were_revised(
    tmp_path: Path, embedded_database: Database, server: Server
) -> None:
    path = month_file(tmp_path, "2024-01")
    source = parse_source(server.url(path.name)).fetch(tmp_path, Cache(tmp_path / "cache", 1_000_000))
    assert source
    loaded(source, embedded_database)
    month_file(tmp_path, "2024-01", amount=7)
    before = len(server.requests)
    assert "2024   #  ." in shown(embedded_database)
    assert len(server.requests) == before
    assert "2024   *  ." in shown(embedded_database, "--revised")
    assert len(server.requests) == before + 1


def test_without_a_ledger_it_says_what_to_do(embedded_database: Database) -> None:
    assert "none was loaded yet: `taxi-ingest backfill" in shown(embedded_database)
    found = told(embedded_database)
    assert (found["ledger"], found["datasets"]) == (embedded_database.address, [])
    tables = query(embedded_database.address, "SELECT to_regnamespace('taxi_ingest') IS NULL")
    assert tables == [(True,)]


def test_a_stopped_stack_stays_so_and_its_months_are_said_not_to_be_seen(
    tmp_path: Path,
) -> None:
    own = {"TAXI_INGEST_HOME": str(tmp_path / "home"), "TAXI_INGEST_PREFECT_PORT": str(free_port())}
    for flags in ((), ("--block", "any"), ("--dataset", "yellow")):
        done = run_cli("status", *flags, env=own)
        assert (done.returncode, done.stderr) == (0, "")
        assert "can't be looked at while the local stack is stopped: `taxi-ingest up`" in done.stdout
    found = json.loads(run_cli("status", "--json", env=own).stdout)
    assert (found["ledger"], found["datasets"]) == (None, [])
    assert (found["database_running"], found["prefect_running"]) == (False, False)
    assert "`taxi-ingest up`" in found["notes"][0]
    assert not (tmp_path / "home").exists()


def test_a_database_that_is_named_and_does_not_answer_is_an_error_beside_what_runs(
    embedded_url: str,
) -> None:
    url = f"postgresql://me@127.0.0.1:{free_port()}/d"
    done = run_cli("status", "--json", env={"TAXI_INGEST_DATABASE_URL": url})
    result = json.loads(done.stdout)
    assert (done.returncode, result["status"], result["database"]) == (5, "failed", embedded_url)
    assert "Postgres  running" in run_cli("status", "--database-url", url).stdout


def test_it_is_the_database_that_ingest_would_load_into(
    prefect_server: str, months: Database, embedded_url: str
) -> None:
    del prefect_server
    assert json.loads(run_cli("status", "--json").stdout)["ledger"] == embedded_url
    made = run_cli("blocks", "create", "--name", "status", "--database-url", months.address, "--overwrite")
    assert made.returncode == 0, made.stderr
    found = json.loads(run_cli("status", "--json", "--block", "status").stdout)
    assert [each["table"] for each in found["datasets"]] == ["yellow_tripdata"]
    assert run_cli("status", "--block", "absent").returncode == 2


MANY = """
INSERT INTO taxi_ingest.loads (table_schema, table_name, source, status, sha256, bytes, dataset, month,
    rows_read, rows_loaded, rows_rejected, verdict, names, started_at, finished_at, tool_version,
    is_partition, quality)
SELECT 'public', (ARRAY['own', 'yellow_tripdata', 'gone_' || n % 97])[1 + n % 3], 'http://x/' || n,
    CASE n % 3 WHEN 1 THEN 'replaced' ELSE 'loaded' END, md5(n::text), 10, 'yellow', {month}, 1, 1, 0,
    'unknown', 'tlc', now(), now(), '0.1.0', n % 3 = 1, '{{}}'
FROM generate_series(1, {rows}) AS n
"""

MANY_TRIES = """
INSERT INTO taxi_ingest.attempts (table_schema, table_name, source, dataset, month, started_at, failed_at,
    exit_code, message, tool_version)
SELECT 'public', (ARRAY['own', 'yellow_tripdata', 'typo'])[1 + n % 3], 'http://x/' || n, 'yellow', {month},
    now() - interval '1 day', now() - interval '1 day', 3, 'It is gone.', '0.1.0'
FROM generate_series(1, {rows}) AS n
"""

MONTH = "(2019 + n % 5) || '-' || lpad((1 + n % 12)::text, 2, '0')"


@pytest.mark.parametrize("rows", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_of_a_large_ledger_only_a_few_rows_are_read(months: Database, rows: int) -> None:
    url = months.address
    execute(
        url,
        plain_table("own"),
        MANY.format(month=MONTH, rows=rows),
        MANY_TRIES.format(month=MONTH, rows=rows),
        "ANALYZE taxi_ingest.loads, taxi_ingest.attempts",
        "SELECT pg_stat_reset()",
    )
    until(lambda: sessions(url, "true") == 0)
    found = told(months)
    assert [each["table"] for each in found["datasets"]] == ["yellow_tripdata", "own"]
    assert [each["counts"]["loaded"] for each in found["datasets"]] == [1, 20]
    until(lambda: sessions(url, "true") == 0)
    [(scanned, fetched)] = query(
        url,
        "SELECT sum(seq_tup_read), sum(idx_tup_fetch) FROM pg_stat_user_tables"
        " WHERE relname IN ('loads', 'attempts')",
    )
    assert (scanned, fetched < 2_000) == (0, True)
