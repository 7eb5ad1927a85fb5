"""Where the benchmark runs: a local stack of its own, and the tables that the contenders fill."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TABLE = "trips"
PORT = "4299"

_TYPED = """
CREATE TABLE trips ("VendorID" smallint, tpep_pickup_datetime timestamp, tpep_dropoff_datetime timestamp,
passenger_count smallint, trip_distance double precision, "RatecodeID" smallint, store_and_fwd_flag text,
"PULocationID" smallint, "DOLocationID" smallint, payment_type smallint, fare_amount double precision,
extra double precision, mta_tax double precision, tip_amount double precision, tolls_amount double precision,
improvement_surcharge double precision, total_amount double precision, congestion_surcharge double precision)
"""

_PROOF = """
SELECT count(*), round(sum(total_amount)::numeric, 2), min(tpep_pickup_datetime), max(tpep_pickup_datetime)
FROM trips
"""


@dataclass(frozen=True)
class Place:
    """Folders, programs and the server, the same for all contenders."""

    folder: Path
    database: str
    """A libpq URL."""

    @property
    def env(self) -> dict[str, str]:
        return environment(self.folder)

    @property
    def tool(self) -> str:
        """Our command line."""
        return str(Path(sys.executable).with_name("taxi-ingest"))

    @property
    def peers_python(self) -> Path:
        return self.folder / "peers" / "bin" / "python"

    def sql(self, *statements: str) -> str:
        """Run statements; return what the last one printed."""
        arguments = [part for statement in statements for part in ("-c", statement)]
        return self._run("psql", self.database, "-qAtX", "-v", "ON_ERROR_STOP=1", *arguments)

    def begin(self, typed: bool) -> None:
        """Begin anew: no table, or an empty typed one; nothing left to be written to the disk."""
        self.sql(
            "SET client_min_messages = error",
            "DROP TABLE IF EXISTS trips CASCADE",
            "DROP SCHEMA IF EXISTS taxi_ingest CASCADE",
            *([_TYPED] if typed else []),
            "CHECKPOINT",
        )

    def proof(self) -> str:
        """What must be the same for all contenders that load the same rows."""
        return self.sql(_PROOF)

    def stop(self) -> None:
        """Stop both servers."""
        self._run(self.tool, "down", "--quiet")

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.env}, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    """What keeps the benchmark's stack apart from the user's."""
    return {
        "TAXI_INGEST_HOME": str(folder / "home"),
        "TAXI_INGEST_CACHE_DIR": str(folder / "cache"),
        "TAXI_INGEST_PREFECT_PORT": PORT,
        "DLT_DATA_DIR": str(folder / "dlt"),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }


def make_place(folder: Path) -> Place:
    """The place, its servers running."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, "")
    place._run(place.tool, "up", "--quiet")
    status = json.loads(place._run(place.tool, "status", "--json"))
    return Place(folder, status["database"])


def make_peers(place: Place) -> None:
    """Install the peers in an environment of their own, unless that has been done."""
    wanted = Path(__file__).with_name("peers.txt")
    done = place.folder / "peers" / "installed.txt"
    if done.exists() and done.read_bytes() == wanted.read_bytes():
        return
    print("Installing the peers …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", done.parent], check=True)
    subprocess.run([place.peers_python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
    shutil.copy(wanted, done)
