"""What docs/cron.md promises to cron, systemd and scripts; its examples are run as they stand there."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from helpers import (
    PROGRAM,
    ROOT,
    WAITING_FOR_A_LOAD,
    Cli,
    Publish,
    free_port,
    held,
    on_terminal,
    query,
    run_cli,
    sessions,
    small_disk,
    start_cli,
    until,
    until_session,
)
from taxi_ingest import stack
from taxi_ingest.settings.environment import Settings

EXAMPLES = ROOT / "examples"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9)\d[;m]")


# Its examples


@pytest.fixture
def srv(
    tmp_path: Path, prefect_server: str, settings: Settings, embedded_database_url: str, publish: Publish
) -> Path:
    """What the examples call /srv/taxi, with two months to load."""
    del prefect_server
    for dataset in ("yellow", "green"):
        publish("2024-01", dataset=dataset)
    folder = tmp_path / "srv"
    (folder / ".venv" / "bin").mkdir(parents=True)
    program = folder / ".venv" / "bin" / "taxi-ingest"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={os.environ.get("PYTHONPATH", "")} exec {PROGRAM} "$@"\n')
    program.chmod(0o755)
    own = {
        "HOME": settings.home,
        "PREFECT_PORT": settings.prefect_port,
        "CACHE_DIR": tmp_path / "cache",
        "TLC_URL": os.environ["TAXI_INGEST_TLC_URL"],
        "DATABASE_URL": embedded_database_url,
    }
    (folder / ".env").write_text("".join(f"TAXI_INGEST_{name}='{value}'\n" for name, value in own.items()))
    return folder


@pytest.fixture
def port() -> int:
    return free_port()


def run(command: list[str | Path], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, in no other environment than this one, with nobody at a terminal."""
    return subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )


def bare(folder: Path, path: str = "/usr/bin:/bin") -> dict[str, str]:
    """The environment that cron gives to what it runs."""
    return {"HOME": str(folder), "LOGNAME": "taxi", "SHELL": "/bin/sh", "PATH": path}


def here(example: str, srv: Path) -> str:
    """An example with this folder, and a range that is not looked through up to today."""
    return example.replace("/srv/taxi", str(srv)).replace("2024-01..", "2024-01")


def months_in(url: str) -> list[tuple[str, str]]:
    return [
        (str(dataset), str(month))
        for dataset, month in query(url, "SELECT dataset, month FROM taxi_ingest.loads ORDER BY 1")
    ]


BOTH = [("green", "2024-01"), ("yellow", "2024-01")]


@pytest.mark.parametrize("example", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_the_page_shows_each_example_as_it_is(example: Path) -> None:
    assert f"\n{example.read_text()}```" in (ROOT / "docs" / "cron.md").read_text()


@pytest.mark.slow
def test_the_crontab_runs_as_cron_runs_it(srv: Path, embedded_database_url: str) -> None:
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if "srv/taxi &&" in line]
    assert len(lines) == 3
    for line in lines:
        command = here(line[line.index("cd /srv") :], srv)
        assert "%" not in command, "which cron takes for the end of a line"
        done = run(["/bin/sh", "-c", command], Path("/"), bare(srv))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
    assert months_in(embedded_database_url) == BOTH


def units(folder: Path, srv: Path) -> list[Path]:
    made = []
    for example in sorted(EXAMPLES.glob("taxi-ingest-*")):
        (folder / example.name).write_text(here(example.read_text(), srv))
        made.append(folder / example.name)
    return made


@pytest.mark.slow
def test_the_units_are_what_systemd_takes_and_their_commands_run(
    srv: Path, tmp_path: Path, embedded_database_url: str
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    made = units(tmp_path, srv)
    assert len(made) == 3
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *made], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for unit in reversed(made):
        for command in re.findall("^ExecStart=(.*)$", unit.read_text(), re.MULTILINE):
            ran = run([*shlex.split(command)], srv, bare(srv))
            assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert months_in(embedded_database_url) == BOTH


def run_script(srv: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("jq") is None:
        pytest.skip("there is no jq here")
    environment = bare(srv, f"{srv / '.venv' / 'bin'}:{os.environ['PATH']}")
    return run([EXAMPLES / "load-new.sh", *arguments], srv, environment)


@pytest.mark.slow
def test_the_script_says_what_was_loaded_and_what_failed(srv: Path, tmp_path: Path) -> None:
    done = run_script(srv, "yellow", "green", "2024-01")
    assert (done.returncode, done.stdout) == (0, "loaded: 2 months loaded, 40 rows, 0 failed\n"), done.stderr
    (tmp_path / "yellow_tripdata_2024-02.parquet").write_text("no Parquet file")
    failed = run_script(srv, "yellow", "2024-01..2024-02")
    assert failed.returncode == 3
    title, month, again = failed.stdout.splitlines()
    assert title == "failed: 0 months loaded, 0 rows, 1 failed"
    assert month.startswith("yellow 2024-02: ")
    assert again == "taxi-ingest backfill yellow 2024-01..2024-02 --no-wait --reprocess failed"
    wrong = run_script(srv, "yellow", "yesterday")
    assert (wrong.returncode, wrong.stdout.startswith("failed: 0 months")) == (2, True)


# Two at once


@pytest.fixture
def db(embedded_database_url: str) -> dict[str, str]:
    return {"TAXI_INGEST_DATABASE_URL": embedded_database_url}


@pytest.fixture
def busy(cli: Cli, trips: Path, db: dict[str, str]) -> Iterator[Connection]:
    """A database with a load, in which others come to a stop as they begin, until this is closed."""
    assert cli("ingest", trips, "--table", "earlier", env=db).returncode == 0
    with closing(
        held(db["TAXI_INGEST_DATABASE_URL"], "LOCK TABLE taxi_ingest.loads IN EXCLUSIVE MODE")
    ) as holder:
        yield holder


BEGINNING = "wait_event = 'relation'"


@pytest.mark.slow
def test_ingest_leaves_a_file_that_another_run_loads_and_waits_for_it_unless_told(
    cli: Cli, trips: Path, db: dict[str, str], busy: Connection
) -> None:
    url = db["TAXI_INGEST_DATABASE_URL"]
    arguments = ("ingest", trips, "--table", "green", "--json")
    first = start_cli(*arguments, env=db)
    until_session(url, BEGINNING)
    left = cli(*arguments, "--no-wait", env=db)
    result = json.loads(left.stdout)
    assert (left.returncode, result["status"]) == (75, "failed")
    assert "Another run is loading this file into green." in left.stderr
    assert "--no-wait" in result["hint"]
    waiting = start_cli(*arguments, env=db)
    until_session(url, WAITING_FOR_A_LOAD)
    busy.close()
    assert json.loads(first.communicate(timeout=100)[0])["status"] == "loaded"
    assert json.loads(waiting.communicate(timeout=100)[0])["status"] == "skipped"
    assert json.loads(cli(*arguments, "--no-wait", env=db).stdout)["status"] == "skipped"
    assert query(url, "SELECT count(*) FROM taxi_ingest.attempts") == [(0,)]


@pytest.mark.slow
def test_backfill_leaves_a_table_that_another_run_fills(
    cli: Cli, publish: Publish, db: dict[str, str], busy: Connection
) -> None:
    url = db["TAXI_INGEST_DATABASE_URL"]
    publish("2024-01")
    publish("2024-01", dataset="green")
    first = start_cli("backfill", "yellow", "2024-01", "--quiet", env=db)
    until_session(url, BEGINNING)
    left = cli("backfill", "yellow", "2024", "--no-wait", "--json", env=db)
    assert (left.returncode, json.loads(left.stdout)["status"]) == (75, "failed")
    assert "Another run is loading several files into yellow_tripdata." in left.stderr
    other = start_cli("backfill", "green", "2024-01", "--no-wait", env=db)
    until(lambda: sessions(url, BEGINNING) == 2, process=other)
    busy.close()
    assert [first.communicate(timeout=100)[1], first.returncode] == ["", 0]
    other.communicate(timeout=100)
    assert other.returncode == 0
    assert cli("backfill", "yellow", "2024-01", "--no-wait", env=db).returncode == 0
    assert query(url, "SELECT count(*) FROM taxi_ingest.loads") == [(3,)]


# Where it runs


BARE = {
    "PATH empty": "PATH= {}",
    "nothing at all": "umask 077; unset PATH HOME LOGNAME SHELL; {} <&-",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BARE)
def test_a_bare_environment_will_do(srv: Path, embedded_database_url: str, tmp_path: Path, name: str) -> None:
    command = BARE[name].format(f"{srv}/.venv/bin/taxi-ingest backfill yellow green 2024-01 --quiet")
    environment = bare(srv) | {"PREFECT_HOME": str(tmp_path / "prefect")}
    done = run(["/bin/sh", "-c", command], srv, environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert months_in(embedded_database_url) == BOTH


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "ro").mkdir()
    with small_disk(tmp_path / "ro", "ro") as folder:
        yield folder


def test_the_folder_that_it_is_called_in_is_not_written(
    cli: Cli, trips: Path, db: dict[str, str], read_only: Path
) -> None:
    for command in (("ingest", trips, "--table", "green", "--quiet"), ("status", "--check")):
        done = cli(*command, env=db, cwd=read_only)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_both_servers_start_in_a_bare_environment(
    home: Path, port: int, with_tables: Callable[[Path], None]
) -> None:
    with_tables(home / "own")
    command = f"umask 077; unset PATH LOGNAME SHELL; exec {PROGRAM} up --quiet <&-"
    environment = bare(home) | {
        "TAXI_INGEST_HOME": str(home / "own"),
        "TAXI_INGEST_PREFECT_PORT": str(port),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    try:
        done = run(["/bin/sh", "-c", command], Path("/"), environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        now = stack.status(Settings(home=home / "own", prefect_port=port))
        assert (now.database.running, now.prefect.running) == (True, True)
    finally:
        stack.stop(Settings(home=home / "own", prefect_port=port))


# Signals


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_a_run_as_ctrl_c_does(
    trips: Path, db: dict[str, str], busy: Connection
) -> None:
    url = db["TAXI_INGEST_DATABASE_URL"]
    # The tests themselves may run under nohup.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = start_cli("ingest", trips, "--table", "green", env=db)
    signal.signal(signal.SIGHUP, inherited)
    until_session(url, BEGINNING)
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, "Interrupted" in stderr) == (130, True), stderr
    until(lambda: sessions(url, BEGINNING) == 0)
    busy.close()
    assert query(url, "SELECT count(*) FROM taxi_ingest.loads") == [(1,)]


@pytest.mark.slow
def test_nohup_keeps_a_run_from_that(trips: Path, db: dict[str, str], busy: Connection) -> None:
    url = db["TAXI_INGEST_DATABASE_URL"]
    process = subprocess.Popen(
        ["nohup", PROGRAM, "ingest", trips, "--table", "green", "--quiet"],
        env={**os.environ, **db},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until_session(url, BEGINNING)
    process.send_signal(signal.SIGHUP)
    busy.close()
    assert process.communicate(timeout=60) == (b"", b"")
    assert (process.returncode, query(url, "SELECT count(*) FROM green")) == (0, [(2,)])


# What is printed


def lines_of(stderr: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in stderr.splitlines()]


def test_log_lines_are_objects_that_say_what_they_are_about(
    cli: Cli, publish: Publish, db: dict[str, str]
) -> None:
    publish("2024-01")
    done = cli("backfill", "yellow", "2024-01..2024-02", "--log-format", "json", "-v", env=db)
    found = lines_of(done.stderr)
    assert done.returncode == 3
    assert all({"time", "level", "message"} <= line.keys() for line in found)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d", str(line["time"])) for line in found)
    about = {"dataset": "yellow", "month": "2024-01", "table": "yellow_tripdata"}
    rows = [line for line in found if str(line["message"]).startswith("loaded: 20 rows")]
    assert [line | about for line in rows] == rows
    assert all(line["flow_run_id"] for line in rows)
    ended = {line["month"]: line for line in found if "status" in line}
    assert (ended["2024-01"]["level"], ended["2024-01"]["rows_loaded"]) == ("info", 20)
    assert (ended["2024-02"]["level"], ended["2024-02"]["status"]) == ("error", "failed")
    assert found[-1]["level"] == "error"
    assert (found[-1]["exit_code"], "--reprocess failed" in str(found[-1]["retry"])) == (3, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--bla", "--log-format", "json"),
        ("--log-format=json", "--bla"),
        ("none.csv", "--log-format", "json"),
        ("none.csv", "--table", "t", "--log-format=json"),
    ],
)
def test_errors_are_objects_too(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli("ingest", *arguments)
    *_, line = lines_of(done.stderr)
    assert (line["level"], line["exit_code"]) == ("error", done.returncode)
    assert line["message"]
    assert line["hint"]


@pytest.mark.slow
def test_vv_shows_requests_and_tracebacks_which_v_does_not(
    cli: Cli, db: dict[str, str], tmp_path: Path
) -> None:
    shown = {
        flag: cli("ingest", tmp_path / "none.csv", "--table", "t", flag, env=db).stderr
        for flag in ("-v", "-vv")
    }
    assert ["HTTP Request: " in text for text in shown.values()] == [False, True]
    assert ["Traceback" in text for text in shown.values()] == [False, True]
    assert all(len(re.findall("^Error: ", text, re.MULTILINE)) == 1 for text in shown.values())


COMMANDS = {
    "help": ("--help",),
    "ingest": ("ingest", "{trips}", "--table", "green"),
    "ingest again": ("ingest", "{trips}", "--table", "green", "-v"),
    "ingest badly": ("ingest", "none.csv", "--table", "green"),
    "dry run": ("ingest", "{trips}", "--table", "other", "--dry-run"),
    "backfill": ("backfill", "green", "2024-01"),
    "backfill's plan": ("backfill", "green", "2023", "--dry-run"),
    "loads": ("loads",),
    "a load": ("loads", "1"),
    "rejects": ("rejects", "1"),
    "status": ("status",),
    "views": ("views",),
    "report": ("report", "--table", "green", "--text"),
    "doctor": ("doctor",),
    "blocks": ("blocks", "ls"),
    "schedules": ("schedule", "ls"),
    "dashboard": ("ui", "--no-browser"),
    "up": ("up",),
    "undo": ("undo", "1"),
    "wrong": ("--bla",),
}
"""In an order in which each has something to show."""


@pytest.mark.slow
def test_only_terminals_get_control_characters_and_colours_as_is_wanted(
    cli: Cli, trips: Path, db: dict[str, str], publish: Publish
) -> None:
    publish("2024-01", dataset="green")
    plain: dict[str, str | None] = dict.fromkeys(("NO_COLOR", "FORCE_COLOR"), "")
    for name, words in COMMANDS.items():
        arguments = [word.format(trips=trips) for word in words]
        done = cli(*arguments, env={**db, **plain})
        shown = done.stdout + done.stderr
        assert shown, name
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown), name
    for arguments in (["loads"], ["status"], ["ingest", str(trips), "--table", "green"], ["ingest", "--bla"]):
        forced = cli(*arguments, env={**db, "FORCE_COLOR": "1"})
        escapes = ESCAPES.findall(forced.stdout + forced.stderr)
        assert any(escape.endswith("m") for escape in escapes), arguments
        assert all(escape.endswith("m") for escape in escapes), "nothing moves"
        assert "\r" not in forced.stdout + forced.stderr


def test_no_color_takes_colours_from_a_terminal(cli: Cli, trips: Path, db: dict[str, str]) -> None:
    del cli
    for arguments in (("ingest", trips, "--table", "green", "-v"), ("ingest", "--bla")):
        _, shown, _ = on_terminal(*arguments, columns=80, env={**db, "NO_COLOR": "1"}, plain=False)
        assert not COLOURS.search(shown), arguments


# All is well, or not


@pytest.mark.slow
def test_check_is_silent_where_all_is_well_and_tells_what_is_not_by_its_code(
    cli: Cli, publish: Publish, db: dict[str, str]
) -> None:
    publish("2024-01")
    assert cli("backfill", "yellow", "2024-01", env=db).returncode == 0
    well = cli("status", "--check", env=db)
    assert (well.returncode, well.stdout, well.stderr) == (0, "", "")
    told = json.loads(cli("status", "--check", "--json", env=db).stdout)
    assert (told["problems"], told["datasets"][0]["dataset"]) == ([], "yellow")
    assert cli("backfill", "yellow", "2024-02", env=db).returncode == 3
    failed = cli("status", "--check", env=db)
    assert (failed.returncode, failed.stdout) == (3, "")
    assert "yellow 2024-02 could not be loaded into yellow_tripdata" in failed.stderr
    assert "taxi-ingest backfill yellow 2024-02 --reprocess failed" in failed.stderr
    named = cli("status", "--check", "--database-url", db["TAXI_INGEST_DATABASE_URL"], env=db)
    assert "2024-02 --reprocess failed --database-url" in named.stderr
    assert cli("status", "--check", "--table", "other", env=db).returncode == 2
    told = json.loads(cli("status", "--check", "--json", env=db).stdout)
    assert (told["status"], [each["exit_code"] for each in told["problems"]]) == ("failed", [3])


def test_check_of_a_stack_that_is_stopped_starts_nothing(home: Path, port: int) -> None:
    own = {"TAXI_INGEST_HOME": str(home / "own"), "TAXI_INGEST_PREFECT_PORT": str(port)}
    done = run_cli("status", "--check", env=own)
    assert (done.returncode, done.stdout) == (5, "")
    assert "database does not run" in done.stderr
    assert "Prefect server does not run" in done.stderr
    assert not (home / "own").exists()


def test_check_tells_of_a_prefect_that_does_not_answer(cli: Cli, db: dict[str, str], port: int) -> None:
    elsewhere = {**db, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    assert cli("status", "--check", env=elsewhere).returncode == 6
    own = {**db, "TAXI_INGEST_PREFECT_PORT": str(port), "TAXI_INGEST_HOME": "/none"}
    assert cli("status", "--check", env=own).returncode == 6
