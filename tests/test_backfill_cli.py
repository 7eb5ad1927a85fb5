"""Many months, and many files, on the command line: exit codes, one JSON object, and what to do next."""

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builders import months as trips_of_months
from builders import written
from helpers import (
    PROGRAM,
    Cli,
    Publish,
    exists,
    on_terminal,
    query,
    run_cli,
    start_cli,
    until,
    url_with,
    value,
)
from http_server import Server
from taxi_ingest.sources import files_of

COUNTS = ("loaded", "skipped", "failed", "unpublished", "waiting", "rows_loaded")


@pytest.fixture
def url(embedded_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database that the settings name."""
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    return embedded_database_url


def result_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The one object on stdout."""
    assert done.stdout.count("\n") == 1, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def counts(result: dict[str, Any]) -> dict[str, int]:
    """Those that are not zero."""
    return {name: result[name] for name in COUNTS if result[name]}


def in_ledger(url: str) -> list[str]:
    rows = query(url, "SELECT month FROM taxi_ingest.loads WHERE status = 'loaded' ORDER BY month")
    return [month for (month,) in rows]


def test_what_failed_is_named_and_the_command_that_is_told_loads_just_that(
    publish: Publish, cli: Cli, url: str, server: Server
) -> None:
    months = [f"2023-{month:02}" for month in range(1, 7)]
    whole = [publish(month) for month in months]
    content = whole[3].read_bytes()
    whole[1].unlink()
    whole[3].write_bytes(b"PAR1" + bytes(500) + b"PAR1")
    server.fault(whole[4].name, cut_after_bytes=1000)

    done = cli("backfill", "yellow", "2023-01..2023-06", "--jobs", 2, "--no-index", "--json")
    result = result_of(done)
    assert (done.returncode, result["status"]) == (3, "failed")
    assert counts(result) == {"loaded": 3, "failed": 3, "rows_loaded": 60}
    assert [month["month"] for month in result["months"]] == months
    assert result["error"].startswith("3 of 6 failed, the first of them yellow 2023-02: ")
    assert result["hint"]
    assert result["retry"].endswith("--no-index --jobs 2 --reprocess failed")
    assert in_ledger(url) == ["2023-01", "2023-03", "2023-06"]

    server.faults.clear()
    publish(months[1])
    whole[3].write_bytes(content)
    program = shlex.split(result["retry"])
    assert Path(program[0]).name == Path(PROGRAM).name
    again = cli(*program[1:], "--json")
    assert (again.returncode, counts(result_of(again))) == (0, {"loaded": 3, "skipped": 3, "rows_loaded": 60})
    assert in_ledger(url) == months


def test_the_end_says_what_became_of_each_month_and_no_secret(
    publish: Publish, cli: Cli, embedded_database_url: str
) -> None:
    publish("2023-01")
    publish("2023-02", dataset="green")
    address = url_with(embedded_database_url, password="geheim-4711")
    arguments = ("yellow", "green", "2023-01..2023-02", "--database-url", address)
    done = cli("backfill", *arguments)
    assert done.returncode == 3
    assert "months   4: 2 loaded, 2 failed" in done.stdout
    assert "failed   green 2023-01: " in done.stdout
    assert "tables   yellow_tripdata, green_tripdata" in done.stdout
    [retry] = re.findall(r"^retry    (.*)$", done.stdout, re.MULTILINE)
    assert "backfill yellow green 2023-01..2023-02 --database-url" in retry
    assert retry.endswith(" --reprocess failed")
    moment = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    for line in (r"yellow 2023-01  20 rows in \d+\.\d s", "green 2023-01  failed: .* answers 404"):
        assert re.search(moment + line, done.stderr, re.MULTILINE), done.stderr
    warned = [line for line in done.stderr.splitlines() if "TLC's of yellow 2023-01 is known to have" in line]
    assert [re.sub(moment, "", line)[:14] for line in warned] == ["yellow 2023-01"]
    assert "Finished in state" not in done.stderr
    assert "geheim-4711" not in done.stdout + done.stderr
    quiet = cli("backfill", *arguments, "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr.count("\n")) == (3, "", 2)


def test_a_dry_run_says_what_there_is_and_what_it_takes_and_loads_nothing(
    publish: Publish, cli: Cli, url: str
) -> None:
    for month in ("2023-01", "2023-02"):
        # Fewer would tell nothing of how long millions take.
        publish(month, rows=10_000)
    before = cli("backfill", "yellow", "2023-01..2023-03", "--dry-run").stdout.splitlines()
    assert before[0].split() == ["month", "state", "rows", "file", "time", "disk"]
    assert re.fullmatch(r"yellow 2023-01  missing +3,066,766 +[\d.]+ KB +\? +[\d.]+ MB", before[1])
    assert before[4].startswith("3 of 3")
    assert max(map(len, before)) <= 80
    assert not exists(url, "yellow_tripdata")
    cli("backfill", "yellow", "2023-01..2023-02", "--quiet")
    publish("2023-02", rows=30)
    revised = result_of(
        cli("backfill", "yellow", "2023-01..2023-03", "--reprocess", "revised", "--dry-run", "--json")
    )
    assert revised["status"] == "planned"
    assert [(month["status"], month["state"]) for month in revised["months"]] == [
        ("skipped", "short"),
        ("planned", "revised"),
        ("skipped", "missing"),
    ]
    assert revised["seconds"] > 0
    done = cli("backfill", "yellow", "2023-01..2023-02", "--reprocess", "revised", "--json")
    assert [month["status"] for month in result_of(done)["months"]] == ["skipped", "replaced"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backfil", "yellow", "2019"], "Did you mean taxi-ingest backfill?"),
        (["backfill", "yelow", "2019"], "Did you mean yellow?"),
        (["backfill", "yellow"], "Which months?"),
        (["backfill", "2019"], "Which dataset?"),
        (["backfill", "yellow", "2019", "2020"], "several ranges: 2019, 2020"),
        (["backfill", "yellow", "2019-05..2019-01"], "ends before it begins"),
        (["backfill", "yellow", "2019-1"], "Did you mean 2019-01?"),
        (["backfill", "yellow", "2008-01"], "They begin in 2009-01"),
        (["backfill", "zones", "2019"], "zones has no months"),
        (["backfill", "yellow", "green", "2019", "--table", "t"], "A table holds one dataset"),
        (["backfill", "yellow", "2019", "--jobs", "0"], "--jobs is wrong: 0 is less than 1"),
        (["backfill", "yellow", "2019", "--transform", "nothing"], "names no function"),
        (["backfill", "yellow", "2019", "--table", "t", "--table", "u"], "--table is given twice"),
        (["backfill", "yellow", "2019", "--index", "--no-index"], "--index / --no-index is given twice"),
        (["ingest", "x.csv", "--quiet", "-q", "--table", "t"], "--quiet / -q is given twice"),
        (["ingest", "nothing/*.csv", "--table", "t"], "No file matches nothing/*.csv"),
        (["ingest", "x.csv", "y.csv", "--dataset", "green", "--month", "2024-01"], "Which file?"),
        (["ingest", "x.csv", "y.csv", "--table", "t", "--dry-run"], "--dry-run looks at one file"),
        (["ingest", "x.csv", "y.csv"], "Give --table"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(arguments: list[str], message: str) -> None:
    done = run_cli(*arguments, "--json")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert result_of(done)["status"] == "failed"


@pytest.mark.slow
def test_an_interrupt_says_how_far_it_came_and_the_same_command_goes_on(
    publish: Publish, cli: Cli, url: str, server: Server
) -> None:
    publish("2023-01")
    slow = publish("2023-02")
    server.fault(slow.name, stall_seconds=60)
    command = ("backfill", "yellow", "2023-01..2023-02", "--jobs", 1, "--json")
    process = start_cli(*command)
    until(lambda: exists(url, "yellow_tripdata") and in_ledger(url) == ["2023-01"], process=process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, "of 2 months are loaded" in stderr) == (130, True), stderr
    assert json.loads(stdout)["status"] == "failed"
    server.faults.clear()
    again = cli(*command)
    assert (again.returncode, counts(result_of(again))) == (0, {"loaded": 1, "skipped": 1, "rows_loaded": 20})


def test_a_terminal_of_80_columns_gets_bars_that_vanish_and_a_line_for_each_month(
    publish: Publish, cli: Cli, url: str
) -> None:
    del cli
    for month in ("2023-01", "2023-02"):
        publish(month)
    exit_code, shown, stdout = on_terminal("backfill", "yellow", "2023-01..2023-02", columns=80)
    assert exit_code == 0, shown
    assert re.search(r"yellow 2023-01  20 rows in \d", shown)
    bars = [line for line in re.split(r"[\r\n]+", shown) if "━" in line]
    assert bars
    assert max(len(bar.rstrip()) for bar in bars) <= 80
    assert "of 2 done" in shown
    assert "Finished in state" not in shown
    assert "months   2: 2 loaded" in stdout
    assert in_ledger(url) == ["2023-01", "2023-02"]


def test_several_files_are_loaded_once_each_however_they_are_named(
    tmp_path: Path, cli: Cli, url: str
) -> None:
    [first, *_] = trips_of_months(tmp_path, range(1, 4))
    written(tmp_path, "about these files", "README.txt")
    done = cli("ingest", first, f"{tmp_path}/", "--url", first.as_uri(), "--table", "trips", "--json")
    result = result_of(done)
    assert (done.returncode, counts(result)) == (0, {"loaded": 3, "rows_loaded": 3}), done.stderr
    assert [month["month"] for month in result["months"]] == ["2024-01", "2024-02", "2024-03"]
    assert value(url, "SELECT sum(total_amount) FROM trips") == 6


def test_one_files_failure_stops_no_other_and_the_command_that_is_told_names_it_alone(
    tmp_path: Path, cli: Cli, url: str
) -> None:
    [first, second] = trips_of_months(tmp_path, range(1, 3))
    broken = written(tmp_path, "", "broken file.csv")
    done = cli("ingest", first, broken, second, "--table", "trips", "--chunk-size", 10)
    assert (done.returncode, "files    3: 2 loaded, 1 failed" in done.stdout) == (3, True), done.stderr
    [retry] = re.findall(r"^retry    (.*)$", done.stdout, re.MULTILINE)
    assert shlex.split(retry)[1:] == ["ingest", str(broken), "--table", "trips", "--chunk-size", "10"]
    assert value(url, "SELECT count(*) FROM trips") == 2
    same = cli("ingest", first, second, "--table", "trips")
    assert (same.returncode, "files    2: 2 skipped" in same.stdout) == (0, True)


def test_a_pattern_and_a_folder_stand_for_their_files(tmp_path: Path) -> None:
    files = [written(tmp_path, "x", name) for name in ("a.csv.gz", "b.parquet", "odd [1].csv")]
    text = written(tmp_path, "x", "c.txt")
    (tmp_path / "d.csv").mkdir()
    assert files_of(str(tmp_path)) == [str(file) for file in files]
    assert files_of(f"{tmp_path}/[a-c].*") == [str(file) for file in (*files[:2], text)]
    for named in (str(files[2]), "-", "http://host/x[1].csv?y=*", "nothing.csv"):
        assert files_of(named) == [named]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "about these files", "README.txt")
    done = run_cli("ingest", tmp_path, "--table", "trips")
    assert (done.returncode, "has no CSV or Parquet files" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--table", "--dry-run"], "--table needs a value, and --dry-run is a flag."),
        (["--work-pool", ""], "--work-pool is empty."),
        (["--block", ""], "--block is empty."),
    ],
)
def test_a_flag_without_its_value_is_refused_before_anything_is_done(
    cli: Cli, flags: list[str], said: str
) -> None:
    done = cli("backfill", "yellow", "2019-01", *flags)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"Error: {said}")
