"""Partitions moved by hand: what the ledger can't follow is told, and no row gets there twice."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from builders import elsewhere, row, trips
from helpers import Cli, execute, loaded, looked_ahead, query, together, totals, value
from taxi_ingest.errors import DataError
from taxi_ingest.load import Database, Target, disagreements, undo
from taxi_ingest.months import compare, to_load
from taxi_ingest.places import Postgres
from taxi_ingest.report.reading import make_report

TODAY = date(2024, 6, 1)
FEBRUARY = "yellow_tripdata_2024-02.csv"


def detach(url: str, *numbers: int) -> None:
    for number in numbers:
        execute(url, f"ALTER TABLE trips DETACH PARTITION taxi_ingest.load_{number}")


def attach(url: str, *numbers: int) -> None:
    for number in numbers:
        execute(url, f"ALTER TABLE trips ATTACH PARTITION taxi_ingest.load_{number} FOR VALUES IN ({number})")


def in_two_parts(folder: Path, database: Database, url: str) -> Path:
    """A file of sixty rows, loaded as load 1 with the parts 1 and 2."""
    file = trips(folder, [row(number) for number in range(60)])
    loaded(file, database, connections=2, on_progress=together(url, 2))
    return file


def torn(folder: Path, database: Database, url: str) -> Path:
    """A part is detached."""
    file = in_two_parts(folder, database, url)
    detach(url, 2)
    return file


def with_a_part_dropped(folder: Path, database: Database, url: str) -> Path:
    file = torn(folder, database, url)
    execute(url, "DROP TABLE taxi_ingest.load_2")
    return file


def undone(folder: Path, database: Database, url: str) -> Path:
    """A part that was detached outlasts the undo of its load."""
    file = torn(folder, database, url)
    undo(database, 1)
    return file


def detached(folder: Path, database: Database, url: str) -> Path:
    """A file of one row, loaded as load 1, which is detached."""
    file = trips(folder, [row(1)])
    loaded(file, database)
    detach(url, 1)
    return file


def attached_after_undo(folder: Path, database: Database, url: str) -> Path:
    file = undone(folder, database, url)
    attach(url, 2)
    return file


def attached_after_undo_and_a_load(folder: Path, database: Database, url: str) -> Path:
    file = undone(folder, database, url)
    loaded(file, database)
    attach(url, 2)
    return file


def attached_after_a_replacement(folder: Path, database: Database, url: str) -> Path:
    file = trips(folder, [row(1)])
    loaded(file, database)
    execute(url, "CREATE TABLE kept AS TABLE trips")
    trips(folder, [row(2)])
    loaded(file, database)
    execute(
        url,
        "CREATE TABLE taxi_ingest.load_1 (LIKE trips INCLUDING ALL)",
        "INSERT INTO taxi_ingest.load_1 TABLE kept",
    )
    attach(url, 1)
    return file


def attached_beside_the_same_file(folder: Path, database: Database, url: str) -> Path:
    file = detached(folder, database, url)
    loaded(file, database)
    attach(url, 1)
    return file


def attached_beside_its_revision(folder: Path, database: Database, url: str) -> Path:
    file = detached(folder, database, url)
    loaded(file, database)
    trips(folder, [row(2)])
    loaded(file, database)
    attach(url, 1)
    return file


def attached_beside_the_same_content(folder: Path, database: Database, url: str) -> Path:
    file = detached(folder, database, url)
    loaded(elsewhere(folder, [row(1)]), database)
    attach(url, 1)
    return file


def a_part_attached_beside_the_same_file(folder: Path, database: Database, url: str) -> Path:
    file = in_two_parts(folder, database, url)
    detach(url, 1, 2)
    loaded(file, database)
    attach(url, 2)
    return file


World = Callable[[Path, Database, str], Path]
WORLDS: list[tuple[World, str]] = [
    (torn, "torn"),
    (with_a_part_dropped, "torn"),
    (attached_after_undo, "ended"),
    (attached_after_undo_and_a_load, "ended"),
    (attached_after_a_replacement, "ended"),
    (attached_beside_the_same_file, "twice"),
    (attached_beside_its_revision, "twice"),
    (attached_beside_the_same_content, "twice"),
    (a_part_attached_beside_the_same_file, "twice"),
]


@pytest.mark.parametrize(("world", "kind"), WORLDS)
def test_what_the_ledger_can_not_follow_is_found_and_told_and_loaded_into_no_more(
    world: World,
    kind: str,
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
) -> None:
    file = world(tmp_path, embedded_database, embedded_database_url)
    before = totals(embedded_database_url)
    [found] = disagreements(embedded_database)
    assert (found.kind, found.load_id, str(found.target), found.month) == (kind, 1, "trips", "2024-01")
    assert found.mend().endswith("taxi-ingest undo 1")
    [month] = compare(Postgres(embedded_database), Target("public", "trips"), "yellow", ["2024-01"], TODAY)
    assert (month.state, month.disagreements) == ("inconsistent", (found,))
    report = make_report(embedded_database, Target("public", "trips"), TODAY)
    assert report.notes[0].startswith(found.found)
    assert dict(report.facts)["trips"] == str(len(before))
    for how in ("skip", "replace", "fail"):
        for act in (loaded, looked_ahead):
            with pytest.raises(DataError) as refused:
                act(file, embedded_database, if_loaded=how)
            assert (str(refused.value), refused.value.hint) == (found.found, found.mend())
    assert totals(embedded_database_url) == before


@pytest.mark.parametrize(("world", "kind"), WORLDS)
def test_what_is_told_to_help_helps(
    world: World,
    kind: str,
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
) -> None:
    del kind
    file = world(tmp_path, embedded_database, embedded_database_url)
    undo(embedded_database, 1)
    assert disagreements(embedded_database) == []
    loaded(file, embedded_database)
    assert len(totals(embedded_database_url)) == len(file.read_text().splitlines()) - 1
    assert disagreements(embedded_database) == []


def test_the_statement_that_is_told_attaches_the_part_again(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = torn(tmp_path, embedded_database, embedded_database_url)
    [found] = disagreements(embedded_database)
    statement = found.mend().partition("Attach it again: ")[2].partition(";")[0]
    execute(embedded_database_url, statement)
    assert disagreements(embedded_database) == []
    assert loaded(file, embedded_database).status == "skipped"
    assert totals(embedded_database_url) == list(range(60))


def test_the_rest_of_the_table_goes_on(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    torn(tmp_path, embedded_database, embedded_database_url)
    february = trips(tmp_path, [row(100)], FEBRUARY)
    assert loaded(february, embedded_database).status == "loaded"
    assert loaded(february, embedded_database).status == "skipped"
    target = Target("public", "trips")
    months = compare(Postgres(embedded_database), target, "yellow", ["2024-01", "2024-02"], TODAY)
    assert [month.state for month in months] == ["inconsistent", "loaded"]


def test_what_is_wanted_twice_and_what_is_moved_is_no_disagreement(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    january = trips(tmp_path, [row(1)])
    loaded(january, embedded_database)
    loaded(elsewhere(tmp_path, [row(5)]), embedded_database, keep_both=True)
    loaded(trips(tmp_path, [row(5)]), embedded_database, keep_both=True)
    assert totals(embedded_database_url) == [5, 5]
    assert disagreements(embedded_database) == []
    detach(embedded_database_url, 2)
    execute(
        embedded_database_url,
        "CREATE TABLE other (LIKE trips) PARTITION BY LIST (_load_id);"
        "ALTER TABLE other ATTACH PARTITION taxi_ingest.load_2 FOR VALUES IN (2);"
        "ALTER TABLE trips RENAME TO journeys",
    )
    assert disagreements(embedded_database) == []


def test_a_disagreement_follows_the_tables_name_and_a_ledger_without_parts_has_them_too(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    attached_beside_the_same_file(tmp_path, embedded_database, embedded_database_url)
    execute(embedded_database_url, "ALTER TABLE trips RENAME TO journeys")
    [found] = disagreements(embedded_database)
    assert str(found.target) == "journeys"
    assert disagreements(embedded_database, Target("public", "trips")) == []
    execute(
        embedded_database_url,
        "DROP TABLE taxi_ingest.parts; UPDATE taxi_ingest.ledger_version SET number = 6",
    )
    assert disagreements(embedded_database) == [found]


def test_a_backfill_does_not_pass_over_what_is_inconsistent(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    attached_beside_the_same_file(tmp_path, embedded_database, embedded_database_url)
    months = compare(Postgres(embedded_database), Target("public", "trips"), "yellow", ["2024-01"], TODAY)
    assert to_load(months, "missing") == months
    assert to_load(months, "revised") == []


@pytest.mark.parametrize("is_dropped", [False, True])
def test_undo_says_which_rows_went_and_where_the_others_are(
    is_dropped: bool, tmp_path: Path, cli: Cli, embedded_database: Database, embedded_database_url: str
) -> None:
    world = with_a_part_dropped if is_dropped else torn
    world(tmp_path, embedded_database, embedded_database_url)
    here = value(embedded_database_url, "SELECT count(*) FROM trips")
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    told = cli("undo", 1, env=env).stdout
    assert f"Undone: {here} of the 60 rows of load 1" in told
    if is_dropped:
        assert f"dropped or moved the other {60 - here}" in told
    else:
        assert f"taxi_ingest.load_2, which someone has detached, still has {60 - here}" in told
        assert value(embedded_database_url, "SELECT count(*) FROM taxi_ingest.load_2") == 60 - here
    assert totals(embedded_database_url) == []


def test_an_undo_as_json_says_the_same(
    tmp_path: Path, cli: Cli, embedded_database: Database, embedded_database_url: str
) -> None:
    torn(tmp_path, embedded_database, embedded_database_url)
    here = value(embedded_database_url, "SELECT count(*) FROM trips")
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    told = json.loads(cli("undo", 1, "--json", env=env).stdout)
    assert (told["status"], told["rows_undone"]) == ("undone", here)
    assert told["detached"] == {"taxi_ingest.load_2": 60 - here}


def test_what_is_attached_again_after_its_undo_can_be_undone_again(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    attached_after_undo(tmp_path, embedded_database, embedded_database_url)
    ended = "SELECT status, ended_at FROM taxi_ingest.loads"
    before = query(embedded_database_url, ended)
    count = value(embedded_database_url, "SELECT count(*) FROM trips")
    undone = undo(embedded_database, 1)
    assert (undone.rows, list(map(str, undone.tables)), undone.detached) == (count, ["trips"], {})
    assert query(embedded_database_url, ended) == before
    with pytest.raises(DataError, match="is undone already"):
        undo(embedded_database, 1)


def test_status_doctor_and_loads_tell_it_with_what_helps(
    tmp_path: Path, cli: Cli, embedded_database: Database, embedded_database_url: str
) -> None:
    file = torn(tmp_path, embedded_database, embedded_database_url)
    flags = ("--database-url", embedded_database_url)
    assert cli("ingest", file, "--table", "trips", *flags).returncode == DataError.exit_code
    status = cli("status", "--table", "trips", *flags).stdout
    assert "! 1 inconsistent" in status
    assert "--reprocess failed" not in status
    undo_it = "taxi-ingest undo 1 --database-url 'postgresql://"
    for told in (
        status,
        cli("loads", *flags).stderr,
        cli("loads", 1, *flags).stderr,
        cli("status", "--check", "--table", "trips", *flags).stderr,
        cli("doctor", *flags).stdout,
    ):
        words = " ".join(told.split())
        assert "trips has a part of load 1" in words
        assert "ATTACH PARTITION taxi_ingest.load_2" in words
        assert undo_it in words
    [yellow] = json.loads(cli("status", "--json", "--table", "trips", *flags).stdout)["datasets"]
    [month] = [month for month in yellow["months"] if month["state"] == "inconsistent"]
    [told] = json.loads(cli("loads", "--json", *flags).stdout)["disagreements"]
    assert month["disagreements"] == [told]
    attach(embedded_database_url, 2)
    assert "failed" not in cli("status", "--table", "trips", *flags).stdout, "what is mended is past"
