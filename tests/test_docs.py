"""README and docs/ hold: their blocks run, what they show is what is printed, and no link is dead."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

import taxi_ingest
from bucket_servers import GcsServer, service_account_key
from documents import PAGES, REMARK, RUN, SHOWN, Block, Page
from helpers import PROGRAM, QUICK, ROOT, execute, free_port, loaded, url_with
from http_server import serve
from taxi_ingest import stack, tlc
from taxi_ingest.load import database_at
from taxi_ingest.settings.environment import Settings
from taxi_ingest.tlc.sample import write_sample
from warm import warmed

ELSEWHERE = {"docs/course.md": "test_course.py"}
"""Pages whose blocks another module runs, in a world of their own."""
MORE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
"""Whose links are checked, too."""
STACK = Page(ROOT / "docs" / "stack.md")
RUN_HERE = [
    page
    for page in PAGES
    if page != STACK and page.name not in ELSEWHERE and any(block.runs for block in page.blocks)
]
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


# What can be told by reading


@by_name
def test_each_block_is_run_or_says_why_not(page: Page) -> None:
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        assert block.language in (*RUN, *SHOWN), where
        assert not block.remark.startswith("<!--") or REMARK.fullmatch(block.remark), where


@pytest.mark.parametrize("page", [*PAGES, *(Page(ROOT / name) for name in MORE)], ids=lambda page: page.name)
def test_each_link_leads_to_a_file_and_a_heading_that_are_there(page: Page) -> None:
    for link in page.links:
        if link.startswith(("https://", "http://")):
            continue
        file, _, heading = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        assert target.exists(), link
        assert not heading or heading in Page(target).anchors, link


def test_each_page_is_in_the_table_of_contents() -> None:
    contents = Page(ROOT / "docs" / "README.md")
    assert {page.path.name for page in PAGES[1:]} <= {*contents.links, "README.md"}


def flags_of(command: Any) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


def commands_of(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def all_flags(command: Any) -> set[str]:
    return flags_of(command).union(*map(all_flags, commands_of(command).values()))


@by_name
def test_each_command_and_flag_that_a_sentence_names_is_there(page: Page) -> None:
    from taxi_ingest.cli import app

    program = typer.main.get_command(app)
    for span in page.code_spans:
        first, *words = span.split() or [""]
        flags = {word.partition("=")[0] for word in (first, *words) if re.match(r"--[a-z]", word)}
        if first == "taxi-ingest":
            command = program
            while (below := commands_of(command)) and words and re.fullmatch("[a-z]+", words[0]):
                # `schedule yellow` is `schedule create yellow`.
                command = below.get(words.pop(0), below.get("create"))
                assert command, span
            assert flags <= flags_of(command), span
        elif first.startswith("--"):
            assert flags <= all_flags(program), span


# What has to be run

TABLES = {
    "yellow_tripdata_2009-12.csv": "yellow_tripdata",
    "yellow_tripdata_2021-01.parquet": "yellow_tripdata",
    "green_tripdata_2014-08.csv": "green_tripdata",
    "green_tripdata_2021-01.parquet": "green_tripdata",
}
"""What is loaded before a page begins."""


@dataclass(frozen=True)
class World:
    """A machine of its own: a home folder, a mirror of TLC's files, ports, a folder to work in."""

    home: Path
    mirror: str
    prefect_port: int
    postgres_port: int
    other_port: int

    @property
    def stack(self) -> Path:
        """The local stack's usual folder."""
        return self.home / ".local" / "share" / "taxi-ingest"

    @property
    def work(self) -> Path:
        return self.home / "work"

    @property
    def programs(self) -> Path:
        return self.home / "programs"

    @property
    def environment(self) -> dict[str, str]:
        ours = ("TAXI_INGEST_", "PREFECT_", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {
            "HOME": str(self.home),
            "PATH": f"{self.programs}:{Path(PROGRAM).parent}:{os.environ['PATH']}",
            "TAXI_INGEST_PREFECT_PORT": str(self.prefect_port),
            "TAXI_INGEST_TLC_URL": self.mirror,
            "TAXI_INGEST_DOWNLOAD_TRIES": "1",
        }

    def here(self, text: str, url: str) -> str:
        """A text with the addresses of this world in place of those of the one outside."""
        for outside, inside in {
            tlc.TLC_URL: self.mirror,
            "https://github.com/DataTalksClub/nyc-tlc-data/releases/download": self.mirror,
            "postgresql://me@localhost/ny_taxi": url,
            "--host db.example": f"--host 127.0.0.1 --port {self.postgres_port}",
            "db.example": f"127.0.0.1:{self.postgres_port}",
            "127.0.0.1:4200": f"127.0.0.1:{self.prefect_port}",
            "--port 5433": f"--port {self.other_port}",
        }.items():
            text = text.replace(outside, inside)
        return text

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run it in a shell that has what those before it have exported; stdout and stderr as one."""
        exported = self.home / "exported"
        exported.touch()
        return subprocess.run(
            ["bash", "-c", f". {exported}\n{command}\ncode=$?\nexport -p > {exported}\nexit $code"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.work,
            env=self.environment,
            timeout=120,
        )


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    """The months that pages load, made up and small, but for one; the zones, each of them a square."""
    folder = Path(tempfile.mkdtemp(prefix="ti-mirror-"))
    years = (2019, 2020, 2021)
    months = [f"{year}-{month:02}" for year in years for month in range(1, 13)][:31]
    for month in (*months, "2024-01", "2024-02"):
        for dataset in ("yellow", "green"):
            # As many as TLC has, where a page shows the verdict.
            rows = 56_551 if (dataset, month) == ("green", "2024-01") else 30
            write_sample(dataset, month, folder / f"{dataset}_tripdata_{month}.parquet", rows)
    (folder / "yellow_tripdata_2020-02.parquet").unlink()
    write_sample("zones", "", folder / "taxi_zone_lookup.csv")
    (folder / "taxi_zones.geojson").write_text(json.dumps(outlines()))
    for dataset in ("yellow", "green"):
        # The course's mirror has a folder for each.
        (folder / dataset).symlink_to(folder)
    with serve(folder) as server:
        yield server.url("").rstrip("/")
    shutil.rmtree(folder)


def outlines() -> dict[str, object]:
    """A GeoJSON of 260 squares in rows of twenty, round about New York."""

    def square(number: int) -> dict[str, object]:
        west, south = -74.2 + number % 20 * 0.02, 40.5 + number // 20 * 0.03
        east, north = west + 0.02, south + 0.03
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        return {
            "type": "Feature",
            "properties": {"location_id": number, "zone": f"Zone {number}", "borough": "B"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }

    return {"type": "FeatureCollection", "features": [square(number) for number in range(1, 261)]}


@contextmanager
def new_world(mirror: str) -> Iterator[World]:
    """A world with the files that pages name; what it has started is stopped and deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
    world = World(home, mirror, free_port(), free_port(), free_port())
    (world.work / "data").mkdir(parents=True)
    for path in (
        "yellow_tripdata_2024-02.parquet",
        "green_tripdata_2024-01.parquet",
        "data/yellow_tripdata_2021-02.parquet",
        "data/yellow_tripdata_2021-03.parquet",
    ):
        dataset, _, month = Path(path).stem.split("_")
        write_sample(dataset, month, world.work / path, 20)
    for seed, path in enumerate(("trips.csv", "more_trips.csv", "data/trips.csv.gz"), 1):
        write_sample("yellow", "2021-05", world.work / path, 20, seed=seed)
    [step] = [block.text for page in PAGES for block in page.blocks if "def only_long_trips" in block.text]
    (world.work / "my_steps.py").write_text(step)
    (world.work / "secret").write_text("geheim\n")
    (world.work / "docs").symlink_to(ROOT / "docs")
    (home / ".pgpass").write_text("127.0.0.1:*:*:me:geheim\n")
    (home / ".pgpass").chmod(0o600)
    world.programs.mkdir()
    with warmed(PROGRAM, world.environment, world.work) as program:
        (world.programs / program.name).symlink_to(program)
        try:
            yield world
        finally:
            done = world.run("taxi-ingest down --force --remove-data --yes")
            assert done.returncode == 0, done.stdout
            shutil.rmtree(home)


@pytest.fixture(scope="module")
def world(mirror: str, with_tables: Callable[[Path], None]) -> Iterator[World]:
    """A world with its local stack up, and there the database `given`, which has TABLES."""
    with new_world(mirror) as world:
        with_tables(world.stack)
        done = world.run(f"taxi-ingest up --port {world.postgres_port}")
        assert done.returncode == 0, done.stdout
        server = stack.start_database(Settings(home=world.stack))
        execute(
            server,
            "CREATE ROLE me LOGIN PASSWORD 'geheim'",
            "CREATE ROLE loader",
            "CREATE ROLE analyst",
            "CREATE DATABASE taxi OWNER me",
            "CREATE DATABASE given",
        )
        given = url_with(server, dbname="given")
        for name, table in TABLES.items():
            dataset, _, month = Path(name).stem.split("_")
            file = write_sample(dataset, month, world.home / name, 30)
            loaded(file, database_at(given), table, chunk_size=100)
        execute(given, "CREATE SCHEMA staging")
        yield world


@pytest.fixture
def taxi_data(gcs: GcsServer, world: World) -> str:
    """The bucket that a page loads from, in an emulator; what its commands find it by."""
    gcs.make_bucket("taxi-data")
    for month in ("2024-01", "2024-02"):
        name = f"green_tripdata_{month}.parquet"
        gcs.put(
            "taxi-data", f"green/{name}", write_sample("green", month, world.home / name, 30).read_bytes()
        )
    (world.work / "key.json").write_text(json.dumps(service_account_key(gcs.url)))
    return f"export STORAGE_EMULATOR_HOST={gcs.url}\n"


def carry_out(page: Page, world: World, url: str) -> None:
    """Run a page's blocks, one after the other."""
    for block in page.blocks:
        where = f"{page.name}:{block.line}"
        text = world.here(block.text, url)
        if not block.runs:
            continue
        if block.language == "sql":
            execute(url, text)
        elif block.language == "python":
            (world.work / "block.py").write_text(text)
            done = world.run("python block.py")
            assert done.returncode == 0, f"{where}\n{done.stdout}"
        else:
            carry_out_commands(block, world, url, where)


def carry_out_commands(block: Block, world: World, url: str, where: str) -> None:
    for command in block.commands:
        text = world.here(command.text, url)
        if block.how.get("flag") and text.startswith("taxi-ingest "):
            text += " --dry-run"
        done = world.run(text)
        told = f"{where}: {text}\n{done.stdout}"
        assert done.returncode == block.exit_code, told
        assert missing(command.shown, done.stdout) == [], told


def missing(shown: Iterable[str], printed: str) -> list[str]:
    """What of the lines that a page shows is not printed, by their first words, in this order."""
    lines = iter(labels(printed.splitlines()))
    return [label for label in labels(shown) if label not in lines]


def labels(lines: Iterable[str]) -> list[str]:
    """The first words of lines, digits as 0; with the second one where the first is only a sign."""
    words = [re.sub(r"\d+", "0", line).split()[:2] for line in lines if line.strip() not in ("", "…")]
    return [first if re.search(r"\w", first) else " ".join((first, *rest)) for first, *rest in words]


@pytest.mark.slow
@pytest.mark.usefixtures("bigquery")
@pytest.mark.parametrize("page", RUN_HERE, ids=lambda page: page.name)
def test_each_block_of_a_page_runs_and_prints_what_it_shows(
    page: Page, world: World, request: pytest.FixtureRequest
) -> None:
    server = stack.start_database(Settings(home=world.stack))
    name = f"page_{page.path.stem.lower()}".replace("-", "_")
    execute(server, f"CREATE DATABASE {name} TEMPLATE given")
    url = url_with(server, dbname=name)
    bucket = request.getfixturevalue("taxi_data") if page.path.name == "buckets.md" else ""
    (world.home / "exported").write_text(f"export TAXI_INGEST_DATABASE_URL='{url}'\n{bucket}")
    carry_out(page, world, url)


@pytest.mark.slow
def test_the_local_stack_is_started_and_stopped_as_its_page_says(mirror: str) -> None:
    with new_world(mirror) as world:
        carry_out(STACK, world, "")
        assert not world.stack.exists()


# The page of the Python interface


@pytest.mark.slow
def test_the_page_of_the_python_interface_has_every_public_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "api", tmp_path], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "taxi_ingest.html").read_text()
    for name in taxi_ingest.__all__:
        assert f'<section id="{name}">' in page
    assert 'id="ingest.url"' in page or "Path, or URL (file, http, https" in page
