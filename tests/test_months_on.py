"""Servers that run for months: their logs and their history stay small, and an upgrade finds them."""

import json
import os
import re
import sqlite3
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from helpers import Cli, free_port, run_cli, until, value
from taxi_ingest import stack
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import Cache
from taxi_ingest.stack import logs
from taxi_ingest.stack.logs import earlier, keep_short, shorten


@pytest.fixture
def own(home: Path) -> Iterator[Settings]:
    """A local stack of its own, of which nothing runs yet; what is started is stopped."""
    settings = Settings(home=home / "own", cache_dir=home / "cache", prefect_port=free_port())
    yield settings
    stack.stop(settings)


def environment(settings: Settings) -> dict[str, str]:
    return {
        "TAXI_INGEST_HOME": str(settings.home),
        "TAXI_INGEST_CACHE_DIR": str(settings.cache_dir),
        "TAXI_INGEST_PREFECT_PORT": str(settings.prefect_port),
    }


# Logs


def test_a_log_that_has_grown_long_goes_on_and_what_it_held_is_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("a") as server:
        for round in ("first", "second"):
            for number in range(100):
                server.write(f"{round} {number}\n")
            server.flush()
            shorten(log, longest_bytes=500)
            assert log.read_text() == ""
            assert earlier(log).read_text().endswith(f"{round} 99\n")
            assert earlier(log).stat().st_size <= 500
        server.write("third\n")
    shorten(log, longest_bytes=500)
    assert log.read_text() == "third\n"
    assert [path.stat().st_mode & 0o077 for path in (log, earlier(log))] == [0, 0]


def test_logs_are_kept_short_while_a_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_WATCH_SECONDS", 0.05)
    (tmp_path / "log").write_text("x" * (logs.LONGEST_BYTES + 1))
    keep_short([tmp_path / "absent" / "log", tmp_path / "log"])
    until(lambda: (tmp_path / "log").stat().st_size == 0)


def test_a_log_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "somebody's").write_text("x" * 1000)
    (tmp_path / "log").symlink_to(tmp_path / "somebody's")
    with pytest.raises(OSError, match="symbolic links"):
        shorten(tmp_path / "log", longest_bytes=10)
    assert (tmp_path / "somebody's").stat().st_size == 1000


def test_postgres_writes_on_in_a_log_that_was_cut(own: Settings) -> None:
    url = stack.start_database(own)
    log = own.home / "postgres" / "log"
    with log.open("a") as file:
        file.write("x" * (logs.LONGEST_BYTES + 1))
    assert stack.start_database(own) == url
    assert log.stat().st_size < 1000
    with pytest.raises(Exception, match="division by zero"):
        value(url, "SELECT 1 / 0")
    assert "division by zero" in log.read_text()
    assert value(url, "SHOW log_checkpoints") == "off"


# Prefect's history, and upgrades


def api_of(settings: Settings) -> httpx.Client:
    server = stack.launch_prefect(settings)
    server.wait(600)
    return httpx.Client(base_url=server.api_url, auth=_Key(server.key), timeout=60)


class _Key(httpx.Auth):
    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        request.headers["Authorization"] = f"Basic {b64encode(self._key.encode()).decode()}"
        yield request


def ended_run(api: httpx.Client, name: str) -> str:
    flow = api.post("/flows/", json={"name": "any"}).raise_for_status().json()["id"]
    state = {"type": "COMPLETED"}
    run = api.post("/flow_runs/", json={"flow_id": flow, "name": name, "state": state}).raise_for_status()
    line = {"name": "any", "level": 20, "message": name, "timestamp": "2026-01-01T00:00:00Z"}
    api.post("/logs/", json=[{**line, "flow_run_id": run.json()["id"]}]).raise_for_status()
    return str(run.json()["id"])


def messages(api: httpx.Client) -> set[str]:
    return {line["message"] for line in api.post("/logs/filter", json={}).raise_for_status().json()}


def names_of_runs(api: httpx.Client) -> set[str]:
    return {run["name"] for run in api.post("/flow_runs/filter", json={}).raise_for_status().json()}


@pytest.mark.slow
def test_prefect_forgets_the_runs_of_long_ago_and_up_says_how_long(
    own: Settings, with_tables: Callable[[Path], None]
) -> None:
    with_tables(own.home)
    done = run_cli("up", "--keep-days", "30", "--quiet", env=environment(own))
    assert (done.returncode, done.stderr) == (0, "")
    with api_of(own) as api:
        ages = {name: ended_run(api, name) for name in ("29 days ago", "31 days ago")}
        assert names_of_runs(api) == ages.keys()
    stack.stop_prefect(own)
    with closing(sqlite3.connect(own.home / "prefect" / "prefect.db")) as database, database:
        for name, run in ages.items():
            days = f"-{name.split()[0]} days"
            set_end = "UPDATE flow_run SET end_time = datetime('now', ?) WHERE id = ?"
            assert database.execute(set_end, (days, run)).rowcount == 1
    with api_of(own) as api:
        until(lambda: names_of_runs(api) == {"29 days ago"})
        until(lambda: messages(api) == {"29 days ago"})
        kept = api.get("/admin/settings").json()["server"]["services"]["db_vacuum"]["retention_period"]
        assert kept == "P30D"


def pretend(settings: Settings, older: str) -> None:
    """Have both servers seem to be of an older version."""
    record = settings.home / "prefect" / "server.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "releases": older}))
    written = settings.home / "postgres" / "data" / "taxi_ingest.conf"
    changed = re.sub(r"at every start, of .*\.", f"at every start, of {older}.", written.read_text(), count=1)
    owner = written.stat()
    written.write_text(changed)
    os.chown(written, owner.st_uid, owner.st_gid)


@pytest.mark.slow
def test_servers_from_before_an_upgrade_are_told_of_and_renewed_when_no_load_uses_them(
    own: Settings, with_tables: Callable[[Path], None]
) -> None:
    with_tables(own.home)
    stack.launch_prefect(own).wait(600)
    stack.start_database(own)
    before = stack.status(own)
    assert (before.database.note, before.prefect.note) == ("", "")
    pretend(own, "taxi-ingest 0.0.1")
    found = stack.status(own)
    assert (found.database.running, found.prefect.running) == (True, True)
    assert found.database.note == "`taxi-ingest up` starts it anew after an upgrade, from taxi-ingest 0.0.1"
    assert found.prefect.note.startswith("started before an upgrade, by taxi-ingest 0.0.1; the next load")
    with stack.use_of_stack("green", own):
        stack.enter()
        assert stack.launch_prefect(own).pid == before.prefect.pid
    renewed = stack.launch_prefect(own)
    assert renewed.pid != before.prefect.pid
    renewed.wait(600)
    stack.start_database(own)
    assert stack.status(own).database.pid == before.database.pid
    assert run_cli("up", "--quiet", env=environment(own)).returncode == 0
    after = stack.status(own)
    assert after.database.pid != before.database.pid
    assert (after.prefect.pid, after.database.note, after.prefect.note) == (renewed.pid, "", "")


# Its end


def downloaded(settings: Settings) -> Path:
    cache = Cache(settings.cache_dir, 1_000_000)
    with cache.entry("http://127.0.0.1/x") as entry:
        entry.folder.mkdir()
        entry.content.write_text("x" * 1000)
    return entry.folder


def test_purge_takes_away_all_that_was_ever_written(cli: Cli, own: Settings, home: Path) -> None:
    del cli
    (home / "prefect").mkdir()
    environs = {**environment(own), "PREFECT_HOME": str(home / "prefect")}
    stack.start_database(own)
    downloaded(own)
    asked = run_cli("down", "--purge", "--json", env=environs)
    assert asked.returncode == 2
    assert f"{own.home} and {own.cache_dir}" in json.loads(asked.stdout)["error"]
    assert own.cache_dir.exists()
    done = run_cli("down", "--purge", "--yes", "--json", env=environs)
    told = json.loads(done.stdout)
    assert (done.returncode, told["database_stopped"], told["left"]) == (0, True, [])
    assert str(own.cache_dir) in {part["path"] for part in told["removed"]}
    assert list(home.iterdir()) == []


def test_without_purge_the_downloads_stay(own: Settings) -> None:
    stack.start_database(own)
    entry = downloaded(own)
    assert run_cli("down", "--remove-data", "--yes", "--quiet", env=environment(own)).returncode == 0
    assert (own.home.exists(), (entry / "content").exists()) == (False, True)


def test_purge_leaves_what_is_not_ours_and_what_another_run_downloads(own: Settings) -> None:
    entry = downloaded(own)
    (own.cache_dir / "notes.txt").write_text("somebody's")
    (own.cache_dir / "files" / "notes.txt").write_text("somebody's")
    with Cache(own.cache_dir, 0).entry("http://127.0.0.1/x"):
        assert run_cli("down", "--purge", "--yes", env=environment(own)).returncode == 0
        assert entry.exists()
    done = run_cli("down", "--purge", "--yes", env=environment(own))
    assert (done.returncode, entry.exists()) == (0, False)
    left = {path.name for path in own.cache_dir.rglob("*") if path.is_file()}
    assert left == {"notes.txt"}
