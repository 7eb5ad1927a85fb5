"""docs/course.md holds: its queries and commands run as they stand there, and its answers are right."""

import csv
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bigquery_server import BigQueryServer
from bucket_servers import GcsServer
from helpers import PROGRAM, QUICK, ROOT, SHARED_DATA, Publish, Rows, free_port, loaded, query, run_cli
from taxi_ingest import stack, tlc
from taxi_ingest.load import Database, database_at
from taxi_ingest.settings.environment import Settings
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.views import make_views
from warm import warmed

TEXT = (ROOT / "docs" / "course.md").read_text()
TODAY = datetime.date(2026, 11, 1)
COUNTS = SHARED_DATA / "tlc_rowcounts.tsv"


@dataclass(frozen=True)
class Question:
    """A query of the document, and the answer that it gives, with how far that is known."""

    sql: str
    answer: str
    known: str

    @property
    def subject(self) -> str:
        """`green 2025-11` of `checked with green 2025-11`."""
        return self.known.split(" ", 2)[-1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """What stands behind a prompt, without its comment; but for the chain's."""
    return [command for command in _prompted() if " --to " not in command]


def chain() -> list[str]:
    """The commands that load from the web into a bucket, and from there into BigQuery."""
    return [command for command in _prompted() if " --to " in command]


def _prompted() -> list[str]:
    return [
        line[2:].partition("  #")[0].strip()
        for block in blocks("console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


QUESTIONS = [
    Question(*found)
    for found in re.findall(
        r"^```sql\n([^`]*?)^```\n\nAnswer: \*\*([^*\n]+)\*\* \(([^\n]+)\)$", TEXT, re.MULTILINE
    )
]
CHECKED = [question for question in QUESTIONS if question.known.startswith("checked with")]
COUNTED = [question for question in QUESTIONS if question.known.startswith("counted as")]


@cache
def months() -> list[tuple[str, str]]:
    """The datasets and months that the document loads."""
    found: dict[tuple[str, str], None] = {}
    for command in commands():
        words = command.split()
        if words[:2] == ["taxi-ingest", "backfill"]:
            end = words.index("--names")
            for name in words[2 : end - 1]:
                listed = tlc.parse_range(words[end - 1], tlc.dataset_named(name), TODAY).months
                found |= dict.fromkeys((name, month) for month in listed)
        elif words[:2] == ["taxi-ingest", "ingest"]:
            found[words[words.index("--dataset") + 1], words[words.index("--month") + 1]] = None
    return list(found)


def shown(rows: Rows) -> str:
    """A result as the document writes it: values of a row with `; `, rows with `, ` between them."""
    return ", ".join("; ".join(map(spelled, row)) for row in rows)


def spelled(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def zones(folder: Path) -> Path:
    real = SHARED_DATA / "zones" / "taxi_zone_lookup.csv"
    target = folder / "taxi_zone_lookup.csv"
    return Path(shutil.copy(real, target)) if real.exists() else write_sample("zones", "", target)


@pytest.fixture(scope="module")
def mirror() -> Iterator[Path]:
    """A made-up file of each month that the document loads, and the zones."""
    folder = Path(tempfile.mkdtemp(prefix="ti-course-"))
    for dataset, month in months():
        write_sample(dataset, month, folder / f"{dataset}_tripdata_{month}.parquet", 30)
    zones(folder)
    yield folder
    shutil.rmtree(folder)


def load(folder: Path, database: Database) -> None:
    """Load a folder's files as the document does."""
    for file in sorted(folder.glob("*_tripdata_*")):
        table = f"{file.name.partition('_')[0]}_tripdata"
        loaded(file, database, table, names="lower", chunk_size=100_000)
    loaded(folder / "taxi_zone_lookup.csv", database, "taxi_zones", chunk_size=1000)
    make_views(database)


def test_every_question_says_how_far_its_answer_is_known() -> None:
    assert len(QUESTIONS) == TEXT.count("\nAnswer: ")
    for question in QUESTIONS:
        assert re.match(r"checked with \w+ \d{4}-\d\d$|counted as |not checked here", question.known)


def test_each_query_runs_on_the_months_that_the_document_loads(
    mirror: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    load(mirror, embedded_database)
    for sql in blocks("sql"):
        query(embedded_database_url, sql)


@pytest.mark.parametrize("subject", sorted({question.subject for question in CHECKED}))
def test_each_checked_answer_is_that_of_tlcs_real_file(
    subject: str, tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    name = "{}_tripdata_{}".format(*subject.split())
    files = [path for path in SHARED_DATA.glob(f"*/{name}.*") if path.parent.name in ("csv", "parquet")]
    if not files:
        pytest.skip(f"needs the real file {name}")
    shutil.copy(files[0], tmp_path)
    zones(tmp_path)
    load(tmp_path, embedded_database)
    for question in [question for question in CHECKED if question.subject == subject]:
        assert shown(query(embedded_database_url, question.sql)) == question.answer


@pytest.mark.skipif(not COUNTS.exists(), reason="needs the known row counts")
@pytest.mark.parametrize("question", COUNTED, ids=lambda question: question.subject)
def test_each_counted_answer_is_the_sum_of_tlcs_known_rows(question: Question) -> None:
    dataset, months, format = question.subject.split()
    first, last = months.split("..")
    with COUNTS.open() as file:
        counts = [
            int(row["rows"])
            for row in csv.DictReader(file, delimiter="\t")
            if (row["dataset"], row["format"]) == (dataset, format)
            and first <= f"{row['year']}-{int(row['month']):02}" <= last
        ]
    assert question.answer == f"{sum(counts):,}"


@pytest.mark.slow
def test_each_command_and_program_runs(
    mirror: Path, tmp_path: Path, with_tables: Callable[[Path], None]
) -> None:
    home = Path(tempfile.mkdtemp(prefix="ti-", dir=QUICK))
    with_tables(home)
    environment = {
        **os.environ,
        "TAXI_INGEST_HOME": str(home),
        "TAXI_INGEST_PREFECT_PORT": str(free_port()),
        "TAXI_INGEST_TLC_URL": str(mirror),
        "PATH": f"{tmp_path}:{Path(PROGRAM).parent}:{os.environ['PATH']}",
    }
    port = str(free_port())
    # Named, as else each command would ask Prefect for a block.
    environment["TAXI_INGEST_DATABASE_URL"] = stack.start_database(Settings(home=home))
    load(mirror, database_at(environment["TAXI_INGEST_DATABASE_URL"]))
    with warmed(PROGRAM, environment, mirror) as quick:
        (tmp_path / quick.name).symlink_to(quick)
        try:
            for command in dict.fromkeys(commands()):
                if command.startswith(("export TAXI_INGEST_", "unset")):
                    continue
                dry = " --dry-run" if re.match("taxi-ingest (backfill|ingest)", command) else ""
                done = subprocess.run(
                    ["bash", "-euc", command.replace("5434", port) + dry],
                    env=environment,
                    cwd=mirror,
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, (command, done.stderr)
            for program in blocks("python"):
                done = subprocess.run(
                    [sys.executable, "-c", program], env=environment, capture_output=True, text=True
                )
                assert (done.returncode, "trips" in done.stdout) == (0, True), done.stderr
        finally:
            run_cli("down", "--remove-data", "--yes", env=environment)
    assert not home.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_the_chain_from_the_web_over_a_bucket_into_bigquery_is_three_commands(
    publish: Publish, gcs: GcsServer, bigquery: BigQueryServer
) -> None:
    for month in ("2019-02", "2019-03"):
        publish(month, 200)
    gcs.make_bucket("my-bucket")
    environment = {**os.environ, **gcs.environment, "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"}
    printed = [
        subprocess.run(
            ["bash", "-euc", command], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for command in chain()
    ]
    assert [text.splitlines()[0].split()[0] for text in printed] == ["Loaded", "Loaded", "load"]
    rows = {month: len(rows) for month, rows in bigquery.tables["yellow_tripdata"].partitions.items()}
    assert rows == {"201902": 200, "201903": 200}
    sources = sorted(row["source"] for row in bigquery.tables["taxi_ingest_loads"].rows)
    assert sources == [
        f"gs://my-bucket/lake/yellow_tripdata/month={month}/yellow_tripdata_{month}.parquet"
        for month in ("2019-02", "2019-03")
    ]
