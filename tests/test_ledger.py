"""Every load can be explained and undone; the ledger brings itself up to date."""

import io
import json
from importlib.resources import files
from pathlib import Path

import psycopg2
import pytest

from builders import months, plain_table, row, trips
from helpers import WAITING, Background, Cli, execute, held, loaded, query, totals, until_session
from taxi_ingest.errors import DatabaseError, DataError, UsageError
from taxi_ingest.load import (
    Database,
    Filter,
    LoadResult,
    Target,
    list_loads,
    rejects_of,
    undo,
    write_rejects,
)
from taxi_ingest.load.migrations import LATEST


@pytest.fixture
def two(tmp_path: Path, embedded_database: Database) -> list[LoadResult]:
    """Two loads into the table `trips`."""
    return [loaded(path, embedded_database) for path in months(tmp_path, range(1, 3))]


def statuses(database: Database) -> list[str]:
    """What became of each load, as `loads` tells it."""
    return [load.status for load in list_loads(database, Filter())]


def test_an_undone_load_is_gone_and_the_ledger_knows_it(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    undone = undo(embedded_database, two[0].record.load_id)
    assert (undone.record.source, undone.rows) == (two[0].record.source, 1)
    assert totals(embedded_database_url) == [2]
    assert [load.status for load in list_loads(embedded_database, Filter())] == ["undone", "loaded"]
    assert query(embedded_database_url, "SELECT to_regclass('taxi_ingest.load_1') IS NULL") == [(True,)]
    again = loaded(trips(tmp_path, [row(1)], "yellow_tripdata_2024-01.csv"), embedded_database)
    assert (again.status, again.record.load_id) == ("loaded", 3)
    assert totals(embedded_database_url) == [1, 2]


def test_a_table_without_loads_keeps_its_spelling(two: list[LoadResult], embedded_database: Database) -> None:
    from taxi_ingest.load import look_back

    for load in two:
        undo(embedded_database, load.record.load_id)
    table = look_back(embedded_database, Target("public", "trips"), "").table
    assert table
    assert (table.names, table.dataset) == ("tlc", "yellow")


def test_what_is_no_longer_there_cannot_be_undone(
    two: list[LoadResult], embedded_database: Database, embedded_database_url: str
) -> None:
    undo(embedded_database, 1)
    with pytest.raises(DataError, match="is undone already"):
        undo(embedded_database, 1)
    with pytest.raises(UsageError, match="There is no load 99"):
        undo(embedded_database, 99)
    execute(embedded_database_url, "DROP TABLE trips")
    with pytest.raises(DataError, match="Someone has dropped"):
        undo(embedded_database, two[1].record.load_id)


def test_undo_refuses_a_plain_table_and_says_why(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, plain_table("mine"))
    loaded(trips(tmp_path, [row(1)]), embedded_database, "mine")
    with pytest.raises(DataError, match="can't be told from its others"):
        undo(embedded_database, 1)
    assert totals(embedded_database_url, "mine") == [1]


def test_a_renamed_tables_load_can_be_undone(
    two: list[LoadResult], embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, "ALTER TABLE trips RENAME TO journeys")
    undo(embedded_database, two[0].record.load_id)
    assert totals(embedded_database_url, "journeys") == [2]


def test_a_renamed_table_keeps_its_loads_and_its_old_name_is_free(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = tmp_path / "yellow_tripdata_2024-01.csv"
    execute(embedded_database_url, "CREATE SCHEMA other; ALTER TABLE trips RENAME TO journeys")
    execute(embedded_database_url, "ALTER TABLE journeys SET SCHEMA other")
    assert loaded(path, embedded_database, "other.journeys").status == "skipped"
    loads = list_loads(embedded_database, Filter(target=Target("other", "journeys")))
    assert [(load.load_id, load.status) for load in loads] == [(1, "loaded"), (2, "loaded")]
    assert loaded(path, embedded_database).status == "loaded"
    assert totals(embedded_database_url) == [1]
    assert (
        loaded(trips(tmp_path, [row(3)], path.name), embedded_database, "other.journeys").status == "replaced"
    )
    assert totals(embedded_database_url, "other.journeys") == [2, 3]
    undo(embedded_database, two[1].record.load_id)
    assert totals(embedded_database_url, "other.journeys") == [3]


def test_a_dropped_table_is_loaded_anew(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, "DROP TABLE trips")
    assert [load.status for load in list_loads(embedded_database, Filter())] == ["dropped", "dropped"]
    again = loaded(trips(tmp_path, [row(1)], "yellow_tripdata_2024-01.csv"), embedded_database)
    assert (again.status, again.record.load_id > two[1].record.load_id) == ("loaded", True)
    assert totals(embedded_database_url) == [1]
    assert statuses(embedded_database) == ["dropped", "dropped", "loaded"]


def test_a_dropped_partition_is_loaded_anew(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, f"DROP TABLE taxi_ingest.load_{two[0].record.load_id}")
    again = loaded(trips(tmp_path, [row(1)], "yellow_tripdata_2024-01.csv"), embedded_database)
    assert again.status == "loaded"
    assert totals(embedded_database_url) == [1, 2]


def test_loads_are_filtered(two: list[LoadResult], embedded_database: Database) -> None:
    def numbers(**wanted: object) -> list[int]:
        return [load.load_id for load in list_loads(embedded_database, Filter(**wanted))]  # type: ignore[arg-type]

    first, second = (load.record.load_id for load in two)
    assert numbers() == [first, second]
    assert numbers(target=Target("public", "trips"), dataset="yellow") == [first, second]
    assert numbers(month="2024-02") == [second]
    assert (
        numbers(status="replaced") == numbers(target=Target("public", "x")) == numbers(dataset="green") == []
    )


def test_without_a_ledger_there_are_no_loads(embedded_database: Database) -> None:
    assert list_loads(embedded_database, Filter()) == []
    with pytest.raises(UsageError, match="There is no load 1"):
        rejects_of(embedded_database, 1, 10)


def test_rejects_are_told_as_rows_and_as_csv(tmp_path: Path, embedded_database: Database) -> None:
    path = trips(tmp_path, [row(1), row(2, "many"), 'cut "off"'])
    load = loaded(path, embedded_database, max_rejects="2")
    assert [
        (reject.number, reject.column) for reject in rejects_of(embedded_database, load.record.load_id, 10)
    ] == [
        (3, "passenger_count"),
        (4, None),
    ]
    assert len(rejects_of(embedded_database, load.record.load_id, 1)) == 1
    file = io.BytesIO()
    write_rejects(embedded_database, load.record.load_id, file)
    lines = file.getvalue().decode().splitlines()
    assert lines[0] == "number,column_name,reason,raw"
    assert lines[2] == '4,,1 fields instead of 4,"cut ""off"""'


def first_ledger(url: str) -> None:
    """The ledger as version 0.1.0 made it, with one load."""
    execute(url, files("taxi_ingest.load.migrations").joinpath("1.sql").read_text())
    execute(
        url,
        """
        CREATE TABLE trips (_load_id integer NOT NULL, "VendorID" smallint, tpep_pickup_datetime timestamp,
            passenger_count smallint, total_amount double precision) PARTITION BY LIST (_load_id);
        CREATE TABLE taxi_ingest.load_1 PARTITION OF trips FOR VALUES IN (1);
        INSERT INTO trips VALUES (1, 1, '2024-01-15 12:00:00', 1, 7);
        INSERT INTO taxi_ingest.loads (table_schema, table_name, source, status, sha256, bytes, dataset,
            month, rows_read, rows_loaded, rows_rejected, verdict, quality, names, columns, started_at,
            finished_at, tool_version)
        VALUES ('public', 'trips', 'file:///old.csv', 'loaded', 'abc', 5, 'yellow', '2024-01', 1, 1, 0,
            'unknown', '{}', 'tlc', '{}', now(), now(), '0.1.0')
        """,
    )


def test_an_older_ledger_is_read_and_brought_up_to_date(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    first_ledger(database_url)
    assert [load.source for load in list_loads(database, Filter())] == ["file:///old.csv"]
    assert loaded(trips(tmp_path, [row(1)], "yellow_tripdata_2024-02.csv"), database).status == "loaded"
    assert query(database_url, "SELECT number FROM taxi_ingest.ledger_version") == [(LATEST,)]
    undo(database, 1)
    assert totals(database_url) == [1]


def test_a_newer_ledger_stops_an_older_tool(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    execute(embedded_database_url, "UPDATE taxi_ingest.ledger_version SET number = 99")
    for use in (
        lambda: loaded(trips(tmp_path, [row(3)]), embedded_database),
        lambda: list_loads(embedded_database, Filter()),
        lambda: undo(embedded_database, 1),
    ):
        with pytest.raises(DatabaseError, match=r"newer taxi-ingest .*version 99") as failure:
            use()
        assert failure.value.hint == "Upgrade taxi-ingest."
    assert totals(embedded_database_url) == [1, 2]


def test_a_fresh_ledger_has_the_latest_version(two: list[LoadResult], embedded_database_url: str) -> None:
    del two
    assert query(embedded_database_url, "SELECT number FROM taxi_ingest.ledger_version") == [(LATEST,)]
    numbers = sorted(int(path.name.removesuffix(".sql")) for path in _migrations())
    assert numbers == list(range(1, LATEST + 1))


def _migrations() -> list[Path]:
    folder = Path(str(files("taxi_ingest.load.migrations")))
    return list(folder.glob("*.sql"))


def test_the_commands_list_show_and_undo(
    two: list[LoadResult], cli: Cli, embedded_database_url: str, tmp_path: Path, embedded_database: Database
) -> None:
    del two
    loaded(
        trips(tmp_path, [row(3), row(4, "many")], "yellow_tripdata_2024-03.csv"),
        embedded_database,
        max_rejects="1",
    )
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    listed = cli("loads", env=env).stdout.splitlines()
    assert listed[0].split() == ["load", "table", "file", "rows", "rejects", "state", "when"]
    assert listed[1].split()[:7] == ["1", "trips", "yellow", "2024-01", "1", "0", "loaded"]
    assert len(listed) == 4
    latest = cli("loads", "--limit", "2", env=env).stdout.splitlines()
    assert [line.split()[0] for line in latest] == ["load", "2", "3"]
    assert (
        f"source         {json.loads(cli('loads', 3, '--json', env=env).stdout)['source']}"
        in cli("loads", 3, env=env).stdout.splitlines()
    )
    assert cli("loads", 99, env=env).returncode == 2
    loads = json.loads(
        cli("loads", "--month", "2024-02", "--json", "--database-url", embedded_database_url).stdout
    )
    assert [(load["load_id"], load["table"], load["status"]) for load in loads["loads"]] == [
        (2, "trips", "loaded")
    ]
    assert (
        cli("rejects", 3, env=env).stdout == f"3\tpassenger_count: 'many' is no smallint\t{row(4, 'many')}\n"
    )
    assert cli("rejects", 3, "--csv", env=env).stdout.startswith("number,column_name,reason,raw\n3,")
    undone = cli("undo", 1, "--json", env=env)
    assert (json.loads(undone.stdout)["status"], undone.returncode) == ("undone", 0)
    refused = cli("undo", 1, env=env)
    assert (refused.returncode, "is undone already" in refused.stderr) == (4, True)
    assert cli("undo", 99, env=env).returncode == 2
    assert totals(embedded_database_url) == [2, 3]


DETACH = "ALTER TABLE trips DETACH PARTITION taxi_ingest.load_1"
ATTACH = "ALTER TABLE trips ATTACH PARTITION taxi_ingest.load_1 FOR VALUES IN (1)"


def test_a_partition_that_is_attached_again_counts_as_loaded(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    execute(embedded_database_url, DETACH)
    assert statuses(embedded_database) == ["dropped", "loaded"]
    loaded(trips(tmp_path, [row(3)], "yellow_tripdata_2024-03.csv"), embedded_database)
    execute(embedded_database_url, ATTACH)
    assert statuses(embedded_database) == ["loaded"] * 3
    first = tmp_path / "yellow_tripdata_2024-01.csv"
    assert loaded(first, embedded_database).status == "skipped"
    assert totals(embedded_database_url) == [1, 2, 3]
    undo(embedded_database, 1)
    assert totals(embedded_database_url) == [2, 3]


def test_what_is_detached_is_loaded_anew_and_not_undone(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    execute(embedded_database_url, DETACH)
    with pytest.raises(DataError, match="dropped or detached the rows of load 1") as refused:
        undo(embedded_database, 1)
    assert "taxi_ingest.load_1" in refused.value.hint
    again = loaded(tmp_path / "yellow_tripdata_2024-01.csv", embedded_database)
    assert (again.status, again.record.load_id) == ("loaded", 3)
    assert statuses(embedded_database) == ["dropped", "loaded", "loaded"]
    assert totals(embedded_database_url) == [1, 2]


def test_a_partition_whose_detaching_is_pending_is_not_there(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    reader = held(embedded_database_url, "SELECT count(*) FROM trips")
    detaching = Background(lambda: execute(embedded_database_url, f"{DETACH} CONCURRENTLY"))
    until_session(embedded_database_url, f"{WAITING} AND query LIKE '%CONCURRENTLY'")
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%CONCURRENTLY'"
    execute(embedded_database_url, cancel)
    with pytest.raises(psycopg2.errors.QueryCanceled):
        detaching.result()
    reader.close()
    assert statuses(embedded_database) == ["dropped", "loaded"]
    with pytest.raises(DataError, match="dropped or detached"):
        undo(embedded_database, 1)
    assert loaded(tmp_path / "yellow_tripdata_2024-01.csv", embedded_database).status == "loaded"
    assert totals(embedded_database_url) == [1, 2]


def test_a_plain_table_by_the_name_of_a_dropped_one_has_none_of_its_loads(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    execute(embedded_database_url, "DROP TABLE trips", plain_table("trips"))
    assert statuses(embedded_database) == ["dropped", "dropped"]
    assert loaded(tmp_path / "yellow_tripdata_2024-01.csv", embedded_database).status == "loaded"
    assert totals(embedded_database_url) == [1]


def test_a_load_moved_to_another_table_is_undone_there(
    two: list[LoadResult], embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    execute(
        embedded_database_url,
        f"CREATE TABLE other (LIKE trips) PARTITION BY LIST (_load_id); {DETACH};"
        f"{ATTACH.replace('trips', 'other')}",
    )
    assert [str(load.target) for load in list_loads(embedded_database, Filter())] == ["other", "trips"]
    assert str(undo(embedded_database, 1).record.target) == "other"
    assert (totals(embedded_database_url, "other"), totals(embedded_database_url)) == ([], [2])


def test_truncated_rows_count_as_loaded_until_they_are_replaced(
    two: list[LoadResult], tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    del two
    execute(embedded_database_url, "TRUNCATE trips")
    first = tmp_path / "yellow_tripdata_2024-01.csv"
    assert loaded(first, embedded_database).status == "skipped"
    assert loaded(first, embedded_database, if_loaded="replace").status == "replaced"
    assert totals(embedded_database_url) == [1]


def test_what_an_older_ledger_has_as_dropped_counts_again_once_it_is_attached(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    first_ledger(embedded_database_url)
    execute(embedded_database_url, files("taxi_ingest.load.migrations").joinpath("2.sql").read_text())
    execute(embedded_database_url, f"UPDATE taxi_ingest.loads SET status = 'dropped'; {DETACH}")
    assert statuses(embedded_database) == ["dropped"]
    loaded(trips(tmp_path, [row(2)], "yellow_tripdata_2024-02.csv"), embedded_database)
    execute(embedded_database_url, ATTACH)
    assert statuses(embedded_database) == ["loaded", "loaded"]


def test_looking_at_an_older_ledger_changes_and_locks_nothing(
    embedded_database: Database, embedded_database_url: str
) -> None:
    first_ledger(embedded_database_url)
    execute(embedded_database_url, files("taxi_ingest.load.migrations").joinpath("2.sql").read_text())
    loading = held(embedded_database_url, "LOCK TABLE taxi_ingest.loads IN ROW EXCLUSIVE MODE")
    assert statuses(embedded_database) == ["loaded"]
    loading.close()
    assert query(embedded_database_url, "SELECT number FROM taxi_ingest.ledger_version") == [(2,)]


@pytest.mark.parametrize(
    ("flag", "value", "near"),
    [("--dataset", "yelow", "Did you mean yellow?"), ("--month", "2024-1", "Did you mean 2024-01?")],
)
def test_a_filter_that_fits_nothing_is_refused_with_the_near_miss(
    cli: Cli, embedded_database_url: str, flag: str, value: str, near: str
) -> None:
    result = cli("loads", flag, value, "--database-url", embedded_database_url)
    assert (result.returncode, result.stdout) == (2, "")
    assert near in " ".join(result.stderr.split())


def test_what_a_terminal_would_obey_is_shown(
    cli: Cli, tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(
        trips(tmp_path, [row(1), row(2, "\x1b[31mred\x07\x9b")], "a\x1b[2J [bold]\n.csv"),
        embedded_database,
        "[red]trips[/]\x1b]0;title\x07",
        max_rejects="1",
    )
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    listed, rejected, undone = (
        cli(*command, env=env) for command in (["loads"], ["rejects", 1], ["undo", 1])
    )
    for result in (listed, rejected, undone):
        assert result.returncode == 0, result.stderr
        assert not {"\x1b", "\x07", "\x9b"} & set(result.stdout + result.stderr)
    assert r"[red]trips[/]\x1b]0;title\x07" in listed.stdout
    assert "[bold]" in listed.stdout.replace("%5B", "[").replace("%5D", "]")
    assert r"\x1b[31mred\x07\x9b" in rejected.stdout
    assert r"[red]trips[/]\x1b]0;title\x07" in undone.stdout
