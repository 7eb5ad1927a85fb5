"""One lane of the chaos: an embedded Postgres behind a proxy, a Prefect server, a web server, some files."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg2.extensions import parse_dsn

from helpers import COPYING, execute, exists, free_port, held, query, run_cli, sessions, start_cli, until
from http_server import Server, serve
from taxi_ingest import stack
from taxi_ingest.load.database import join_dsn
from taxi_ingest.settings.environment import Settings
from taxi_ingest.tlc.sample import write_sample
from tcp_proxy import Proxy, proxy_before

TABLE = "trips"
_MOST_FILES = 6
_LONGEST_RUN_SECONDS = 240
_ORDINARY = (
    "-c default_transaction_read_only=off -c search_path=public -c statement_timeout=0 -c lock_timeout=0"
)
"""What our own sessions rely on while a fault has changed the database's defaults."""


@dataclass
class File:
    """A file on the web server, as it is now."""

    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Finished:
    """A run of the command line that has ended."""

    exit_code: int
    stderr: str


@dataclass
class World:
    """What a round acts on."""

    settings: Settings
    database_url: str
    http: Server
    proxy: Proxy
    connections: int = 1
    """Over how many each file is copied."""
    expected: dict[str, int] = field(default_factory=dict)
    """File -> how many rows the table has of it."""

    def publish(self, name: str, rows: int) -> File:
        """Put a file onto the web server, or a revised one in its place."""
        path = self.http.folder / name
        write_sample("yellow", name.removeprefix("yellow_tripdata_")[:7], path, rows=rows, seed=rows)
        return File(name, rows, path.stat().st_size)

    def start(self, file: File, address: str | None = None, **environment: str) -> "subprocess.Popen[str]":
        """Run `ingest` on a file, through web server and proxy."""
        env = {**self.environment(), **environment}
        return start_cli(*self._ingest(address or self.http.url(file.name)), env=env)

    def _ingest(self, address: str) -> tuple[object, ...]:
        how = ("--quiet", "--chunk-size", 1000, "--max-rejects", 0, "--connections", self.connections)
        return ("ingest", "--url", address, "--table", TABLE, *how)

    def start_backfill(self, months: str) -> "subprocess.Popen[str]":
        """Run `backfill` on months that are published, through web server and proxy."""
        how = ("--table", TABLE, "--jobs", 2, "--quiet", "--chunk-size", 5000)
        env = {**self.environment(), "TAXI_INGEST_TLC_URL": self.http.url("")}
        return start_cli("backfill", "yellow", months, *how, env=env)

    def command(self, *arguments: str) -> None:
        """Run another command of the tool to its end."""
        run_cli(*arguments, env=self.environment()).check_returncode()

    def environment(self) -> dict[str, str]:
        return {
            "TAXI_INGEST_HOME": str(self.settings.home),
            "TAXI_INGEST_CACHE_DIR": str(self.settings.cache_dir),
            "TAXI_INGEST_PREFECT_PORT": str(self.settings.prefect_port),
            "TAXI_INGEST_DATABASE_URL": self.proxy.url,
            "TAXI_INGEST_DOWNLOAD_TRIES": "5",
        }

    def ingest(self, *files: File) -> list[Finished]:
        """Run `ingest` on each file, all at once, to their ends."""
        return [finish(process) for process in [self.start(file) for file in files]]

    def ingest_plainly(self, file: File) -> Finished:
        """Run `ingest` on a file while nothing is wrong."""
        done = run_cli(
            *self._ingest(self.http.url(file.name)), env=self.environment(), timeout=_LONGEST_RUN_SECONDS
        )
        return Finished(done.returncode, done.stderr)

    def wait_for_copy(self, process: "subprocess.Popen[str]") -> None:
        """Wait until a run copies rows, or has ended."""
        until(lambda: process.poll() is not None or sessions(self.database_url, COPYING))

    def execute(self, statement: str) -> None:
        execute(self.database_url, statement)

    def end_sessions(self) -> None:
        """Cut off whoever loads, as an administrator can."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'taxi-ingest' AND pid <> pg_backend_pid()"
        )

    def crash_database(self, number: signal.Signals) -> None:
        """Kill the server (SIGKILL) or shut it down immediately (SIGQUIT), and start it again."""
        pid = stack.status(self.settings).database.pid
        assert pid
        os.kill(pid, number)
        stack.start_database(self.settings)

    def crash_prefect(self) -> None:
        """Kill Prefect's server, if it runs; the next run starts it again."""
        if pid := stack.status(self.settings).prefect.pid:
            os.kill(pid, signal.SIGKILL)

    @property
    def database(self) -> str:
        """The database's name."""
        return str(parse_dsn(self.database_url)["dbname"])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold a transaction open that has read the table, if there is one."""
        read = f"SELECT count(*) FROM {TABLE}" if exists(self.database_url, TABLE) else "SELECT"
        with closing(held(self.database_url, read)):
            yield

    def loaded(self) -> list[tuple[int, str]]:
        """Number and file of each load whose rows are in the table."""
        if not exists(self.database_url, "taxi_ingest.loads"):
            return []
        rows = query(
            self.database_url, "SELECT load_id, source FROM taxi_ingest.loads WHERE status = 'loaded'"
        )
        return [(load_id, str(source).rpartition("/")[2]) for load_id, source in rows]  # type: ignore[misc]

    def rows_by_file(self) -> dict[str, int]:
        """What the table has, proven three ways: by its rows, by the ledger, by the partitions."""
        if not exists(self.database_url, "taxi_ingest.loads"):
            return {}
        ledger = query(
            self.database_url,
            "SELECT load_id, source, rows_loaded FROM taxi_ingest.loads WHERE status = 'loaded'",
        )
        # The ledger is made first, so that after a failed first load it stands alone.
        counts = f"SELECT load_id, count(*) FROM {TABLE} JOIN taxi_ingest.parts USING (_load_id) GROUP BY 1"
        counted = dict(query(self.database_url, counts)) if exists(self.database_url, TABLE) else {}
        partitions = query(
            self.database_url, r"SELECT substr(relname, 6)::int FROM pg_class WHERE relname ~ '^load_\d+$'"
        )
        assert counted == {load_id: rows for load_id, _, rows in ledger}, (counted, ledger)
        parts = query(
            self.database_url,
            "SELECT _load_id FROM taxi_ingest.parts JOIN taxi_ingest.loads USING (load_id) "
            "WHERE status = 'loaded'",
        )
        assert set(partitions) == set(parts), (partitions, parts)
        result = {str(source).rpartition("/")[2]: rows for _, source, rows in ledger}
        assert len(result) == len(ledger), ledger
        return result  # type: ignore[return-value]

    def left_parts(self) -> list[str]:
        """The parts of loads that have ended before they were complete."""
        found = query(self.database_url, r"SELECT relname FROM pg_class WHERE relname ~ '^loading_\d+$'")
        return [str(name) for (name,) in found]

    def end_one_session(self) -> None:
        """Cut off one of the connections that copy."""
        self.execute(
            "SELECT pg_terminate_backend(max(pid)) FROM pg_stat_activity "
            f"WHERE application_name = 'taxi-ingest' AND {COPYING} AND pid <> pg_backend_pid()"
        )

    def forget(self) -> None:
        """Begin anew when there are many files."""
        if len(self.expected) >= _MOST_FILES:
            self.reset()

    def reset(self) -> None:
        """Begin anew: no table, no faults."""
        self.execute(f"DROP TABLE IF EXISTS {TABLE} CASCADE; DROP SCHEMA IF EXISTS taxi_ingest CASCADE")
        self.expected.clear()
        self.http.faults.clear()
        self.proxy.faults.clear()


def finish(process: "subprocess.Popen[str]") -> Finished:
    """Wait for a run's end."""
    _, stderr = process.communicate(timeout=_LONGEST_RUN_SECONDS)
    return Finished(process.returncode, stderr)


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A lane's world, with servers of its own, all stopped at the end."""
    files = folder / "files"
    files.mkdir(parents=True)
    settings = Settings(home=folder / "home", cache_dir=folder / "cache", prefect_port=free_port())
    url = stack.start_database(settings)
    try:
        stack.launch_prefect(settings).wait(600)
        with serve(files) as http, proxy_before(url) as proxy:
            yield World(settings, join_dsn(url, {"options": _ORDINARY}, None), http, proxy)
    finally:
        stack.stop(settings)
