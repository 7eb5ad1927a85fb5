"""The local stack by command line: up, down while loads run, and which database a block is made of."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from helpers import PASSWORD, PROGRAM, Cli, free_port, query, run_cli, start_cli, until
from taxi_ingest import stack
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack import use_of_stack, without_loads
from taxi_ingest.stack.residents import await_end


@dataclass
class World:
    """A local database of its own, and loads into it that go on when they are told."""

    settings: Settings
    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return start_cli(*arguments, env=self.environment, cwd=self.folder)

    def load(self, table: str) -> "subprocess.Popen[str]":
        """Begin a load, up to its first row."""
        step = ("--transform", "slow:step")
        process = self.start("ingest", "--url", "trips.csv", "--table", table, "--json", *step)
        until((self.folder / "begun").exists, process=process)
        return process

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def database_runs(self) -> bool:
        return stack.status(self.settings).database.running


@pytest.fixture
def world(
    prefect_server: str, settings: Settings, tmp_path: Path, trips: Path, home: Path
) -> Iterator[World]:
    """Prefect's server is the tests' own, so that `down` here does not stop it."""
    trips.rename(tmp_path / "trips.csv")
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def step(trips):\n"
        "    pathlib.Path('begun').touch()\n"
        "    while not pathlib.Path('go').exists():\n"
        "        time.sleep(0.05)\n"
        "    return trips\n"
    )
    own_stack = Settings(home=home, prefect_port=free_port())
    own = {
        "TAXI_INGEST_HOME": str(own_stack.home),
        "TAXI_INGEST_PREFECT_PORT": str(own_stack.prefect_port),
        "PREFECT_API_URL": prefect_server,
        "PREFECT_API_AUTH_STRING": str(stack.prefect_key(settings)),
        "PYTHONPATH": str(tmp_path),
    }
    yield World(own_stack, tmp_path, own)
    stack.stop(own_stack, force=True)


def test_down_says_that_a_load_runs_and_waits_for_it_unless_interrupted(world: World) -> None:
    load = world.load("green")
    given_up = world.start("down")
    assert given_up.stderr
    given_up.stderr.readline()
    given_up.send_signal(signal.SIGINT)
    given_up.communicate(timeout=100)
    assert (given_up.returncode, world.database_runs()) == (130, True)
    down = world.start("down", "--json")
    assert down.stderr
    assert "A load runs (table green): waiting for" in down.stderr.readline()
    assert (down.poll(), world.database_runs()) == (None, True)
    world.go_on()
    loaded, _ = load.communicate(timeout=100)
    assert json.loads(loaded)["status"] == "loaded"
    told, _ = down.communicate(timeout=100)
    assert json.loads(told) == {"database_stopped": True, "prefect_stopped": False, "loads_ended": []}
    assert not world.database_runs()


@pytest.mark.slow
def test_down_by_force_ends_the_load_which_does_not_start_the_database_again(world: World) -> None:
    load = world.load("green")
    down = world.start("down", "--force", "--json")
    until(lambda: not world.database_runs(), process=down)
    world.go_on()
    failed, stderr = load.communicate(timeout=100)
    told, _ = down.communicate(timeout=100)
    assert json.loads(told)["loads_ended"] == ["green"]
    assert (load.returncode, json.loads(failed)["status"]) == (5, "failed")
    assert "was stopped while the load ran (taxi-ingest down --force)" in json.loads(failed)["error"]
    assert "Retry " not in stderr  # Prefect's word of a try to come
    assert not world.database_runs()
    again = world.start("ingest", "--url", "trips.csv", "--table", "green", "--json")
    assert json.loads(again.communicate(timeout=100)[0])["status"] == "loaded"
    assert query(stack.start_database(world.settings), "SELECT count(*) FROM green") == [(2,)]


def test_down_waits_for_no_load_that_was_killed(world: World) -> None:
    load = world.load("green")
    load.kill()
    load.communicate()
    done = world.start("down")
    _, stderr = done.communicate(timeout=100)
    assert (done.returncode, stderr, world.database_runs()) == (0, "", False)


def test_no_load_begins_while_down_stops_the_stack(settings: Settings) -> None:
    begins = (
        "from taxi_ingest import Settings, stack\n"
        "print('begins', flush=True)\n"
        "with stack.use_of_stack('green', Settings()):\n"
        "    stack.enter()\n"
    )
    with without_loads(settings, force=False, on_wait=lambda _: None):
        other = subprocess.Popen([sys.executable, "-c", begins], stdout=subprocess.PIPE, text=True)
        assert other.stdout
        assert other.stdout.readline() == "begins\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
    assert other.communicate(timeout=100)[0] == ""
    assert other.returncode == 0


def test_down_knows_all_loads_and_forgets_those_that_ended(settings: Settings) -> None:
    with use_of_stack("a", settings):
        stack.enter()
        with use_of_stack("[b]", settings):
            stack.enter()
            with without_loads(settings, force=True, on_wait=lambda _: None) as ended:
                assert ended == ["[b]", "a"]
    with without_loads(settings, force=False, on_wait=lambda _: None) as ended:
        assert ended == []


@pytest.fixture
def own(home: Path, settings: Settings, prefect_server: str) -> Iterator[dict[str, str]]:
    """The environment of a local database of its own, with a port; Prefect is the tests' own."""
    variables = {
        "TAXI_INGEST_HOME": str(home),
        "TAXI_INGEST_POSTGRES_PORT": str(free_port()),
        "PREFECT_API_URL": prefect_server,
        "PREFECT_API_AUTH_STRING": str(stack.prefect_key(settings)),
    }
    own_settings = Settings(home=home, postgres_port=int(variables["TAXI_INGEST_POSTGRES_PORT"]))
    stack.start_database(own_settings)
    yield variables
    stack.stop_database(own_settings)


def test_status_says_how_programs_connect_and_shows_the_password_only_when_asked(
    home: Path, own: dict[str, str]
) -> None:
    password = (home / "postgres.password").read_text().strip()
    place = f"127.0.0.1:{own['TAXI_INGEST_POSTGRES_PORT']}/ny_taxi"
    shown = run_cli("status", env=own).stdout
    assert f"psql postgresql://postgres@{place}\n" in shown
    assert f"postgresql+psycopg2://postgres@{place}\n" in shown
    assert f"jdbc:postgresql://{place}?user=postgres\n" in shown
    told = run_cli("status", "--json", env=own).stdout
    assert password not in shown + told
    assert "password" not in json.loads(told)["connect"]
    assert password in run_cli("status", "--show-password", env=own).stdout
    ways = json.loads(run_cli("status", "--show-password", "--json", env=own).stdout)["connect"]
    assert ways["password"] == password
    assert query(ways["sqlalchemy"].replace("+psycopg2", ""), "SELECT 1") == [(1,)]


def test_status_of_a_database_without_a_port_names_its_socket(embedded_url: str, cli: Cli) -> None:
    shown = cli("status", "--show-password").stdout
    assert f"psql '{embedded_url}'" in shown
    assert "needs a port: `taxi-ingest up --port 5433`" in shown


def test_psql_opens_the_embedded_database_and_is_psql_from_then_on(own: dict[str, str]) -> None:
    done = run_cli("psql", "--", "-XAtc", "SELECT current_database(), 'a b'", env=own)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ny_taxi|a b\n", "")
    assert run_cli("psql", "--", "-Xc", "SELECT 1/0", env=own).returncode == 1
    assert run_cli("psql", "--", "-X", env=own, input="SELECT 6 * 7 AS answer;\n").stdout.count("42") == 1


def test_a_statement_without_its_flag_is_not_taken_by_psql_for_a_role(own: dict[str, str]) -> None:
    done = run_cli("psql", "SELECT 1", env=own)
    assert (done.returncode, "taxi-ingest psql -- -c 'SELECT 1'" in done.stderr) == (2, True)


def test_psql_of_the_wheel_is_opened_where_the_machine_has_none(own: dict[str, str]) -> None:
    done = run_cli("psql", "--", "-XAtc", "SELECT 1", env={**own, "PATH": "/nowhere"})
    assert (done.returncode, done.stdout) == (0, "1\n")


@pytest.mark.parametrize("way", ["url", "environment", "block"])
def test_psql_gets_the_password_where_no_list_of_processes_shows_it(
    cli: Cli, system_url: str, way: str
) -> None:
    flags = {"url": ("--database-url", system_url), "block": ("--block", "shell"), "environment": ()}[way]
    if way == "block":
        made = cli("blocks", "create", "--name", "shell", "--database-url", system_url, "--overwrite")
        assert made.returncode == 0
    environment = {"TAXI_INGEST_DATABASE_URL": system_url} if way == "environment" else {}
    waits = ("--", "-XAtc", "SELECT inet_server_port()", "-c", "SELECT pg_sleep(100)")
    shell = start_cli("psql", *flags, *waits, env=environment)
    assert shell.stdout
    assert shell.stdout.readline() == f"{system_url.rpartition(':')[2].partition('/')[0]}\n"
    arguments = psutil.Process(shell.pid).cmdline()
    assert PASSWORD not in " ".join(arguments)
    assert Path(arguments[0]).name == "psql"
    shell.send_signal(signal.SIGTERM)
    shell.communicate(timeout=60)
    assert shell.returncode == -signal.SIGTERM


def test_psql_refuses_secrets_that_it_could_only_show(cli: Cli) -> None:
    url = "postgresql://me@localhost/taxi?sslpassword=planted"
    done = cli("psql", "--database-url", url)
    assert (done.returncode, "sslpassword" in done.stderr, "planted" in done.stderr) == (2, True, False)


def test_down_deletes_nothing_unasked_where_nobody_can_answer(home: Path, own: dict[str, str]) -> None:
    done = run_cli("down", "--remove-data", "--json", env=own)
    assert done.returncode == 2
    assert f"data in {home}, " in json.loads(done.stdout)["error"]
    assert "--yes" in json.loads(done.stdout)["hint"]
    assert (home / "postgres" / "data").exists()
    assert run_cli("psql", "--", "-XAtc", "SELECT 1", env=own).stdout == "1\n"


@pytest.mark.parametrize(("answer", "exists"), [("\n", True), ("y\n", False)])
def test_down_asks_at_a_terminal_before_it_deletes(
    home: Path, own: dict[str, str], monkeypatch: pytest.MonkeyPatch, answer: str, exists: bool
) -> None:
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    code, seen = at_a_terminal(("[y/N]: ", answer), arguments=("down", "--remove-data"))
    assert (code, (home / "postgres").exists()) == (0, exists), seen
    assert "for good: " in seen
    assert str(home / "postgres" / "data") in seen


def test_down_deletes_at_a_scripts_word(home: Path, own: dict[str, str]) -> None:
    done = run_cli("down", "--remove-data", "--yes", "--json", env=own)
    told = json.loads(done.stdout)
    assert (done.returncode, told["database_stopped"], told["left"]) == (0, True, [])
    assert str(home / "postgres" / "data") in {part["path"] for part in told["removed"]}
    assert not home.exists()
    again = run_cli("down", "--remove-data", "--json", env=own)
    assert (again.returncode, json.loads(again.stdout)["removed"]) == (0, [])


def test_up_takes_one_of_port_and_no_port(cli: Cli) -> None:
    assert cli("up", "--port", "5433", "--no-port").returncode == 2


def test_a_zombie_has_ended() -> None:
    """As a server in a container is whose process 1 asks for nobody's end."""
    begins = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", begins], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    found = psutil.Process(int(parent.stdout.readline()))
    assert await_end([found], 0.1)
    found.kill()
    assert not await_end([found], 60)
    assert found.status() == psutil.STATUS_ZOMBIE
    parent.communicate("")


@pytest.mark.slow
def test_up_starts_both_servers_and_down_stops_them(home: Path) -> None:
    own = {"TAXI_INGEST_HOME": str(home), "TAXI_INGEST_PREFECT_PORT": str(free_port())}

    def told(*arguments: str) -> dict[str, object]:
        done = run_cli(*arguments, "--json", env=own)
        assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
        return dict(json.loads(done.stdout))

    stopped = told("status")
    assert (stopped["database_running"], stopped["prefect_running"]) == (False, False)
    try:
        started = told("up")
        assert (started["database_running"], started["prefect_running"]) == (True, True)
        assert told("up") == started == {name: told("status")[name] for name in started}
        assert query(str(started["database"]), "SELECT current_database()") == [("ny_taxi",)]
        assert run_cli("up", "--quiet", env=own).stdout == ""
    finally:
        ended = told("down")
    assert (ended["database_stopped"], ended["prefect_stopped"]) == (True, True)
    assert told("status") == stopped
    assert told("down") == {"database_stopped": False, "prefect_stopped": False, "loads_ended": []}
    assert "was not running" in run_cli("down", env=own).stdout


def test_a_block_is_made_of_no_database_unasked(cli: Cli) -> None:
    done = cli("blocks", "create", "--name", "unasked")
    assert (done.returncode, done.stdout) == (2, "")
    for way in ("--host", "--database-url", "TAXI_INGEST_DATABASE_URL", "--embedded"):
        assert way in " ".join(done.stderr.split())
    assert "unasked" not in cli("blocks", "ls").stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--embedded",), "/ny_taxi?"), ((), "/test_")],
)
def test_a_block_is_made_of_the_database_that_is_named(
    cli: Cli, embedded_database_url: str, arguments: tuple[str, ...], named: str
) -> None:
    environment = {} if arguments else {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    done = cli("blocks", "create", "--name", "named", "--overwrite", *arguments, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert named in done.stdout


def test_a_database_named_in_two_ways_is_refused(cli: Cli) -> None:
    for second in (("--host", "localhost"), ("--database-url", "postgresql://localhost/x")):
        done = cli("blocks", "create", "--embedded", *second)
        assert (done.returncode, "named twice" in done.stderr) == (2, True)


def at_a_terminal(*answers: tuple[str, str], arguments: tuple[str, ...]) -> tuple[int, str]:
    """Run a command at a terminal and answer its questions; returns exit code and all that was seen."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(PROGRAM, [PROGRAM, *arguments])
    seen, given, deadline = "", "", time.monotonic() + 100
    waiting = list(answers)
    while time.monotonic() < deadline:
        if terminal not in select.select([terminal], [], [], 1)[0]:
            if given == "\x03":
                # Python may miss one that strikes just before it waits for input.
                os.write(terminal, given.encode())
            continue
        try:
            seen += os.read(terminal, 10_000).decode()
        except OSError:  # its end
            break
        if waiting and seen.endswith(waiting[0][0]):
            given = waiting.pop(0)[1]
            os.write(terminal, given.encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seen


def test_at_a_terminal_bare_blocks_create_asks_which_database(cli: Cli, system_url: str) -> None:
    place, _, database = system_url.rpartition("/")
    user, password, host, port = place.removeprefix("postgresql://").replace("@", ":").split(":")
    code, seen = at_a_terminal(
        ("own Postgres? [Y/n]: ", "n\n"),
        ("Host [localhost]: ", f"{host}\n"),
        ("Port [5432]: ", f"{port}\n"),
        ("]: ", f"{user}\n"),
        ("Database [ny_taxi]: ", f"{database}\n"),
        ("Password: ", f"{password}\n"),  # the blank comes when the terminal echoes no more
        arguments=("blocks", "create", "--name", "asked"),
    )
    assert code == 0, seen
    assert f"Saved block asked: postgresql://{user}@{host}:{port}/{database}" in seen
    assert password not in seen
    assert cli("blocks", "check", "asked").returncode == 0


def test_at_a_terminal_the_local_stacks_database_is_one_key_away(prefect_server: str) -> None:
    del prefect_server
    answer = ("own Postgres? [Y/n]: ", "\n")
    code, seen = at_a_terminal(answer, arguments=("blocks", "create", "--name", "own", "--overwrite"))
    assert (code, "Saved block own: " in seen) == (0, True), seen


def test_an_interrupt_at_a_question_saves_nothing(cli: Cli) -> None:
    answer = ("own Postgres? [Y/n]: ", "\x03")
    code, seen = at_a_terminal(answer, arguments=("blocks", "create", "--name", "asked-in-vain"))
    assert (code, "Interrupted" in seen) == (130, True), seen
    assert "asked-in-vain" not in cli("blocks", "ls").stdout
