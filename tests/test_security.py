"""What is secret stays so: on every path, from every neighbour, whatever the environment."""

import http.client
import http.server
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg2
import pytest

from helpers import PROGRAM, QUICK, Cli, execute, free_port, query, run_program, run_python, until
from http_server import Server
from taxi_ingest import stack
from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import database_at
from taxi_ingest.load.database import address_of
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack.account import runnable

SECRET = "planted-90210"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")


# Addresses

SECRET_ADDRESSES = [
    f"postgresql://me:{SECRET}@h/db",
    f"postgresql://me@h/db?password={SECRET}",
    f"postgresql://me@h/db?sslmode=require&sslpassword={SECRET}",
    f"postgresql+psycopg2://me:{SECRET}@h:1/db",
    f"host=h user=me password={SECRET} dbname=db",
    f"postgresql://me@h/db?oauth_client_secret={SECRET}",
    f"postgresql://me@h/db?options=-c%20app.secret%3D{SECRET}",
]


@pytest.mark.parametrize("url", SECRET_ADDRESSES)
def test_no_secret_of_an_address_is_shown(url: str) -> None:
    try:
        shown = str(stack.psql_command(address_of(url))) + repr(database_at(url))
    except DatabaseError as refused:  # by a libpq that is too old for this parameter
        shown = str(refused) + refused.hint
    assert SECRET not in shown


def test_what_is_no_secret_of_an_address_stays(cli: Cli) -> None:
    url = "postgresql://me@h:1/db?sslmode=require&options=-csearch_path%3Dx"
    assert address_of(url) == "postgresql://me@h:1/db?options=-csearch_path%3Dx&sslmode=require"
    bad = f"postgresql://me@127.0.0.1:1/db?sslpassword={SECRET}"
    done = cli("blocks", "create", "--name", "open", "--database-url", bad)
    assert (done.returncode, "in the clear" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    "password", ["left@right", "left/right", "left/right@more", "lef%zzright", "left:right@", "le ft=right"]
)
@pytest.mark.parametrize("form", ["postgresql://me:{}@127.0.0.1:1/db", "mysql://me:{}@h/db", "me:{}@h/db"])
def test_a_url_that_cannot_be_read_is_not_repeated_in_parts(form: str, password: str) -> None:
    with pytest.raises(DatabaseError) as failure, database_at(form.format(password)).connect():
        pass
    shown = str(failure.value) + failure.value.hint
    assert [part for part in ("left", "lef", "right", "more") if part in shown] == []


@pytest.mark.parametrize("url", [f"postgresql://me:{SECRET}/db", f"host=h,i port=1,{SECRET}"])
def test_a_password_in_the_place_of_the_port_is_not_repeated(url: str) -> None:
    with pytest.raises(DatabaseError) as failure, database_at(url).connect():
        pass
    assert SECRET not in str(failure.value) + failure.value.hint


# The local Prefect server


def ask(settings: Settings, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, str]:
    """Status, body and policy of an answer of the local server; `Host` is what a browser would send."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.prefect_port, timeout=10)
    sent = {"content-type": "application/json", "Host": f"127.0.0.1:{settings.prefect_port}", **headers}
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers["content-security-policy"] or ""


def key_of(settings: Settings) -> str:
    return (settings.home / "prefect" / "key").read_text().strip()


def authorization(key: str) -> str:
    return f"Basic {b64encode(key.encode()).decode()}"


BLOCKS = ("POST", "/api/block_documents/filter", '{"include_secrets": true}')


def test_the_blocks_are_given_to_whoever_has_the_key_and_to_nobody_else(
    prefect_server: str, settings: Settings
) -> None:
    del prefect_server
    key = authorization(key_of(settings))
    assert ask(settings, *BLOCKS, Authorization=key)[0] == 200
    assert ask(settings, *BLOCKS)[0] == 401
    assert ask(settings, *BLOCKS, Authorization=authorization("guessed"))[0] == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_host_name_is_refused_even_with_the_key(
    prefect_server: str, settings: Settings, host: str
) -> None:
    del prefect_server
    key = authorization(key_of(settings))
    named = host.format(port=settings.prefect_port)
    for path in ("/", "/api/health", "/taxi-ingest/login"):
        assert ask(settings, "GET", path, Host=named, Authorization=key)[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost"])
def test_pages_of_other_sites_are_refused_even_with_the_key(
    prefect_server: str, settings: Settings, origin: str
) -> None:
    del prefect_server
    key = authorization(key_of(settings))
    assert ask(settings, *BLOCKS, Origin=origin, Authorization=key)[0] == 403
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade |= {"Sec-WebSocket-Key": "x" * 22 + "==", "Sec-WebSocket-Protocol": "prefect"}
    assert ask(settings, "GET", "/api/events/out", Origin=origin, **upgrade)[0] == 403
    own = f"http://127.0.0.1:{settings.prefect_port}"
    assert ask(settings, *BLOCKS, Origin=own, Authorization=key)[0] == 200


def test_the_login_page_is_for_who_has_the_key(prefect_server: str, settings: Settings) -> None:
    del prefect_server
    form = {"content-type": "application/x-www-form-urlencoded", "Origin": "null"}
    key = key_of(settings)
    status, page, _ = ask(settings, "POST", "/taxi-ingest/login", f"key={key}", **form)
    assert (status, b64encode(key.encode()).decode() in page) == (200, True)
    for wrong in ("", "key=", "key=guess", f"key={key}x", "key=" + "x" * 100_000):
        status, page, _ = ask(settings, "POST", "/taxi-ingest/login", wrong, **form)
        assert (status, "localStorage" in page) == (403, False)


def test_the_dashboard_may_call_nobody_but_itself(prefect_server: str, settings: Settings) -> None:
    del prefect_server
    port = settings.prefect_port
    for path in ("/", "/v2/", "/dashboard"):
        policy = ask(settings, "GET", path, Accept="text/html")[2]
        called = re.findall(r"connect-src ([^;]*)", policy)[0].split()
        assert set(called) <= {
            "'self'",
            *(f"{way}://{name}:{port}" for way in ("http", "ws") for name in ("127.0.0.1", "localhost")),
        }


def test_ui_prints_the_plain_address_and_opens_a_private_page(
    cli: Cli, settings: Settings, tmp_path: Path
) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/opened\n')
    opener.chmod(0o700)
    done = cli("ui", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    page = settings.home / "prefect" / "login.html"
    assert done.stdout == f"http://127.0.0.1:{settings.prefect_port}/v2\n"
    until(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text())
    assert (tmp_path / "opened").read_text() == f"{page}\n"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    key = key_of(settings)
    assert key in page.read_text()
    assert key not in done.stdout + done.stderr
    assert str(settings.home / "prefect" / "key") in done.stderr


# What goes out


@contextmanager
def logging_proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that answers 502 to all, and the request lines and headers that it got."""
    got: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            got.append(self.connection.recv(65536).decode("latin-1"))
            with suppress(OSError):
                self.connection.sendall(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_port, got
        proxy.shutdown()


@pytest.mark.slow
def test_a_proxy_sees_sources_and_nothing_that_goes_to_the_local_server(
    cli: Cli, trips: Path, system_url: str
) -> None:
    with logging_proxy() as (port, got):
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
        env = dict.fromkeys(names, f"http://127.0.0.1:{port}") | {"no_proxy": "somewhere.example"}
        made = cli("blocks", "create", "--name", "proxied", "--database-url", system_url, env=env)
        assert made.returncode == 0, made.stderr
        table = "proxied"
        done = cli("ingest", "--url", trips, "--table", table, "--block", "proxied", env=env)
        assert done.returncode == 0, done.stderr
        assert got == []
        cli("ingest", "--url", "http://tlc.example/x.csv", "--table", table, "--block", "proxied", env=env)
        assert got
        assert all("tlc.example" in request.splitlines()[0] for request in got)
    execute(system_url, "DROP TABLE IF EXISTS proxied")


def test_prefect_is_told_not_to_track_before_anyone_can_import_it() -> None:
    env = {name: value for name, value in os.environ.items() if name != "DO_NOT_TRACK"}
    code = "import os, sys, taxi_ingest; print(os.environ['DO_NOT_TRACK'], 'prefect' in sys.modules)"
    done = run_python(code, env=env)
    assert done.stdout == "1 False\n", done.stderr


def test_a_run_reports_to_nobody(
    prefect_server: str, trips: Path, embedded_database_url: str, tmp_path: Path
) -> None:
    del prefect_server
    if shutil.which("strace") is None:
        pytest.skip("strace isn't installed")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", str(trace)]
    command += [PROGRAM, "ingest", "--url", str(trips), "--table", "green"]
    # In CI Prefect reports nothing anyway.
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    env |= {"TAXI_INGEST_DATABASE_URL": embedded_database_url, "PREFECT_HOME": str(tmp_path / "prefect-home")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    if "ptrace" in done.stderr:
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', trace.read_text())) == {
        ("127.0.0.1", "")
    }
    assert not (tmp_path / "prefect-home" / ".sdk_telemetry").exists()


# Everything that is left


@pytest.mark.slow
def test_planted_secrets_and_the_key_are_left_nowhere(
    prefect_server: str, trips: Path, system_url: str, settings: Settings, server: Server
) -> None:
    del prefect_server
    execute(system_url, f"DROP ROLE IF EXISTS holder; CREATE ROLE holder LOGIN SUPERUSER PASSWORD '{SECRET}'")
    url = re.sub(r"//.*@", f"//holder:{SECRET}@", system_url)
    as_setting = {"TAXI_INGEST_DATABASE_URL": url}
    with_login = {"TAXI_INGEST_SOURCE_LOGIN": f"me:{SECRET}", **as_setting}
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    seen.add(" ".join(process.cmdline()))
            time.sleep(0.2)

    looking = threading.Thread(target=look)
    looking.start()
    printed = ""
    try:
        for arguments, env in (
            (("ingest", "--url", server.url(trips.name), "--table", "held"), with_login),
            (("ingest", "--url", server.url("nothing.csv"), "--table", "held", "--json"), with_login),
            (("ingest", "--url", trips, "--table", "no.such", "--json"), as_setting),
            (("blocks", "create", "--name", "holder", "--overwrite"), as_setting),
            (("ingest", "--url", trips, "--table", "held", "--block", "holder", "--if-loaded", "fail"), {}),
            (("ui", "--no-browser"), as_setting),
        ):
            done = run_program(*arguments, env=env)
            printed += done.stdout + done.stderr
    finally:
        ended.set()
        looking.join()
    key = key_of(settings)
    ledger = str(query(url, "SELECT loads::text FROM taxi_ingest.loads AS loads"))
    execute(system_url, "DROP TABLE IF EXISTS held")
    for secret in (SECRET, key, b64encode(key.encode()).decode()):
        assert secret not in printed + ledger
        assert [line for line in seen if secret in line] == []
        left = [path for path in files_below(settings.home, settings.cache_dir) if holds(path, secret)]
        assert left == [path for path in left if path.name in ("key", "login.html") and secret == key]


def files_below(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def holds(path: Path, secret: str) -> bool:
    try:
        return secret.encode() in path.read_bytes()
    except FileNotFoundError:
        return False


# Files and folders


def test_all_that_the_running_servers_keep_is_for_their_owner_only(
    prefect_server: str, embedded_url: str, settings: Settings
) -> None:
    del prefect_server, embedded_url
    dashboard = settings.home / "prefect" / "dashboard"  # a copy of the public package, below a closed folder
    assert mode_of(dashboard) == mode_of(dashboard.parent) == 0o700
    kept = [path for path in settings.home.rglob("*") if dashboard not in path.parents]
    assert [path for path in kept if mode_of(path) & 0o077] == []


def mode_of(path: Path) -> int:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_files_and_folders_are_private_under_any_umask(umask: int) -> None:
    above = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
    settings = Settings(home=above / "made" / "home", prefect_port=free_port())
    before = os.umask(umask)
    try:
        stack.start_database(settings)
        os.kill(stack.launch_prefect(settings).pid, signal.SIGKILL)
    finally:
        os.umask(before)
    try:
        wrong = [path for path in above.rglob("*") if mode_of(path) & 0o077 or not mode_of(path) & 0o400]
        assert wrong == []
    finally:
        stack.stop(settings)
        shutil.rmtree(above)


@pytest.fixture
def closed_home() -> Iterator[Settings]:
    """A home in a folder that only its owner may pass, as /root is."""
    above = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
    (above / "share").mkdir(mode=0o700)
    settings = Settings(home=above / "share" / "taxi-ingest", prefect_port=free_port())
    yield settings
    stack.stop(settings)
    shutil.rmtree(above)


@as_root
def test_as_root_no_folder_above_the_data_is_opened(closed_home: Settings) -> None:
    url = stack.start_database(closed_home)
    assert query(url, "SELECT 1") == [(1,)]
    above = (closed_home.home, *closed_home.home.parents[:2])
    assert [mode_of(folder) for folder in above] == [0o700] * 3


@as_root
@pytest.mark.parametrize(
    "planted", ["log", "data/taxi_ingest.conf", "data/pg_hba.conf", "data/postmaster.pid"]
)
def test_as_root_no_link_that_the_account_has_planted_is_followed(
    closed_home: Settings, planted: str
) -> None:
    stack.start_database(closed_home)
    stack.stop_database(closed_home)
    treasure = closed_home.home / "treasure"
    treasure.write_text("local all all trust\nhost all all all trust\n")
    before = treasure.stat()
    path = closed_home.home / "postgres" / planted
    path.unlink(missing_ok=True)
    path.symlink_to(treasure)
    with suppress(DatabaseError):
        stack.start_database(closed_home)
    after = treasure.stat()
    assert treasure.read_text() == "local all all trust\nhost all all all trust\n"
    assert (after.st_uid, after.st_mode, after.st_ino) == (before.st_uid, before.st_mode, before.st_ino)


@as_root
def test_a_server_of_another_user_gets_nothing(closed_home: Settings) -> None:
    url = stack.start_database(closed_home)
    stack.stop_database(closed_home)
    with socket.socket(socket.AF_UNIX) as impostor:
        impostor.bind(str(closed_home.home / "postgres" / ".s.PGSQL.5432"))
        impostor.listen()
        with pytest.raises(psycopg2.OperationalError, match="requirepeer"):
            psycopg2.connect(url, connect_timeout=5)
        caller, _ = impostor.accept()
        assert caller.recv(100) == b""


@as_root
def test_programs_that_the_account_cannot_reach_are_copied_and_not_opened(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    (programs / "bin").mkdir(parents=True)
    (programs / "bin" / "postgres").write_text("#!/bin/sh\n")
    (programs / "bin" / "postgres").chmod(0o700)
    copy = runnable(programs)
    try:
        assert copy == runnable(programs) != programs
        assert mode_of(copy / "bin" / "postgres") == 0o755
        assert mode_of(programs / "bin" / "postgres") == 0o700
    finally:
        shutil.rmtree(copy)


def test_who_opens_tcp_is_asked_for_a_password_also_with_data_of_an_older_version(
    closed_home: Settings,
) -> None:
    stack.start_database(closed_home)
    stack.stop_database(closed_home)
    data = closed_home.home / "postgres" / "data"
    rules = (data / "pg_hba.conf").read_text()
    (data / "pg_hba.conf").write_text(rules.replace("scram-sha-256", "trust"))
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("listen_addresses = '127.0.0.1'\n")
    with suppress(DatabaseError):  # where another server has the port 5432
        stack.start_database(closed_home)
    assert " trust" not in re.sub(r"(?m)^(#|local).*", "", (data / "pg_hba.conf").read_text())
