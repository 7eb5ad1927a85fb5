"""`doctor` tells apart what stands between here and a loaded table, and changes nothing."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from helpers import PASSWORD, Cli, execute, free_port, loaded, query, run_cli, until, url_with
from http_server import Server, serve
from taxi_ingest.errors import DatabaseError
from taxi_ingest.load import Database, database_at
from taxi_ingest.load.diagnosis import examine_connection, examine_rights, slow_settings
from taxi_ingest.settings.environment import Settings


def diagnose(cli: Cli, *flags: str, **variables: str) -> tuple[int, dict[str, Any]]:
    """The exit code of `doctor --json`, and its findings by subject."""
    done = cli("doctor", "--json", *flags, env=variables)
    return done.returncode, {each["subject"]: each for each in json.loads(done.stdout)["findings"]}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "yellow_tripdata_2024-01.parquet").write_bytes(b"PAR1")
    with serve(tmp_path) as server:
        monkeypatch.setenv("TAXI_INGEST_TLC_URL", server.url(""))
        yield server


# The database


def refused(url: str) -> str:
    return url_with(url, port=str(free_port()))


CONNECTIONS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "nobody listens": (refused, "Nobody listens at 127.0.0.1:", "docker ps"),
    "host unknown": (
        lambda url: url_with(url, host="pgdatabase.invalid"),
        "no machine named pgdatabase",
        "compose",
    ),
    "password wrong": (
        lambda url: url_with(url, password="false"),
        "password of postgres is wrong",
        "user and",
    ),
    "no password": (
        lambda url: url_with(url, password=""),
        "asks for the password of postgres",
        "PGPASSWORD",
    ),
    "no such role": (
        lambda url: url_with(url, user="nobody_here"),
        "nobody_here is wrong, or there is no",
        "user",
    ),
    "no such database": (lambda url: url_with(url, dbname="ny_taxi"), "has no database ny_taxi", "postgres"),
    "no SSL there": (lambda url: url_with(url, sslmode="require"), "has no SSL", "sslmode"),
}


@pytest.mark.parametrize("case", CONNECTIONS)
def test_why_a_connection_fails_is_told_apart(system_url: str, case: str) -> None:
    change, message, hint = CONNECTIONS[case]
    with pytest.raises(DatabaseError) as failure:
        examine_connection(database_at(change(system_url)))
    assert message in str(failure.value)
    assert hint in failure.value.hint
    assert PASSWORD not in f"{failure.value} {failure.value.hint}"


def test_a_port_of_another_program_is_said_to_be_no_postgres(prefect_server: str) -> None:
    port = urlsplit(prefect_server).port
    with pytest.raises(DatabaseError, match=r"What answers at 127\.0\.0\.1:\d+ is no Postgres"):
        examine_connection(database_at(f"postgresql://postgres@127.0.0.1:{port}/postgres"))


def test_a_role_that_the_socket_does_not_know_is_named(embedded_database_url: str) -> None:
    with pytest.raises(DatabaseError, match="has no role nobody_here"):
        examine_connection(database_at(url_with(embedded_database_url, user="nobody_here")))


def test_who_has_the_port_is_named_where_another_postgres_may_answer(system_url: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may see another user's sockets")
    with pytest.raises(DatabaseError) as failure:
        examine_connection(database_at(url_with(system_url, password="false")))
    assert "is held by postgres (process " in failure.value.hint


def test_a_server_that_wants_ssl_is_told_from_one_that_is_closed(system_url: str) -> None:
    with rules_of(system_url) as only_this:
        only_this("hostssl all all 127.0.0.1/32 scram-sha-256")
        message = failure_of(system_url)
    assert "lets postgres in with SSL only, or not from here" in message


@contextmanager
def rules_of(url: str) -> Iterator[Callable[[str], None]]:
    """Replace the rules of who may connect, until the end."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SHOW hba_file")
        path = Path(str((cursor.fetchone() or ("",))[0]))
        before = path.read_text()

        def only_this(rules: str) -> None:
            path.write_text(f"{rules}\n")
            cursor.execute("SELECT pg_reload_conf()")
            until(lambda: failure_of(url))

        try:
            yield only_this
        finally:
            path.write_text(before)
            cursor.execute("SELECT pg_reload_conf()")
            until(lambda: not failure_of(url))


def failure_of(url: str) -> str:
    """Why a connection fails; empty where it does not."""
    try:
        examine_connection(database_at(url))
    except DatabaseError as failure:
        return str(failure)
    return ""


@pytest.fixture
def loader(database_url: str) -> Iterator[Callable[..., Database]]:
    """A role with the rights that are granted to it, in the database."""
    execute(database_url, "DROP ROLE IF EXISTS loader", "CREATE ROLE loader LOGIN PASSWORD 'geheim'")

    def with_rights(*grants: str) -> Database:
        execute(database_url, "REVOKE ALL ON SCHEMA public FROM PUBLIC", *grants)
        return database_at(url_with(database_url, user="loader", password="geheim"))

    yield with_rights
    execute(database_url, "DROP OWNED BY loader", "DROP ROLE loader")


def name_of(url: str) -> str:
    return str(query(url, "SELECT current_database()")[0][0])


def test_each_missing_right_is_named_with_its_grant(
    loader: Callable[..., Database], database_url: str
) -> None:
    name = name_of(database_url)
    on_database = f'GRANT CREATE ON DATABASE "{name}" TO "loader"'
    on_schema = 'GRANT USAGE, CREATE ON SCHEMA "public" TO "loader"'
    with pytest.raises(DatabaseError, match="A right is missing") as failure:
        examine_rights(loader())
    assert on_database in failure.value.hint
    with pytest.raises(DatabaseError, match="A right is missing") as failure:
        examine_rights(loader(on_database))
    assert on_schema in failure.value.hint
    assert "tables in public" in examine_rights(loader(on_database, on_schema))


def test_trying_the_rights_leaves_nothing_behind(database: Database, database_url: str) -> None:
    examine_rights(database)
    left = "SELECT nspname FROM pg_namespace WHERE nspname = 'taxi_ingest'"
    assert query(database_url, left) == []
    assert query(database_url, "SELECT relname FROM pg_class WHERE relname LIKE 'taxi_ingest_doctor%'") == []


def test_who_has_loaded_before_has_the_rights(trips: Path, database: Database) -> None:
    loaded(trips, database)
    assert "tables in public" in examine_rights(database)


def test_the_servers_settings_that_slow_a_load_are_named(system_url: str, embedded_url: str) -> None:
    assert "wal_level" in {each.name for each in slow_settings(database_at(system_url))}
    assert "wal_level" not in {each.name for each in slow_settings(database_at(embedded_url))}


@pytest.mark.parametrize("url", ["postgresql+psycopg://me:geheim@127.0.0.1/taxi", "sqlite:///taxi.db"])
def test_a_block_for_another_driver_is_an_error_of_the_database(api: str, cli: Cli, url: str) -> None:
    from prefect_sqlalchemy import SqlAlchemyConnector

    del api
    SqlAlchemyConnector(connection_info=url).save("other-driver", overwrite=True)
    code, found = diagnose(cli, "--block", "other-driver")
    assert code == 5
    assert f"is for {url.partition(':')[0]}" in found["database"]["found"]
    checked = cli("blocks", "check", "other-driver")
    assert (checked.returncode, "bug" in checked.stderr) == (5, False)


# The command


@pytest.mark.usefixtures("mirror")
def test_where_all_is_well_it_ends_with_0_and_says_each_thing(cli: Cli, database_url: str) -> None:
    done = cli("doctor", "--database-url", database_url)
    assert done.returncode == 0, done.stdout + done.stderr
    for subject in ("program", "packages", "home folder", "Prefect", "database", "rights", "months"):
        assert any(line.startswith(("✓ " + subject, "! " + subject)) for line in done.stdout.splitlines())
    assert "✗" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.usefixtures("mirror")
def test_its_exit_code_is_that_of_the_first_failure(cli: Cli, server: Server) -> None:
    nowhere = f"postgresql://me@127.0.0.1:{free_port()}/taxi"
    code, found = diagnose(cli, TAXI_INGEST_DATABASE_URL=nowhere, TAXI_INGEST_TLC_URL=server.url("none"))
    assert code == 5
    assert found["database"]["state"] == "failed"
    assert found["months"]["state"] == "note"


def test_settings_are_shown_with_who_has_set_them(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAXI_INGEST_CACHE_GB=3\nTAXI_INGEST_CACHEDIR=/data\n")
    done = cli("doctor", "--json", cwd=tmp_path, env={"TAXI_INGEST_DOWNLOAD_TRIES": "7"})
    found = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["TAXI_INGEST_CACHE_GB"]["found"] == "3.0  (.env)"
    assert found["TAXI_INGEST_DOWNLOAD_TRIES"]["found"] == "7  (environment)"
    assert found["TAXI_INGEST_SOURCE_LOGIN"]["found"] == "(not set)  (default)"
    assert "TAXI_INGEST_CACHE_DIR" in found["TAXI_INGEST_CACHEDIR"]["hint"]


def test_a_web_page_in_the_place_of_a_month_is_a_failure_of_the_source(
    cli: Cli, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "yellow_tripdata_2024-01.parquet").write_text("<html>Please log in</html>")
    code, found = diagnose(cli, TAXI_INGEST_TLC_URL=server.url(""))
    assert code == 3
    assert "web page" in found["months"]["found"]


# Prefect


def test_an_api_that_nobody_serves_is_a_failure_of_prefect(cli: Cli) -> None:
    code, found = diagnose(cli, PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    assert code == 6
    assert "can't be reached" in found["Prefect"]["found"]


def test_an_api_that_refuses_our_key_is_told_from_one_that_is_gone(cli: Cli, prefect_server: str) -> None:
    code, found = diagnose(cli, PREFECT_API_URL=prefect_server, PREFECT_API_AUTH_STRING="false")
    assert code == 6
    assert "refuses our key" in found["Prefect"]["found"]


def test_a_profile_that_is_not_there_is_named(cli: Cli) -> None:
    code, found = diagnose(cli, PREFECT_PROFILE="production")
    assert code == 6
    assert "production" in found["Prefect"]["found"]


def test_a_locked_sqlite_of_prefects_is_named(cli: Cli, settings: Settings) -> None:
    with closing(sqlite3.connect(settings.home / "prefect" / "prefect.db", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        code, found = diagnose(cli)
    assert code == 6
    assert "is locked" in found["Prefect"]["found"]


# Nothing is started or told


def test_it_starts_nothing(tmp_path: Path, mirror: Server) -> None:
    del mirror
    home = tmp_path / "home"
    done = run_cli(
        "doctor", env={"TAXI_INGEST_HOME": str(home), "TAXI_INGEST_PREFECT_PORT": str(free_port())}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not home.exists()


def test_a_bundle_holds_findings_and_logs_and_no_secret(
    cli: Cli, tmp_path: Path, system_url: str, settings: Settings
) -> None:
    bundle = tmp_path / "bundle.txt"
    login = "https://me:hidden-4711@data.example"
    done = cli(
        "doctor",
        *("--bundle", str(bundle)),
        env={
            "TAXI_INGEST_DATABASE_URL": url_with(system_url, dbname="none"),
            "TAXI_INGEST_SOURCE_LOGIN": login,
        },
    )
    assert done.returncode == 5
    text = bundle.read_text()
    assert "has no database none" in text
    assert "server.log" in text
    key = (settings.home / "prefect" / "key").read_text().strip()
    for secret in (PASSWORD, "hidden-4711", key):
        assert secret not in text + done.stdout + done.stderr
