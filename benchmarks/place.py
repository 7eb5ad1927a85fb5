"""Where the benchmark runs: a local stack of its own, and the table that the contenders fill."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

TABLE = "trips"

_PORT = "4299"
_FOREIGN = ("TAXI_INGEST_", "PREFECT_", "PG", "DLT_", "PYTHON")
"""How variables begin that could lead a contender to another server, or slow it down."""

_ANEW = (
    "SET client_min_messages = error",
    "DROP SCHEMA IF EXISTS public, taxi_ingest CASCADE",
    "CREATE SCHEMA public",
)

_PROOF = """
SELECT count(*), sum(round(total_amount * 100)::bigint),
    min(tpep_pickup_datetime)::timestamp, max(tpep_pickup_datetime)::timestamp
FROM trips
"""
# In cents: a sum of floats depends on the order in which parallel workers add them, by cents at 13.7 M rows.
# As timestamps without a zone: dlt makes columns with one, and means UTC.

_PROOF_OF_LAKE = """
import sys, duckdb
found = duckdb.sql(
    "SELECT count(*), sum(round(total_amount * 100)::bigint), min(tpep_pickup_datetime), "
    f"max(tpep_pickup_datetime) FROM '{sys.argv[1]}/trips/*/*.parquet'"
)
print(*found.fetchone(), sep="|")
"""

_PSQL = "from taxi_ingest.stack import psql_command; print(psql_command('')[0])"


@dataclass(frozen=True)
class Place:
    """Folders, programs and the server, the same for all contenders."""

    folder: Path
    database: str = ""
    """A libpq URL."""
    psql: str = "psql"
    typed_table: str = ""
    """What makes a plain table of the columns and types of ours, as far as the file has them."""

    @property
    def env(self) -> dict[str, str]:
        """What keeps the benchmark apart from the user's own stack, settings and Prefect profile."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return ours | {
            "TAXI_INGEST_HOME": str(self.folder / "home"),
            "TAXI_INGEST_CACHE_DIR": str(self.folder / "cache"),
            "TAXI_INGEST_PREFECT_PORT": _PORT,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }

    @property
    def tool(self) -> str:
        """Our command line."""
        return str(Path(sys.executable).with_name("taxi-ingest"))

    @property
    def peers(self) -> Path:
        """The folder of the peers' own environment."""
        return self.folder / "peers"

    @property
    def lake(self) -> Path:
        """The folder of the lake that some fill."""
        return self.folder / "lake"

    def sql(self, *statements: str) -> str:
        """Run statements; return what they printed."""
        arguments = [part for statement in statements for part in ("-c", statement)]
        return self.run(self.psql, self.database, "-qAtX", "-v", "ON_ERROR_STOP=1", *arguments)

    def begin(self, typed: bool) -> None:
        """Begin anew: no table, or an empty typed one; nothing left to be written to the disk."""
        self.sql(*_ANEW, *([self.typed_table] if typed else []), "CHECKPOINT")
        shutil.rmtree(self.lake, ignore_errors=True)

    def proof(self, of_lake: bool = False) -> str:
        """`rows|cents|first pickup|last pickup`: the same for all contenders that load the same rows."""
        if of_lake:
            return self.run(str(self.peers / "bin" / "python"), "-c", _PROOF_OF_LAKE, str(self.lake))
        return self.sql("SET timezone = 'UTC'", _PROOF)

    def server_cpu_seconds(self) -> float:
        """What Prefect's server has used of the cores since its start, user and system."""
        record = self.folder / "home" / "prefect" / "server.json"
        times = psutil.Process(json.loads(record.read_text())["pid"]).cpu_times()
        return times.user + times.system

    def stop(self) -> None:
        """Stop both servers."""
        self.run(self.tool, "down", "--quiet")

    def run(self, *command: str) -> str:
        """Run a program, unmeasured; return what it printed."""
        done = subprocess.run(
            command, env=self.env, cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True, timeout=300
        )
        return done.stdout.strip()


@contextmanager
def running_place(folder: Path, sample: Path) -> Iterator[Place]:
    """The place, while its servers run; the typed table is made for a file such as `sample`."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder)
    try:
        place.run(place.tool, "up", "--quiet")
        status = json.loads(place.run(place.tool, "status", "--json"))
        if status["notes"]:
            # Such as a server that a killed run has left on our port, and that would never be down.
            raise RuntimeError(f"The stack is not the benchmark's own: {', '.join(status['notes'])}.")
        place = replace(place, database=status["database"], psql=place.run(sys.executable, "-c", _PSQL))
        # An interrupted run may have left a table, of which a dry run would print no DDL.
        place.begin(typed=False)
        yield replace(place, typed_table=_typed_table(place, sample))
    finally:
        place.stop()


def _typed_table(place: Place, sample: Path) -> str:
    """Our own DDL without what only a ledger needs, and without the columns of other eras."""
    dry_run = place.run(
        place.tool, "ingest", "--url", str(sample), "--table", TABLE, "--dry-run", "--json", "--quiet"
    )
    types = dict(re.findall(r'"(\w+)" ([a-z ]+)[,)]', json.loads(dry_run)["plan"]["ddl"]))
    with sample.open() as file:
        names = file.readline().strip().split(",")
    columns = ", ".join(f'"{name}" {types[name]}' for name in names)
    return f"CREATE TABLE {TABLE} ({columns})"
