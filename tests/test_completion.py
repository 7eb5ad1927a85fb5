"""What a TAB offers: to the program that shells ask, and in the shells themselves."""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pexpect
import pytest

from helpers import PROGRAM, loaded, run_cli, run_python
from prefect_runs import block
from taxi_ingest.load import Database
from taxi_ingest.tlc.sample import write_sample

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|\(B|[=>])")


def offered(*words: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> list[str]:
    """What is offered for the last word, as bash asks for it; the others stand before it."""
    typed = {"COMP_WORDS": "\n".join(("taxi-ingest", *words)), "COMP_CWORD": str(len(words))}
    done = run_cli(env={**typed, "_TAXI_INGEST_COMPLETE": "complete_bash", **(env or {})}, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("ba", ["backfill"]),
        ("blocks ", ["create", "ls", "check", "rm"]),
        ("help blocks cr", ["create"]),
        ("ingest --max", ["--max-rejects", "--max-failures"]),
        ("ingest --names ", ["tlc", "snake", "lower"]),
        ("ingest --dataset f", ["fhv", "fhvhv"]),
        ("ingest --dataset green --month 2013-", [f"2013-{month:02}" for month in range(12, 7, -1)]),
        ("backfill ", ["yellow", "green", "fhv", "fhvhv"]),
        ("backfill green yel", ["yellow"]),
        ("backfill green 2013-1", ["2013-10", "2013-11", "2013-12"]),
        ("backfill green 2013-10", ["2013-10", "2013-10.."]),
        ("backfill green 2013-12..2014-0", [f"2013-12..2014-0{month}" for month in range(1, 10)]),
        ("backfill green 2014-11..2013", []),
        ("backfill green al", ["all"]),
        ("report --dataset green --month 2013-08..201", [f"2013-08..201{year}" for year in range(3, 10)]),
        ("schedule gr", ["green"]),
        ("schedule s", ["serve"]),
        ("schedule rm gr", ["green"]),
        ("status --dataset gr", ["green"]),
        ("loads --table gr", ["green_tripdata"]),
        ("ingest tri", []),
        ("undo 7 --js", ["--json"]),
    ],
)
def test_what_is_offered(words: str, found: list[str]) -> None:
    assert offered(*words.split(" ")) == found


def test_tables_and_loads_are_those_of_the_database(embedded_database: Database, tmp_path: Path) -> None:
    file = write_sample("green", "2024-01", tmp_path / "green_tripdata_2024-01.parquet", 20)
    first = loaded(file, embedded_database, "rides")
    second = loaded(file, embedded_database, "rides_of_others")
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database.address}
    assert offered("loads", "--table", "r", env=env) == ["rides_of_others", "rides"]
    numbers = [str(second.record.load_id), str(first.record.load_id)]
    assert offered("undo", "", env=env) == numbers
    assert offered("undo", "--database-url", embedded_database.address, "") == numbers


def test_blocks_are_those_of_the_local_server(api: str, embedded_database_url: str) -> None:
    del api
    block(embedded_database_url, "warehouse")
    assert offered("ingest", "--block", "ware") == ["warehouse"]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A Postgres that lets one connect, and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"postgresql://me@127.0.0.1:{server.getsockname()[1]}/taxi"


@pytest.mark.parametrize("url", ["postgresql://me@127.0.0.1:1/taxi", "postgres", "", None])
def test_a_database_that_does_not_answer_is_no_error_and_not_waited_for(
    url: str | None, silent_server: str
) -> None:
    env = {"TAXI_INGEST_DATABASE_URL": silent_server if url is None else url}
    assert offered("loads", "--table", "gr", env=env) == ["green_tripdata"]
    assert offered("undo", "", env=env) == []


def test_wrong_settings_are_no_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    for env in ({"TAXI_INGEST_PREFECT_PORT": "many"}, {"HOME": ""}, {}):
        assert offered("ingest", "--block", "", env=env, cwd=tmp_path) == []
        assert offered("loads", "--table", "gr", env=env, cwd=tmp_path) == ["green_tripdata"]


def test_nothing_is_started_or_written(tmp_path: Path) -> None:
    env = {"TAXI_INGEST_HOME": str(tmp_path / "home"), "TAXI_INGEST_CACHE_DIR": str(tmp_path / "cache")}
    for words in (("undo", ""), ("ingest", "--block", ""), ("ingest", "--month", "")):
        offered(*words, env=env)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["backfill yel", "backfill yellow 2023-", "loads --table gr"])
def test_an_answer_needs_no_heavy_import(words: str) -> None:
    code = (
        "import sys; from taxi_ingest.cli import app\n"
        "try: app(prog_name='taxi-ingest')\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    asked = {"COMP_WORDS": f"taxi-ingest {words}", "COMP_CWORD": str(len(words.split()))}
    done = run_python(code, env={**os.environ, **asked, "_TAXI_INGEST_COMPLETE": "complete_bash"})
    assert done.stdout.strip()
    assert {"prefect", "pandas", "pyarrow", "matplotlib"} & set(done.stderr.split()) == set()


class Shell:
    """An interactive shell in a terminal of 100 columns, whose home is a folder of the test."""

    def __init__(self, name: str, home: Path, url: str) -> None:
        path = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        own = {"HOME": str(home), "PATH": path, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self._process = pexpect.spawn(
            shutil.which(name),
            ["-i"],
            env={**kept, **own, "TAXI_INGEST_DATABASE_URL": url, "TAXI_INGEST_HOME": str(home / "stack")},
            cwd=home,
            encoding="utf-8",
            dimensions=(60, 100),
            timeout=60,
        )
        self.type("echo re''ady\r", "ready")

    def type(self, keys: str, wanted: str) -> None:
        """Press these keys, and wait until the terminal shows this."""
        self._process.send(keys)
        shown = ""
        while wanted not in ESCAPES.sub("", shown):
            try:
                shown += self._process.read_nonblocking(10_000, timeout=60)
            except pexpect.TIMEOUT:
                pytest.fail(f"{wanted!r} does not come after {keys!r}, but {shown!r}")

    def clear(self) -> None:
        """Begin another line."""
        self._process.send("\x03")
        self.type("echo cle''ared\r", "cleared")

    def close(self) -> None:
        self._process.close(force=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_completes_what_is_typed_once_that_is_installed(
    name: str, embedded_database: Database, tmp_path: Path
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    file = write_sample("green", "2024-01", tmp_path / "green_tripdata_2024-01.parquet", 20)
    loaded(file, embedded_database, "rides_of_others")
    with closing(Shell(name, tmp_path, embedded_database.address)) as shell:
        shell.type("taxi-ingest --install-completion\r", f"{name} completion installed in")
    with closing(Shell(name, tmp_path, embedded_database.address)) as shell:
        for keys, wanted in (
            ("taxi-ingest ba\t", "ckfill"),
            ("taxi-ingest backfill yel\t", "low"),
            ("taxi-ingest backfill yellow 2023-\t\t", "2023-12"),
            ("taxi-ingest ingest --max-f\t", "ailures"),
            ("taxi-ingest blocks cr\t", "eate"),
            ("taxi-ingest report --table ride\t", "s_of_others"),
            ("taxi-ingest undo \t", "1"),
            ("taxi-ingest ingest green_tripd\t", "ata_2024-01.parquet"),
        ):
            shell.type(keys, wanted)
            shell.clear()
