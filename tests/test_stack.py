"""The local stack keeps its promises, with real servers in a folder of their own."""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from helpers import QUICK, Background, free_port, until, url_with, value
from taxi_ingest import stack
from taxi_ingest.errors import DatabaseError, PrefectError, TaxiIngestError, UsageError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack import residents

SECRETS = {
    "TAXI_INGEST_SOURCE_LOGIN": "user:planted-1",
    "TAXI_INGEST_DATABASE_URL": "postgresql://someone:planted-2@host/db",
    "PGPASSWORD": "planted-3",
    "PREFECT_API_KEY": "planted-4",
    "AWS_SECRET_ACCESS_KEY": "planted-5",
}


def settings_for(home: Path, port: int | None = None) -> Settings:
    return Settings(home=home, prefect_port=port or free_port())


def kill(pid: int | None) -> None:
    assert pid is not None
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    process.wait(60)


def in_two_processes(settings: Settings, expression: str) -> list[str]:
    """What an expression about `stack` and `settings` gives in each of two processes at once."""
    code = (
        "import sys; from taxi_ingest import stack; from taxi_ingest.settings.environment import Settings;"
        "settings = Settings(home=sys.argv[1], prefect_port=int(sys.argv[2])); print(" + expression + ")"
    )
    command = [sys.executable, "-c", code, str(settings.home), str(settings.prefect_port)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return [process.communicate(timeout=60)[0].strip() for process in both]


def environment_of(pid: int | None) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


@pytest.fixture
def stack_home() -> Iterator[Path]:
    """An empty home; whatever runs there afterwards is stopped."""
    home = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
    yield home
    stack.stop(settings_for(home))
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def stack_settings(with_tables: Callable[[Path], None]) -> Iterator[Settings]:
    """The home that most tests share, with both servers first started from a shell full of secrets."""
    settings = settings_for(Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK)))
    with_tables(settings.home)
    with pytest.MonkeyPatch.context() as shell:
        for name, value in SECRETS.items():
            shell.setenv(name, value)
        server = stack.launch_prefect(settings)
        stack.start_database(settings)
    server.wait(600)
    yield settings
    stack.stop(settings)
    shutil.rmtree(settings.home)


@pytest.fixture
def stack_database(stack_settings: Settings) -> str:
    return stack.start_database(stack_settings)


@pytest.fixture
def stack_prefect(stack_settings: Settings) -> str:
    return stack.launch_prefect(stack_settings).wait(600)


# Both


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_resident_processes_hold_no_secret(stack_settings: Settings) -> None:
    now = stack.status(stack_settings)
    for service in (now.database, now.prefect):
        held = environment_of(service.pid)
        assert "PATH=" in held
        assert "planted" not in held
        assert "TAXI_INGEST_" not in held


def test_resident_processes_have_a_session_of_their_own(stack_settings: Settings) -> None:
    now = stack.status(stack_settings)
    for service in (now.database, now.prefect):
        assert service.pid is not None
        assert os.getsid(service.pid) == service.pid
        assert psutil.Process(service.pid).terminal() is None


def test_starting_twice_gives_the_same_servers(stack_settings: Settings) -> None:
    before = stack.status(stack_settings)
    url, api_url = stack.start_database(stack_settings), stack.launch_prefect(stack_settings).wait(600)
    assert (url, api_url) == (before.database.address, before.prefect.address)
    assert stack.status(stack_settings) == before
    assert before.database.running
    assert before.prefect.running
    assert before.database.note == before.prefect.note == ""


def test_status_of_nothing_starts_and_makes_nothing(stack_home: Path) -> None:
    now = stack.status(settings_for(stack_home / "never"))
    assert not now.database.running
    assert not now.prefect.running
    assert not (stack_home / "never").exists()


def test_stopping_nothing_is_no_error(stack_home: Path) -> None:
    before = stack.stop(settings_for(stack_home / "never"))
    assert not before.database.running
    assert not before.prefect.running
    assert not (stack_home / "never").exists()


@pytest.mark.parametrize("start", [stack.start_database, stack.launch_prefect])
def test_a_home_that_cannot_be_written_is_named(stack_home: Path, start: object) -> None:
    (stack_home / "file").write_text("in the way")
    settings = settings_for(stack_home / "file" / "home")
    with pytest.raises(TaxiIngestError, match="can't be written: Not a directory") as caught:
        start(settings)  # type: ignore[operator]
    assert caught.value.exit_code == (5 if start is stack.start_database else 6)
    assert "TAXI_INGEST_HOME" in caught.value.hint
    assert not stack.status(settings).database.running


# Postgres


def test_database_takes_rows_and_keeps_them_over_a_stop(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    url = stack.start_database(settings)
    value(url, "CREATE TABLE kept AS SELECT 7 AS x; SELECT x FROM kept")
    assert stack.stop_database(settings).running
    assert not stack.status(settings).database.running
    assert value(stack.start_database(settings), "SELECT x FROM kept") == 7


def test_database_is_set_up_for_loads_and_stays_safe(stack_database: str) -> None:
    expected = {"wal_level": "minimal", "listen_addresses": "", "fsync": "on", "synchronous_commit": "on"}
    shown = {name: value(stack_database, f"SHOW {name}") for name in expected}
    assert shown == expected
    assert value(stack_database, "SELECT datlocale FROM pg_database WHERE datname = 'ny_taxi'") == "C.UTF-8"
    assert value(stack_database, "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL") == 0


def test_database_folder_is_private(stack_settings: Settings, stack_database: str) -> None:
    assert stack_database.startswith("postgresql://postgres@")
    for path in ("postgres", "postgres/data", "postgres/.s.PGSQL.5432"):
        assert (stack_settings.home / path).stat().st_mode & 0o077 == 0


def test_a_port_in_the_users_environment_does_not_mislead(
    stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "nowhere")
    assert value(stack.start_database(stack_settings), "SELECT 1") == 1


def test_killed_database_is_started_again_with_its_rows(stack_settings: Settings) -> None:
    url = stack.start_database(stack_settings)
    value(url, "CREATE TABLE survivor AS SELECT 8 AS x; SELECT x FROM survivor")
    kill(stack.status(stack_settings).database.pid)
    gone = stack.status(stack_settings).database
    assert (gone.running, gone.note) == (False, "stale pid file")
    assert value(stack.start_database(stack_settings), "SELECT x FROM survivor") == 8


def test_stale_files_with_a_recycled_pid_harm_nobody_and_stop_nothing(stack_settings: Settings) -> None:
    stack.stop_database(stack_settings)
    root = stack_settings.home / "postgres"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        content = f"{bystander.pid}\n{root}/data\n1\n5432\n{root}\n\n\nready\n"
        for name in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
            (root / name).write_text(content)
        assert stack.status(stack_settings).database.note == "stale pid file"
        assert value(stack.start_database(stack_settings), "SELECT 1") == 1
        assert bystander.poll() is None
        bystander.kill()


def test_a_killed_server_comes_back_where_nobody_reaps_it(stack_home: Path) -> None:
    """As in a container whose PID 1 is the user's own program: the killed server stays a zombie for ever."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*namespace, "true"], capture_output=True).returncode != 0:
        pytest.skip("a PID namespace of one's own is not permitted here")
    # A process of its own starts the server, whose parent is then PID 1, which only sleeps and waits for us.
    code = f"""
import os, signal, subprocess, sys, time
start = [sys.executable, "-c", "import sys; from taxi_ingest import stack, Settings;"
         "print(stack.start_database(Settings(home={str(stack_home)!r}))) if sys.argv[1] == 'up' else "
         "print(stack.stop_database(Settings(home={str(stack_home)!r})).running)"]
def run(what):
    return subprocess.run([*start, what], capture_output=True, text=True, timeout=60)
first = run("up")
pid = int(open({str(stack_home)!r} + "/postgres/data/postmaster.pid").readline())
os.kill(pid, signal.SIGKILL)
state = ""
while state != "Z":
    time.sleep(0.02)
    state = open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0]
again = run("up")
print(state, first.stdout == again.stdout != "", run("down").stdout.strip(), again.stderr)
"""
    done = subprocess.run(
        [*namespace, sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split()[:3] == ["Z", "True", "True"], done.stdout + done.stderr


def test_a_killed_servers_process_that_computes_does_not_keep_it_down(stack_settings: Settings) -> None:
    url = stack.start_database(stack_settings)
    busy = psycopg2.connect(url, async_=True)
    while busy.poll() != psycopg2.extensions.POLL_OK:
        pass
    busy.cursor().execute("SELECT count(*) FROM generate_series(1, 2000000000)")
    kill(stack.status(stack_settings).database.pid)
    assert value(stack.start_database(stack_settings), "SELECT 1") == 1


def test_two_processes_make_and_start_one_database(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    urls = in_two_processes(settings, "stack.start_database(settings)")
    assert urls == [stack.start_database(settings)] * 2


def test_database_missing_on_a_running_server_is_made(stack_settings: Settings, stack_database: str) -> None:
    connection = psycopg2.connect(stack_database.replace("/ny_taxi", "/postgres"))
    connection.autocommit = True
    connection.cursor().execute("DROP DATABASE ny_taxi")
    connection.close()
    assert value(stack.start_database(stack_settings), "SELECT current_database()") == "ny_taxi"


def test_server_of_a_deleted_home_does_not_get_in_the_way(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    stack.start_database(settings)
    old = psutil.Process(stack.status(settings).database.pid)
    shutil.rmtree(stack_home / "postgres")
    url = stack.start_database(settings)
    until(lambda: not old.is_running() or old.status() == psutil.STATUS_ZOMBIE, lambda: old)
    assert value(url, "SELECT 1") == 1


def test_data_of_another_version_is_refused_and_kept(stack_home: Path) -> None:
    data = stack_home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")
    settings = settings_for(stack_home)
    with pytest.raises(DatabaseError, match="was made by Postgres 17") as caught:
        stack.start_database(settings)
    assert f"mv '{data}'" in caught.value.hint
    assert "Postgres 17" in stack.status(settings).database.note
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_broken_data_gives_the_servers_own_reason_and_the_log(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    stack.start_database(settings)
    stack.stop_database(settings)
    with (stack_home / "postgres" / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("work_mem = broken\n")
    with pytest.raises(DatabaseError, match="contains errors") as caught:
        stack.start_database(settings)
    assert str(stack_home / "postgres" / "log") in caught.value.hint


ODD_NAMES = [
    'it\'s a "home", $HOME ' + "x" * 100,
    "per%cent%20s",
    "what?#&;",
    "a,b, c",
    "zürich-é",
    "back\\slash",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_home_with_a_long_or_odd_name_works(stack_home: Path, name: str) -> None:
    settings = settings_for(stack_home / name)
    url = stack.start_database(settings)
    assert value(url, "SELECT 1") == 1
    assert stack.status(settings).database.address == url
    shown = subprocess.run(
        [*stack.psql_command(url), "-XAtc", "SELECT 1"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "1\n"
    assert stack.stop_database(settings).running
    assert not list(Path("/tmp").glob("taxi-ingest-*/.s.PGSQL*"))


def test_a_relative_home_is_the_same_from_wherever_its_server_is_looked_at(
    stack_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stack_home)
    url = stack.start_database(settings_for(Path("below/it")))
    assert stack.status(settings_for(stack_home / "below" / "it")).database.address == url
    stack.stop_database(settings_for(stack_home / "below" / "it"))


def test_psql_command_opens_the_database(stack_database: str) -> None:
    command = [*stack.psql_command(stack_database), "-XAtc", "SELECT current_database()"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "ny_taxi\n"


def test_psql_of_the_wheel_stands_in_for_a_missing_one(
    stack_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    program, url = stack.psql_command(stack_database)
    assert Path(program).is_absolute()
    assert url == stack_database
    done = subprocess.run([program, url, "-XAtc", "SELECT 1"], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


# Its port


def by_port(settings: Settings, password: str | None = None) -> str:
    """The database's address by its port, with its own password unless told another."""
    ways = stack.ways(settings, stack.status(settings).database, with_password=True)
    assert ways.password
    return url_with(
        f"postgresql://postgres@127.0.0.1:{stack.status(settings).database.port}/ny_taxi",
        password=ways.password if password is None else password,
    )


@pytest.fixture
def open_settings(stack_home: Path) -> Settings:
    """A home whose database runs and has a port."""
    settings = settings_for(stack_home)
    stack.set_port(settings, free_port())
    stack.start_as_set(settings)
    return settings


def test_a_port_is_for_this_machine_and_asks_for_the_password(open_settings: Settings) -> None:
    assert value(by_port(open_settings), "SHOW listen_addresses") == "127.0.0.1"
    for password in ("", "wrong"):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            value(by_port(open_settings, password), "SELECT 1")
    assert (open_settings.home / "postgres.password").stat().st_mode & 0o777 == 0o600


def test_the_socket_has_the_same_address_with_a_port_and_without(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    url = stack.start_database(settings)
    stack.set_port(settings, free_port())
    assert "`taxi-ingest up` makes its port" in stack.status(settings).database.note
    assert stack.start_as_set(settings) == url == stack.status(settings).database.address
    assert value(url, "SELECT 1") == 1
    assert stack.is_embedded(settings, url)
    stack.set_port(settings, None)
    assert stack.start_as_set(settings) == url
    assert (value(url, "SHOW listen_addresses"), stack.status(settings).database.port) == ("", None)


def test_a_port_stays_over_stops_kills_and_starts_by_a_load(open_settings: Settings) -> None:
    port = stack.status(open_settings).database.port
    stack.stop_database(open_settings)
    assert not list((open_settings.home / "postgres").glob(".s.PGSQL*"))
    for _ in range(2):
        url = stack.start_database(open_settings)
        assert value(url, "SELECT 1") == value(by_port(open_settings), "SELECT 1") == 1
        assert stack.status(open_settings).database.port == port
        kill(stack.status(open_settings).database.pid)


def test_a_port_of_the_environment_is_used_and_goes_first(stack_home: Path) -> None:
    settings = Settings(home=stack_home, prefect_port=free_port(), postgres_port=free_port())
    stack.start_database(settings)
    assert value(by_port(settings), "SELECT 1") == 1
    with pytest.raises(UsageError, match=f"TAXI_INGEST_POSTGRES_PORT sets the port {settings.postgres_port}"):
        stack.set_port(settings, free_port())


def test_a_taken_port_is_named_with_who_has_it_and_the_database_runs_on(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    url = stack.start_database(settings)
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(DatabaseError, match=rf"Port {port} .*\(process {os.getpid()}\)") as caught:
            stack.set_port(settings, port)
        assert "--no-port" in caught.value.hint
        assert stack.start_as_set(settings) == url
        assert stack.status(settings).database.note == ""


def test_a_start_whose_port_was_taken_meanwhile_says_so_and_works_without(open_settings: Settings) -> None:
    port = stack.status(open_settings).database.port
    stack.stop_database(open_settings)
    with socket.create_server(("127.0.0.1", port or 0)):
        with pytest.raises(DatabaseError, match=f"Port {port} .* is taken"):
            stack.start_database(open_settings)
        stack.set_port(open_settings, None)
        assert value(stack.start_database(open_settings), "SELECT 1") == 1


def test_a_database_that_loads_use_gets_its_port_after_them(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    stack.start_database(settings)
    told: list[list[str]] = []
    with stack.use_of_stack("green", settings):
        stack.enter()
        before = stack.status(settings).database
        stack.set_port(settings, free_port())
        change = Background(lambda: stack.start_as_set(settings, told.append))
        until(lambda: told)
        assert stack.status(settings).database.pid == before.pid
    change.result()
    assert (told, value(by_port(settings), "SELECT 1")) == ([["green"]], 1)


def test_the_password_is_in_no_log_and_no_list_of_processes(open_settings: Settings) -> None:
    url = stack.start_database(open_settings)
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute("ALTER SYSTEM SET log_statement = 'all'")
    connection.close()
    stack.stop_database(open_settings)
    stack.start_database(open_settings)
    password = (open_settings.home / "postgres.password").read_text().strip()
    log = (open_settings.home / "postgres" / "log").read_text()
    assert "ALTER ROLE postgres PASSWORD" in log
    everyone = " ".join(" ".join(residents.command_line(each)) for each in psutil.process_iter())
    assert password not in log + everyone
    assert password not in repr(stack.status(open_settings))


def test_who_deletes_the_password_gets_a_new_one(open_settings: Settings) -> None:
    old = by_port(open_settings)
    (open_settings.home / "postgres.password").unlink()
    stack.start_as_set(open_settings)
    assert value(by_port(open_settings), "SELECT 1") == 1
    with pytest.raises(psycopg2.OperationalError, match="password"):
        value(old, "SELECT 1")


def test_a_port_goes_with_a_home_whose_socket_lies_elsewhere(stack_home: Path) -> None:
    settings = settings_for(stack_home / ("long-" * 30))
    stack.set_port(settings, free_port())
    url = stack.start_as_set(settings)
    assert value(url, "SELECT 1") == value(by_port(settings), "SELECT 1") == 1
    stack.stop_database(settings)
    assert not list(Path("/tmp").glob("taxi-ingest-*/.s.PGSQL*"))


# Its removal


def test_removal_takes_all_that_the_stack_has_made_and_nothing_else(open_settings: Settings) -> None:
    home = open_settings.home
    for name in ("notes.txt", "postgres/mine.txt", "bug.log"):
        (home / name).write_text("somebody's")
    planned = stack.planned_removal(open_settings)
    assert planned.bytes > 10_000_000
    assert {path.name for path in planned.left} == {"notes.txt", "mine.txt"}
    before, removed = stack.remove(open_settings)
    assert before.database.running
    assert set(removed.left) == {home / "notes.txt", home / "postgres" / "mine.txt"}
    assert {path for path in home.rglob("*") if path.is_file()} == set(removed.left)
    assert value(stack.start_database(open_settings), "SELECT 1") == 1


def test_a_removal_that_was_interrupted_can_be_gone_on_with(
    stack_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(stack_home / "own")
    stack.start_database(settings)
    original = shutil.rmtree

    def interrupted(path: str, **how: int) -> None:
        original(path, **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stack.remove(settings)
    assert stack.planned_removal(settings).parts
    stack.remove(settings)
    assert not settings.home.exists()


def test_removal_of_all_leaves_no_folder(stack_home: Path) -> None:
    settings = settings_for(stack_home / "own")
    stack.start_database(settings)
    _, removed = stack.remove(settings)
    assert (removed.left, settings.home.exists()) == ((), False)


@pytest.mark.parametrize("name", ["postgres/data/base", "prefect/prefect.db", "loads/a.running", "bug.log"])
def test_what_only_has_the_name_of_ours_is_not_removed(stack_home: Path, name: str) -> None:
    (stack_home / name).parent.mkdir(parents=True, exist_ok=True)
    (stack_home / name).write_text("somebody's")
    settings = settings_for(stack_home)
    assert stack.planned_removal(settings).parts == ()
    stack.remove(settings)
    assert (stack_home / name).read_text() == "somebody's"


def test_removal_does_not_go_where_links_lead(stack_home: Path) -> None:
    home, elsewhere = stack_home / "home", stack_home / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("somebody's")
    settings = settings_for(home)
    stack.start_database(settings)
    (home / "bug.log").symlink_to(elsewhere / "file")
    (home / "postgres" / "data" / "pg_tblspc" / "1").symlink_to(elsewhere)
    _, removed = stack.remove(settings)
    assert elsewhere in removed.left
    assert (elsewhere / "file").read_text() == "somebody's"
    assert not (home / "postgres" / "data").exists()


# Prefect


def test_prefect_launch_returns_at_once_and_stop_ends_it(
    stack_settings: Settings, stack_prefect: str
) -> None:
    before = stack.stop_prefect(stack_settings)
    assert before.running
    assert before.pid is not None
    assert residents.process(before.pid) is None
    server = stack.launch_prefect(stack_settings)
    assert stack.status(stack_settings).prefect.note == "starting"
    assert server.wait(600) == stack_prefect


def test_killed_prefect_is_started_again_by_one_of_two(stack_settings: Settings, stack_prefect: str) -> None:
    kill(stack.status(stack_settings).prefect.pid)
    gone = stack.status(stack_settings).prefect
    assert (gone.running, gone.note) == (False, "stale pid file")
    pids = in_two_processes(stack_settings, "stack.launch_prefect(settings).pid")
    assert stack.launch_prefect(stack_settings).wait(600) == stack_prefect
    assert pids == [str(stack.status(stack_settings).prefect.pid)] * 2


def test_recycled_pid_in_the_pid_file_is_not_stopped(stack_home: Path) -> None:
    settings = settings_for(stack_home)
    (stack_home / "prefect").mkdir()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        created = psutil.Process(bystander.pid).create_time()
        (stack_home / "prefect" / "server.json").write_text(
            f'{{"pid": {bystander.pid}, "created": {created}, "port": 1}}'
        )
        assert stack.stop_prefect(settings).note == "stale pid file"
        assert bystander.poll() is None
        bystander.kill()


def test_a_prefect_server_that_this_home_has_not_started_is_refused_and_not_stopped(
    stack_settings: Settings, stack_prefect: str, stack_home: Path
) -> None:
    del stack_prefect
    guest = settings_for(stack_home, stack_settings.prefect_port)
    with pytest.raises(PrefectError, match="has not started") as caught:
        stack.launch_prefect(guest)
    assert "TAXI_INGEST_PREFECT_PORT" in caught.value.hint
    assert "PREFECT_API_URL" in caught.value.hint
    assert "taken by another program" in stack.status(guest).prefect.note
    stack.stop_prefect(guest)
    assert stack.status(stack_settings).prefect.running


def test_a_squatter_on_the_port_gets_nothing(stack_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stack_home)
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        settings = settings_for(stack_home, squatter.getsockname()[1])
        (stack_home / "prefect").mkdir()
        # Not even if it seems to be the process of the record.
        (stack_home / "prefect" / "server.json").write_text(
            f'{{"pid": {os.getpid()}, "port": {settings.prefect_port}}}'
        )
        stack.status(settings)
        with pytest.raises(PrefectError, match="nothing was sent"):
            stack.launch_prefect(settings)
        # Whoever called has hung up by now.
        squatter.setblocking(False)
        received = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                caller, _ = squatter.accept()
                received += caller.recv(1000)
        assert received == b""


@pytest.mark.slow
def test_a_server_of_an_older_version_without_a_key_is_started_anew_also_in_a_home_with_an_odd_name(
    stack_home: Path,
) -> None:
    home = stack_home / "what? 50%, #1; $HOME 'é'"
    settings = settings_for(home)
    (home / "prefect").mkdir(parents=True)
    old = ("prefect.server.api.server:create_app", "--port", str(settings.prefect_port))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *old], cwd=home) as server:
        (home / "prefect" / "server.json").write_text(
            f'{{"pid": {server.pid}, "created": 1.0, "port": {settings.prefect_port}}}'
        )
        assert "older version" in stack.status(settings).prefect.note
        stack.launch_prefect(settings).wait(600)
        assert server.poll() is not None
    assert (home / "prefect" / "prefect.db").exists()
    assert stack.stop_prefect(settings).running


def test_port_taken_by_another_program_is_an_error_that_says_what_to_set(stack_home: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        settings = settings_for(stack_home, other.server_port)
        with pytest.raises(PrefectError, match=f"{other.server_port} .* is taken") as caught:
            stack.launch_prefect(settings)
        assert caught.value.exit_code == 6
        assert "TAXI_INGEST_PREFECT_PORT" in caught.value.hint
        assert "is taken by another program" in stack.status(settings).prefect.note
        other.shutdown()


def test_silent_program_on_the_port_does_not_hang_status(stack_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = settings_for(stack_home, silent.getsockname()[1])
        status = Background(lambda: stack.status(settings)).result()
        assert "is taken by another program" in status.prefect.note


def test_prefect_that_dies_at_start_shows_the_end_of_its_log(stack_home: Path) -> None:
    (stack_home / "prefect").mkdir()
    (stack_home / "prefect" / "prefect.db").write_text("no database" * 100)
    server = stack.launch_prefect(settings_for(stack_home))
    with pytest.raises(PrefectError, match="ended while it was starting") as caught:
        server.wait(600)
    assert "file is not a database" in str(caught.value) + caught.value.hint
    assert str(server.log) in caught.value.hint
