"""No input and no environment ends in a traceback: one sentence, one hint, an exit code, one object."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TRIPS, csv_of
from helpers import PROGRAM, Cli, query, run_cli, run_python
from http_server import Server, serve
from taxi_ingest.cli.failures import explained
from taxi_ingest.errors import SourceError, printable, printable_lines
from taxi_ingest.settings.environment import Settings

SECRET = "gehe1m-4711"


@dataclass(frozen=True)
class Edge:
    """A command line in an environment, and how it ends."""

    command: str
    """For a shell that runs it in a folder of its own; `$T` is the program, `$S` a server's address."""
    code: int
    says: str
    env: dict[str, str] = field(default_factory=dict)


FILE = "--url trips.csv --table t"
EDGES = {
    # The command line
    "unknown option": Edge("$T ingest --bla", 2, "No such option"),
    "unknown command": Edge("$T bla", 2, "No such command"),
    "bad choice": Edge(f"$T ingest {FILE} --if-loaded maybe", 2, "maybe"),
    "no number": Edge("$T undo many", 2, "LOAD_ID"),
    "missing argument": Edge("$T undo", 2, "LOAD_ID"),
    "argument too many": Edge(f"$T undo 1 http://me:{SECRET}@h/x.csv", 2, "One word too many"),
    "file without a table": Edge(f"$T ingest http://me:{SECRET}@h/x.csv", 2, "Which table?"),
    "no file": Edge("$T ingest --table t", 2, "Which file?"),
    "table not UTF-8": Edge("$T ingest --url trips.csv --table $'b\\xff'", 2, "--table is not UTF-8"),
    # Addresses
    "empty": Edge("$T ingest --url '' --table t", 2, "empty"),
    "empty file": Edge("$T ingest ' ' --table t", 2, "empty"),
    "cut login": Edge(f"$T ingest --url http://u:{SECRET}/b@host/x.csv --table t", 2, "can't be read"),
    "bad port": Edge("$T ingest --url http://h:99999/x --table t", 2, "can't be read"),
    "Windows": Edge("$T ingest --url 'C:\\x.csv' --table t", 2, "path of Windows"),
    "no bucket": Edge("$T ingest --url s3:///x.csv --table t", 2, "no proper bucket"),
    "other store": Edge("$T ingest --url hdfs://host/x.csv --table t", 2, "can't be hdfs://"),
    "unknown user's home": Edge("$T ingest --url '~tilde.csv' --table t", 3, "There is no file"),
    "device": Edge("$T ingest --url /dev/zero --table t", 3, "is a device"),
    "name not UTF-8": Edge(
        "touch $'e\\xff\\x1b[31m.csv'; $T ingest --url $'e\\xff\\x1b[31m.csv' --table t", 3, "e\\udcff\\x1b"
    ),
    "empty stdin": Edge("$T ingest --url - --table t </dev/null", 3, "stdin is empty"),
    "closed stdin": Edge("$T ingest --url - --table t <&-", 2, "is closed"),
    # Answers
    "304 to a plain GET": Edge("$T ingest --url $S/304.csv --table t", 3, "answers 304"),
    # Settings
    "port": Edge("$T status", 2, "TAXI_INGEST_PREFECT_PORT is wrong", {"TAXI_INGEST_PREFECT_PORT": "0"}),
    "infinite cache": Edge("$T status", 2, "TAXI_INGEST_CACHE_GB is wrong", {"TAXI_INGEST_CACHE_GB": "inf"}),
    "no cache size": Edge("$T status", 2, "TAXI_INGEST_CACHE_GB is wrong", {"TAXI_INGEST_CACHE_GB": "nan"}),
    "login for no host": Edge(
        "$T status", 2, "special characters", {"TAXI_INGEST_SOURCE_LOGIN": f"https://{SECRET}"}
    ),
    ".env not UTF-8": Edge("printf 'A=\\xff' > .env; $T status", 2, ".env"),
    "cache is a file": Edge(
        f"$T ingest {FILE}", 3, "can't be written", {"TAXI_INGEST_CACHE_DIR": "/dev/null"}
    ),
    "certificates": Edge(f"$T ingest {FILE}", 2, "SSL_CERT_FILE", {"SSL_CERT_FILE": "/none"}),
    # The machine
    "current folder gone": Edge(
        "mkdir gone; cd gone; rmdir ../gone; $T ingest --url x.csv --table t", 3, "current folder"
    ),
    "no memory": Edge(f"ulimit -v 200000; $T ingest {FILE}", 1, "emory"),
    "too little for OpenBLAS": Edge(f"ulimit -v 300000; $T ingest {FILE}", 1, "emory"),
    "too few files for Prefect": Edge(f"ulimit -n 12; timeout 60 $T ingest {FILE}", 1, "ulimit -n"),
    "Prefect's setting": Edge(
        f"$T ingest {FILE}", 6, "request_timeout", {"PREFECT_API_REQUEST_TIMEOUT": "soon"}
    ),
    "Prefect's file": Edge(f"echo '[api' > prefect.toml; $T ingest {FILE}", 6, "prefect.toml"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    folder = tmp_path_factory.mktemp("edges")
    (folder / "trips.csv").write_text(TRIPS)
    with serve(folder) as server:
        server.fault("304.csv", status=304)
        yield folder, server


def shell(command: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "trips.csv").write_text(TRIPS)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "T": PROGRAM, **env}, capture_output=True,
        timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize("name", EDGES)
def test_no_input_and_no_environment_ends_in_a_traceback(
    cli: Cli, world: tuple[Path, Server], embedded_database_url: str, tmp_path: Path, name: str
) -> None:
    del cli
    edge, server = EDGES[name], world[1]
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url, "S": server.url("").rstrip("/"), **edge.env}
    redirected, mark, rest = edge.command.partition(" <")
    done = shell(f"{redirected} --json{mark}{rest}", tmp_path / "here", env)
    assert done.returncode == edge.code, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Error: ", "Hint: "))]
    assert [line.partition(":")[0] for line in lines] == ["Error", "Hint"], done.stderr
    assert edge.says in lines[0] + lines[1]
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert result["status"] == "failed"
    assert f"Error: {result['error']}" == lines[0]
    assert f"Hint: {result['hint']}" == lines[1]
    assert "\x1b" not in done.stderr


LOADS = {
    "stdout full": ("$T ingest {file} > /dev/full", {}, "stdout can't be written: No space left"),
    "stdout closed": ("$T ingest {file} >&-", {}, "stdout can't be written: it is closed"),
    "nobody reads": ("$T ingest {file} | true; exit ${PIPESTATUS[0]}", {}, "Broken pipe"),
    "stderr full": ("$T ingest {file} 2>/dev/full", {}, ""),
    "all closed": ("$T ingest {file} <&- >&- 2>&-", {}, ""),
    "ASCII, few files": (
        "ulimit -n 64; $T ingest {file}ü…",
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        "",
    ),
    "HOME unset": ("unset HOME; $T ingest {file}", {}, ""),
    "HOME empty": ("$T ingest {file}", {"HOME": ""}, ""),
    "nothing there": ("$T ingest {file}", {"HOME": "/proc/none", "TMPDIR": "/none"}, ""),
    "HOME missing, quiet": (
        "$T ingest {file} --quiet 2>said; cat said >&2; ! test -s said",
        {"HOME": "/none/x"},
        "",
    ),
    "HOME odd, .env a folder": ("mkdir -p 'h %?,ü#' .env; HOME=\"$PWD/h %?,ü#\" $T ingest {file}", {}, ""),
    "process substitution": ("$T ingest --url <(cat trips.csv) --table t", {}, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOADS)
def test_what_has_been_loaded_ends_with_0_wherever_it_runs(
    cli: Cli, embedded_database_url: str, tmp_path: Path, name: str
) -> None:
    del cli
    command, env, says = LOADS[name]
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url, **env}
    done = shell(command.replace("{file}", FILE), tmp_path / "here", env)
    assert done.returncode == 0, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert query(embedded_database_url, "SELECT sum(rows_loaded) FROM taxi_ingest.loads") == [(2,)]


@pytest.mark.parametrize(
    ("redirect", "code", "says"),
    [
        (">/dev/full", 1, "No space left"),
        (">&-", 1, "it is closed"),
        ("| true; exit ${PIPESTATUS[0]}", 0, ""),
        (">/dev/full 2>/dev/full", 1, ""),
    ],
)
def test_what_only_shows_something_fails_where_it_cannot(
    tmp_path: Path, redirect: str, code: int, says: str
) -> None:
    done = shell(f"$T status {redirect}", tmp_path / "here", {})
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (code, True, False)


def test_the_same_bytes_through_a_pipe_are_skipped(cli: Cli, trips: Path, embedded_database_url: str) -> None:
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    arguments = ("ingest", "--url", "-", "--table", "green", "--json")
    first, again, other = (
        json.loads(cli(*arguments, env=env, input=text).stdout) for text in (TRIPS, TRIPS, TRIPS + "3,,1\n")
    )
    assert [result["status"] for result in (first, again, other)] == ["loaded", "skipped", "loaded"]
    assert first["url"] == again["url"] == f"pipe:{first['sha256']}"
    assert json.loads(cli(*arguments[:2], trips, *arguments[3:], env=env).stdout)["status"] == "skipped"


def test_standard_input_that_is_a_terminal_is_a_usage_error() -> None:
    main, terminal = pty.openpty()
    done = subprocess.run(
        [PROGRAM, "ingest", "--url", "-", "--table", "t"], stdin=terminal, capture_output=True, text=True
    )
    os.close(terminal)
    os.close(main)
    assert (done.returncode, "is a terminal" in done.stderr) == (2, True), done.stderr


def test_what_nobody_foresaw_is_one_sentence_and_its_traceback_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_INGEST_HOME", str(tmp_path / "home"))
    try:
        raise KeyError(f"no\x1b[2Jthing at http://me:{SECRET}@host/x")
    except KeyError as error:
        message, hint, code = explained(error)
    assert (code, "\n" in message) == (1, False)
    assert message.startswith("taxi-ingest has met a bug: KeyError")
    log = tmp_path / "home" / "bug.log"
    assert str(log) in hint
    assert "test_edges.py" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert SECRET not in message + log.read_text()
    assert "\x1b" not in message


@pytest.mark.parametrize(
    ("error", "says", "hint"),
    [
        (OSError(28, "No space left on device", "/tmp/x"), "No space left on device: /tmp/x", "TMPDIR"),
        (OSError(24, "Too many open files"), "Too many open files", "ulimit -n"),
        (MemoryError(), "not enough memory", "ulimit -v"),
        (RuntimeError("can't start new thread"), "another thread", "ulimit -u"),
        (RecursionError("deep"), "a bug: RecursionError", "report"),
    ],
)
def test_what_the_system_refuses_is_no_bug(error: Exception, says: str, hint: str) -> None:
    message, advice, code = explained(error)
    assert (says in message, hint in advice, code) == (True, True, 1)


@given(st.text())
def test_no_text_reaches_a_terminal_that_it_would_obey(text: str) -> None:
    assert all(ord(character) >= 32 and not 0x7F <= ord(character) <= 0x9F for character in printable(text))
    assert printable(printable(text)) == printable(text)
    assert printable_lines(text).count("\n") == text.count("\n")
    printable(text).encode()


def test_an_error_shows_what_it_names_and_sends_nothing() -> None:
    assert str(SourceError("a\x1b]0;x\x07\u202eb\r", "c\x9bd")) == "a\\x1b]0;x\\x07\\u202eb\\r"
    assert SourceError("a", "c\x9bd").hint == "c\\x9bd"


ODD_TABLES = ["[red]x[/] [link=http://a]y", "a\x1b[31mb", "[/] {task} %s", "a\x1b[31mb"]


@pytest.mark.parametrize("terminal", [True, False])
def test_table_names_are_shown_as_they_are_and_obeyed_by_nobody(
    cli: Cli, trips: Path, embedded_database_url: str, terminal: bool
) -> None:
    del cli
    for table in ODD_TABLES[:2] if terminal else ODD_TABLES[2:]:
        command = [PROGRAM, "ingest", "--url", str(trips), "--table", table]
        env = {**os.environ, "TAXI_INGEST_DATABASE_URL": embedded_database_url, "TERM": "xterm-256color"}
        if terminal:
            command = [
                "script",
                "-qec",
                f"stty cols 200; exec {subprocess.list2cmdline(command)}",
                "/dev/null",
            ]
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
        shown = done.stdout + done.stderr
        assert done.returncode == 0, shown
        assert printable(table) in shown
        assert "\x1b[31mb" not in shown
        assert "\x1b]8;" not in shown.replace("\x1b]8;;\x1b", "")


def test_env_sets_what_the_environment_does_not(
    cli: Cli, trips: Path, tmp_path: Path, embedded_database_url: str
) -> None:
    folder = tmp_path / "with env"
    folder.mkdir()
    (folder / ".env").write_text(
        f"TAXI_INGEST_DATABASE_URL='{embedded_database_url}'\nTAXI_INGEST_PREFECT_PORT=\nX=1\n"
    )
    done = cli("ingest", "--url", trips, "--table", "green", "--json", cwd=folder)
    assert json.loads(done.stdout)["status"] == "loaded", done.stderr
    assert query(embedded_database_url, "SELECT count(*) FROM green") == [(2,)]


@pytest.mark.parametrize(("flags", "gb", "kept"), [((), "1", 1), (("--no-cache",), "1", 0), ((), "0", 0)])
def test_downloads_are_kept_as_far_as_told(
    cli: Cli,
    trips: Path,
    server: Server,
    tmp_path: Path,
    embedded_database_url: str,
    flags: tuple[str, ...],
    gb: str,
    kept: int,
) -> None:
    cache = tmp_path / "cache"
    env = {
        "TAXI_INGEST_DATABASE_URL": embedded_database_url,
        "TAXI_INGEST_CACHE_DIR": str(cache),
        "TAXI_INGEST_CACHE_GB": gb,
    }
    done = cli("ingest", "--url", server.url(trips.name), "--table", "green", "--quiet", *flags, env=env)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert len(list(cache.glob("files/*/content"))) == kept
    assert list(cache.glob("runs/*")) == []


@pytest.mark.slow
def test_a_login_in_a_url_opens_its_host_and_is_left_nowhere(
    cli: Cli, trips: Path, tmp_path: Path, server: Server, embedded_database_url: str, settings: Settings
) -> None:
    login = f"me:{SECRET}"
    with serve(tmp_path, login=login) as closed:
        closed.fault("moved.csv", redirect_to=server.url(trips.name))
        origin = closed.url("").rstrip("/").replace("http://", f"http://{login}@")
        plain = closed.url("").rstrip("/")
        env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
        printed = ""
        for url, setting, status in (
            (f"{origin}/{trips.name}", "", "loaded"),
            (f"{origin}/moved.csv", "", "skipped"),
            (f"{plain}/{trips.name}", origin, "skipped"),
            (f"{plain}/{trips.name}", f"http://{login}@127.0.0.1:1", "failed"),
            (server.url(trips.name), origin, "skipped"),
        ):
            arguments = ("ingest", "--url", url, "--table", "green", "--json", "--no-cache")
            done = cli(*arguments, env={**env, "TAXI_INGEST_SOURCE_LOGIN": setting})
            assert json.loads(done.stdout)["status"] == status, done.stderr
            printed += done.stdout + done.stderr
    assert {request.headers.get("Authorization") for request in server.requests} == {None}
    assert SECRET not in printed
    ledger = query(embedded_database_url, "SELECT loads::text FROM taxi_ingest.loads AS loads")
    assert SECRET not in str(ledger)
    for folder in (settings.home, settings.cache_dir):
        for path in folder.rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_without_any_home_folder_it_says_so(tmp_path: Path) -> None:
    program = "import os; os.getuid = lambda: 987654; from taxi_ingest.__main__ import main; main()"
    file = csv_of(tmp_path, "n", "1")
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "PREFECT_HOME")}
    for home in ({}, {"TAXI_INGEST_HOME": "", "TAXI_INGEST_CACHE_DIR": ""}):
        for command in ("status", "loads", f"ingest --url {file} --table t"):
            done = run_python(program, *command.split(), "--json", env={**env, **home})
            assert "Traceback" not in done.stderr
            if home or command != "status":
                assert (done.returncode, "home folder" in json.loads(done.stdout)["error"]) == (2, True)


def test_an_interrupt_while_it_starts_ends_without_a_traceback() -> None:
    interrupted = """
import sys
class Interrupting:
    def find_spec(self, name, *rest):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from taxi_ingest.__main__ import main
main()
"""
    done = run_python(interrupted)
    assert (done.returncode, done.stdout) == (130, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["Error", "Hint"]


@pytest.mark.parametrize(
    "command",
    [
        "loads",
        "undo 1",
        "zones",
        "up",
        "down",
        "status",
        "ui",
        "rejects 1",
        "blocks ls",
        "blocks check x",
        "blocks create",
    ],
)
def test_every_command_fails_in_one_object(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()
    env = {"TAXI_INGEST_HOME": str(tmp_path / "file" / "x"), "TAXI_INGEST_PREFECT_PORT": "none"}
    done = run_cli(*command.split(), "--json", env=env)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]
    assert done.stdout.count("\n") == 1
