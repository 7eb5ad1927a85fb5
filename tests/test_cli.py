"""The command line keeps its contract: flags, exit codes, one JSON object, stdout and stderr."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from builders import TRIPS, any_rows
from helpers import (
    COPYING,
    PASSWORD,
    Cli,
    execute,
    on_terminal,
    query,
    run_cli,
    run_python,
    sessions,
    start_cli,
    until_session,
)
from http_server import Server
from taxi_ingest.settings.environment import Settings
from taxi_ingest.tlc.sample import write_sample

KEYS = {
    *(
        "status",
        "table",
        "url",
        "dataset",
        "month",
        "rows_read",
        "rows_loaded",
        "rows_rejected",
        "known_rows",
    ),
    *("verdict", "load_id", "sha256", "bytes", "seconds", "rows_per_second", "flow_run_url"),
}


@pytest.fixture
def db(embedded_database_url: str) -> dict[str, str]:
    """The environment that names a new database."""
    return {"TAXI_INGEST_DATABASE_URL": embedded_database_url}


def test_json_is_one_object_and_nothing_else(cli: Cli, trips: Path, db: dict[str, str]) -> None:
    done = cli("ingest", "--url", trips, "--table", "green", "--json", env=db)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert result.keys() >= KEYS
    assert (result["status"], result["rows_read"], result["rows_loaded"]) == ("loaded", 2, 2)
    assert (result["dataset"], result["month"]) == ("green", "2024-01")
    assert "Loading into table green" in done.stderr


def test_the_same_file_again_is_skipped_and_still_seen_in_prefect(
    cli: Cli, trips: Path, db: dict[str, str]
) -> None:
    first, second = (
        json.loads(cli("ingest", "--url", trips, "--table", "green", "--json", env=db).stdout)
        for _ in range(2)
    )
    assert (second["status"], second["load_id"]) == ("skipped", first["load_id"])
    assert second["flow_run_url"] != first["flow_run_url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v2/runs/flow-run/[0-9a-f-]{36}", second["flow_run_url"])


def test_a_summary_is_shown_that_names_the_next_command(cli: Cli, trips: Path, db: dict[str, str]) -> None:
    done = cli("ingest", "--url", trips, "--table", "green", env=db)
    assert "2 read = 2 loaded + 0 rejected" in done.stdout
    psql = next(line for line in done.stdout.splitlines() if line.startswith("open it"))
    opened = subprocess.run(psql.removeprefix("open it"), shell=True, capture_output=True, text=True)
    assert "(2 rows)" in opened.stdout, opened.stderr


def test_quiet_prints_nothing_on_success(cli: Cli, trips: Path, db: dict[str, str]) -> None:
    done = cli("ingest", "--url", trips, "--table", "green", "--quiet", env=db)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_url_is_loaded_and_asked_only_once_more(
    cli: Cli, trips: Path, server: Server, db: dict[str, str]
) -> None:
    for status in ("loaded", "skipped"):
        done = cli("ingest", "--url", server.url(trips.name), "--table", "green", "--json", env=db)
        assert json.loads(done.stdout)["status"] == status
    assert [request.status for request in server.requests] == [200, 304]


def test_chunk_size_and_transform_are_passed_on(
    cli: Cli, trips: Path, tmp_path: Path, db: dict[str, str]
) -> None:
    (tmp_path / "my_steps.py").write_text(
        "def first(trips):\n    return trips.head(1).assign(rows=len(trips))\n"
    )
    arguments = ("--table", "green", "--chunk-size", 1, "--transform", "my_steps:first", "--json")
    done = cli("ingest", "--url", trips, *arguments, env=db, cwd=tmp_path)
    assert json.loads(done.stdout)["rows_loaded"] == 2, done.stderr
    assert query(db["TAXI_INGEST_DATABASE_URL"], "SELECT DISTINCT rows FROM green") == [(1,)]


def test_dataset_and_month_do_the_same_as_the_url(cli: Cli, tmp_path: Path, db: dict[str, str]) -> None:
    write_sample("green", "2024-01", tmp_path / "green_tripdata_2024-01.parquet", rows=50)
    env = {**db, "TAXI_INGEST_TLC_URL": str(tmp_path)}
    month = ("ingest", "--dataset", "green", "--month", "2024-01", "--json")
    refused = cli(*month, "--verify", env=env)
    assert (refused.returncode, "--verify" in json.loads(refused.stdout)["hint"]) == (4, True)
    by_month = cli(*month, env=env)
    first = json.loads(by_month.stdout)
    assert (first["status"], first["table"], first["rows_loaded"]) == ("loaded", "green_tripdata", 50)
    assert (first["verdict"], first["notes"][-1] in by_month.stderr) == ("short", True)
    by_url = cli(
        "ingest", "--url", tmp_path / "green_tripdata_2024-01.parquet", "--table", "green_tripdata", env=db
    )
    assert by_url.stdout.startswith("Skipped")


def test_a_mirror_may_have_csv(cli: Cli, tmp_path: Path, server: Server, db: dict[str, str]) -> None:
    write_sample("green", "2014-02", tmp_path / "green_tripdata_2014-02.csv.gz", rows=50)
    env = {**db, "TAXI_INGEST_TLC_URL": server.url("")}
    done = cli("ingest", "--dataset", "green", "--month", "2014-02", "--names", "snake", "--quiet", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert query(db["TAXI_INGEST_DATABASE_URL"], "SELECT count(vendor_id) > 0 FROM green_tripdata") == [
        (True,)
    ]
    other = cli("ingest", "--dataset", "green", "--month", "2014-03", "--names", "tlc", env=env)
    assert (other.returncode, "answers 404" in other.stderr) == (3, True)


def test_zones_loads_the_lookup(cli: Cli, tmp_path: Path, db: dict[str, str]) -> None:
    write_sample("zones", "", tmp_path / "taxi_zone_lookup.csv")
    done = cli("zones", "--json", env={**db, "TAXI_INGEST_TLC_URL": str(tmp_path)})
    assert (json.loads(done.stdout)["rows_loaded"], json.loads(done.stdout)["table"]) == (265, "taxi_zones")
    last = query(db["TAXI_INGEST_DATABASE_URL"], 'SELECT "Borough" FROM taxi_zones WHERE "LocationID" = 265')
    assert last == [("N/A",)]


def test_a_dry_run_is_planned_and_writes_nothing(cli: Cli, trips: Path, db: dict[str, str]) -> None:
    done = cli("ingest", "--url", trips, "--table", "green", "--dry-run", "--json", env=db)
    result = json.loads(done.stdout)
    assert (result["status"], result["plan"]["action"], result["load_id"]) == ("planned", "load", None)
    assert query(db["TAXI_INGEST_DATABASE_URL"], "SELECT to_regnamespace('taxi_ingest') IS NULL") == [(True,)]
    shown = cli("ingest", "--url", trips, "--table", "green", "--dry-run", env=db).stdout
    assert 'CREATE TABLE "public"."green"' in shown


BAD_INPUT = [
    (["--dataset", "green", "--table", "green"], 2, "Which file?"),
    (["--url", "x", "--dataset", "green", "--month", "2024-01"], 2, "Which file?"),
    (["--dataset", "green", "--month", "2001-01"], 2, "TLC has no green trips of 2001-01"),
    (["--url", "nothing.csv"], 3, "There is no file"),
    (["--url", "http://127.0.0.1:9/x.csv"], 3, "can't be reached"),
    (["--url", "http://no-such-host.invalid/x.csv"], 3, "can't be reached"),
    (["--url", "ftp://host/x.csv"], 2, "can't be ftp"),
    (["--url", "{trips}", "--chunk-size", "0"], 2, "--chunk-size is wrong: 0 is less than 1"),
    (["--url", "{trips}", "--block", "no-such-block"], 2, "There is no block no-such-block."),
    (["--url", "{trips}", "--max-rejects", "many"], 2, "neither a number nor a share"),
    (["--url", "{trips}", "--transform", "nothing"], 2, "names no function"),
    (["--url", "{trips}", "--if-loaded", "maybe"], 2, "maybe"),
    (["--url", "{trips}", "--table", "nowhere.green"], 5, "There is no schema nowhere."),
    (["--url", "nothing.csv", "--table", "nowhere.green"], 5, "There is no schema nowhere."),
    (["--url", "{trips}", "--database-url", "postgresql://me@127.0.0.1:1/x"], 5, "Connection refused"),
]


@pytest.mark.parametrize(("arguments", "exit_code", "message"), BAD_INPUT)
def test_bad_input_gets_its_exit_code_one_sentence_and_a_hint(
    cli: Cli, trips: Path, db: dict[str, str], arguments: list[str], exit_code: int, message: str
) -> None:
    filled = [argument.format(trips=trips) for argument in arguments]
    table = [] if "--table" in filled else ["--table", "green"]
    done = cli("ingest", *filled, *table, "--json", env=db)
    assert done.returncode == exit_code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if exit_code > 2:
        result = json.loads(done.stdout)
        assert result["status"] == "failed"
        assert message in result["error"]
        assert result["hint"]
    assert query(db["TAXI_INGEST_DATABASE_URL"], "SELECT to_regclass('green') IS NULL") == [(True,)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS"),
    ],
)
def test_what_is_no_data_exits_3(
    cli: Cli, tmp_path: Path, server: Server, db: dict[str, str], content: bytes, message: str
) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    done = cli("ingest", "--url", server.url("x.csv"), "--table", "x", env=db)
    assert (done.returncode, message in done.stderr) == (3, True)


def test_a_connection_cut_for_good_exits_3(cli: Cli, trips: Path, server: Server, db: dict[str, str]) -> None:
    server.fault(trips.name, cut_after_bytes=0)
    done = cli("ingest", "--url", server.url(trips.name), "--table", "green", env=db)
    assert (done.returncode, "broke off" in done.stderr) == (3, True)
    assert query(db["TAXI_INGEST_DATABASE_URL"], "SELECT to_regclass('green') IS NULL") == [(True,)]


def test_if_loaded_fail_exits_4(cli: Cli, trips: Path, db: dict[str, str]) -> None:
    cli("ingest", "--url", trips, "--table", "green", env=db)
    done = cli("ingest", "--url", trips, "--table", "green", "--if-loaded", "fail", env=db)
    assert (done.returncode, "already in green" in done.stderr) == (4, True)


def test_too_many_rejects_exit_4_and_show_the_first(cli: Cli, tmp_path: Path, db: dict[str, str]) -> None:
    path = tmp_path / "green_tripdata_2024-01.csv"
    path.write_text(TRIPS.replace("2024-01-02 00:00:00", "32/01/2024 0:00"))
    done = cli("ingest", "--url", path, "--table", "green", env=db)
    assert done.returncode == 4
    assert "3: lpep_pickup_datetime: '32/01/2024 0:00' is no timestamp" in done.stderr


def test_a_wrong_password_and_a_missing_database_exit_5(cli: Cli, trips: Path, system_url: str) -> None:
    for url, message in (
        (system_url.replace(PASSWORD, "wrong-pass-123"), "password authentication failed"),
        (system_url.removesuffix("postgres") + "nowhere", 'database "nowhere" does not exist'),
    ):
        done = cli("ingest", "--url", trips, "--table", "green", env={"TAXI_INGEST_DATABASE_URL": url})
        assert (done.returncode, message in done.stderr) == (5, True), done.stderr
        assert "wrong-pass-123" not in done.stderr + done.stdout


def test_a_full_disk_exits_5_and_changes_nothing(
    cli: Cli, tmp_path: Path, system_url: str, system_full_tablespace: str
) -> None:
    path = tmp_path / "any.csv"
    path.write_text("n,t\n" + "1,some text that fills a disk\n" * 400_000)
    execute(system_url, "DROP DATABASE IF EXISTS full_disk")
    execute(system_url, f"CREATE DATABASE full_disk TABLESPACE {system_full_tablespace}")
    url = system_url.removesuffix("postgres") + "full_disk"
    done = cli("ingest", "--url", path, "--table", "any_table", env={"TAXI_INGEST_DATABASE_URL": url})
    assert done.returncode == 5, done.stderr
    assert "No space left on device" in done.stderr
    assert "Free disk space" in done.stderr
    assert query(url, "SELECT to_regclass('any_table') IS NULL") == [(True,)]
    execute(system_url, "DROP DATABASE full_disk")


def test_an_unreachable_prefect_api_exits_6(trips: Path, db: dict[str, str]) -> None:
    env = {**db, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = run_cli("ingest", "--url", trips, "--table", "green", env=env)
    assert (done.returncode, "can't be reached" in done.stderr) == (6, True), done.stderr


def test_a_port_that_another_program_has_exits_6(
    trips: Path, db: dict[str, str], server: Server, tmp_path: Path
) -> None:
    env = {**db, "TAXI_INGEST_PREFECT_PORT": str(server.port), "TAXI_INGEST_HOME": str(tmp_path / "home")}
    done = run_cli("ingest", "--url", trips, "--table", "green", env=env)
    assert (done.returncode, "TAXI_INGEST_PREFECT_PORT" in done.stderr) == (6, True), done.stderr


def test_a_setting_that_is_wrong_exits_2() -> None:
    done = run_cli("status", env={"TAXI_INGEST_PREFECT_PORT": "many"})
    assert (done.returncode, "TAXI_INGEST_PREFECT_PORT is wrong" in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_secrets_are_left_nowhere(cli: Cli, trips: Path, system_url: str, settings: Settings) -> None:
    password = "planted-pw-90210"
    execute(system_url, "DROP DATABASE IF EXISTS secrets_test")
    execute(
        system_url, f"DROP ROLE IF EXISTS keeper; CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '{password}'"
    )
    execute(system_url, "CREATE DATABASE secrets_test")
    url = re.sub(r"//.*@", f"//keeper:{password}@", system_url).removesuffix("postgres") + "secrets_test"
    printed = ""
    for arguments, env in (
        (("ingest", "--url", trips, "--table", "green"), {"TAXI_INGEST_DATABASE_URL": url}),
        (("ingest", "--url", trips, "--table", "green", "--database-url", url, "--json"), {}),
        (("ingest", "--url", f"http://me:{password}@127.0.0.1:9/x.csv", "--table", "green", "--json"), {}),
        (("blocks", "create", "--name", "keeper", "--database-url", url), {}),
        (("ingest", "--url", trips, "--table", "other", "--block", "keeper", "--json"), {}),
        (("ingest", "--url", trips, "--table", "bad.name", "--block", "keeper"), {}),
        (("blocks", "ls"), {}),
        (("blocks", "check", "keeper"), {}),
    ):
        done = cli(*arguments, env=env)
        printed += done.stdout + done.stderr
    assert "green" in printed
    assert password not in printed
    left = [
        path for path in settings.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()
    ]
    assert left == []
    ledger = query(url, "SELECT loads::text FROM taxi_ingest.loads AS loads")
    assert password not in str(ledger)


@pytest.mark.slow
def test_blocks_are_created_listed_checked_and_loaded_through(cli: Cli, trips: Path, system_url: str) -> None:
    parts = re.match(r"postgresql://(\w+):.*@([\d.]+):(\d+)/(\w+)", system_url)
    assert parts
    user, host, port, database = parts.groups()
    where = ("--host", host, "--port", port, "--user", user, "--database", database)
    made = cli("blocks", "create", "--name", "system", *where, "--password-stdin", input=f"{PASSWORD}\n")
    assert made.returncode == 0, made.stderr
    again = cli("blocks", "create", "--name", "system", *where, env={"PGPASSWORD": PASSWORD})
    assert (again.returncode, "already" in again.stderr) == (2, True)
    over = cli("blocks", "create", "--name", "system", *where, "--overwrite", env={"PGPASSWORD": PASSWORD})
    assert over.returncode == 0, over.stderr
    listed = json.loads(cli("blocks", "ls", "--json").stdout)["blocks"]
    address = f"postgresql://{user}@{host}:{port}/{database}"
    assert {"name": "system", "type": "sqlalchemy-connector", "address": address} in listed
    checked = cli("blocks", "check", "system")
    assert (checked.returncode, "answers, PostgreSQL" in checked.stdout) == (0, True), checked.stderr
    done = cli("ingest", "--block", "system", "--url", trips, "--table", "through_block", "--json")
    assert json.loads(done.stdout)["status"] == "loaded", done.stderr
    assert query(system_url, "SELECT count(*) FROM through_block") == [(2,)]
    assert cli("blocks", "rm", "system").stdout == "Removed block system\n"
    assert cli("blocks", "rm", "system").returncode == 2


def test_a_block_that_does_not_connect_is_not_saved(cli: Cli) -> None:
    done = cli("blocks", "create", "--name", "wrong", "--host", "127.0.0.1", "--port", 1, "--user", "u")
    assert (done.returncode, "Connection refused" in done.stderr) == (5, True)
    assert "wrong" not in cli("blocks", "ls").stdout
    assert cli("blocks", "check", "wrong").returncode == 2
    assert cli("blocks", "create", "--name", "Not_Allowed", "--embedded").returncode == 2


def test_status_names_both_servers_in_json(cli: Cli, settings: Settings, embedded_url: str) -> None:
    status = json.loads(cli("status", "--json").stdout)
    assert status["database"] == embedded_url
    assert (status["database_running"], status["prefect_running"]) == (True, True)
    assert status["prefect"] == f"http://127.0.0.1:{settings.prefect_port}/api"


def test_ui_prints_the_dashboards_address(cli: Cli, settings: Settings) -> None:
    done = cli("ui", "--no-browser")
    assert done.stdout == f"http://127.0.0.1:{settings.prefect_port}/v2\n"


def test_python_runs_the_package_as_the_same_program() -> None:
    run = "import runpy; runpy.run_module('taxi_ingest', run_name='__main__')"
    assert run_python(run, "--version").stdout == run_cli("--version").stdout


def test_help_and_version_need_no_heavy_import() -> None:
    code = (
        "import sys; from taxi_ingest.cli import app; app(['--help'], standalone_mode=False);"
        "print(sorted(sys.modules))"
    )
    imported = run_python(code).stdout.rpartition("[")[2]
    for heavy in ("'prefect'", "'pandas'", "'pyarrow'", "'psycopg2'", "'pydantic'", "'httpx'"):
        assert heavy not in imported
    assert re.fullmatch(r"taxi-ingest \d+\.\d+\.\d+\n", run_cli("--version").stdout)


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_nothing_half_loaded(
    signal_number: signal.Signals, cli: Cli, tmp_path: Path, db: dict[str, str]
) -> None:
    del cli
    path, url = any_rows(tmp_path, 3_000_000), db["TAXI_INGEST_DATABASE_URL"]
    process = start_cli("ingest", "--url", path, "--table", "big", "--chunk-size", 1000, env=db)
    until_session(url, COPYING)
    process.send_signal(signal_number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Interrupted" in stderr) == (130, True), stderr[-2000:]
    assert sessions(url, COPYING) == 0
    assert query(url, "SELECT to_regclass('big') IS NULL") == [(True,)]


def test_a_terminal_gets_a_live_bar_that_log_lines_do_not_break(
    cli: Cli, trips: Path, db: dict[str, str]
) -> None:
    del cli
    arguments = ("ingest", "--url", trips, "--table", "green")
    exit_code, shown, _ = on_terminal(*arguments, "--verbose", columns=80, env=db)
    assert (exit_code, "2 rows" in shown, "━" in shown) == (0, True, True)
    log_lines = [line for line in re.split(r"[\r\n]+", shown) if "Finished in state" in line]
    assert log_lines
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in log_lines)
    _, again, _ = on_terminal(*arguments, "--if-loaded", "replace", columns=80, env=db)
    assert ("Loading into table green" in again, "Finished in state" in again) == (True, False)
