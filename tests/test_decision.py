"""What becomes of a file: the load does what the dry run says, and what is refused is refused in both."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import elsewhere, parquet_trips, plain_table, row, trips, zones
from helpers import execute, held, loaded, looked_ahead, query, totals
from taxi_ingest.errors import DataError, TaxiIngestError, UsageError
from taxi_ingest.load import Database, LoadResult, parse_target, undo
from taxi_ingest.load.checks import check_counts
from taxi_ingest.load.copy import Counts
from taxi_ingest.load.rejects import RejectSpool
from taxi_ingest.settings.job import Allowance, IfLoaded
from taxi_ingest.transform import open_stream


def names_in(url: str, table: str = "taxi_zones") -> list[object]:
    return [name for (name,) in query(url, f'SELECT "Zone" FROM {table} ORDER BY 1')]


def both(path: Path, database: Database, table: str = "trips", **how: object) -> tuple[object, object]:
    """What the dry run says of a file, and what the load does; of a refusal, its exit code and words."""

    def outcome(act: Callable[[], object]) -> object:
        try:
            return act()
        except TaxiIngestError as error:
            return error.exit_code, str(error), error.hint

    verbs = {"loaded": "load", "skipped": "skip", "replaced": "replace"}
    planned = outcome(lambda: looked_ahead(path, database, table, **how).action)
    done = outcome(lambda: verbs[loaded(path, database, table, **how).status])
    return planned, done


State = Callable[[Path, Database, str], Path]


def new(folder: Path, _: Database, __: str) -> Path:
    return trips(folder, [row(1)])


def same(folder: Path, database: Database, _: str) -> Path:
    path = trips(folder, [row(1)])
    loaded(path, database)
    return path


def changed(folder: Path, database: Database, _: str) -> Path:
    loaded(trips(folder, [row(1)]), database)
    return trips(folder, [row(2)])


def second_place(folder: Path, database: Database, _: str) -> Path:
    loaded(elsewhere(folder, [row(1)]), database)
    return trips(folder, [row(2)])


def detached(folder: Path, database: Database, url: str) -> Path:
    path = same(folder, database, url)
    execute(url, "ALTER TABLE trips DETACH PARTITION taxi_ingest.load_1")
    return path


def other_dataset(folder: Path, database: Database, _: str) -> Path:
    loaded(trips(folder, [row(1)]), database)
    path = folder / "any.csv"
    path.write_text("a,b\n1,2\n")
    return path


PLAIN = plain_table("trips")


def plain(folder: Path, _: Database, url: str) -> Path:
    execute(url, PLAIN)
    return trips(folder, [row(1)])


def plain_same(folder: Path, database: Database, url: str) -> Path:
    execute(url, PLAIN)
    return same(folder, database, url)


def plain_changed(folder: Path, database: Database, url: str) -> Path:
    execute(url, PLAIN)
    return changed(folder, database, url)


def plain_second_place(folder: Path, database: Database, url: str) -> Path:
    execute(url, PLAIN)
    return second_place(folder, database, url)


def plain_that_lacks_a_column(folder: Path, _: Database, url: str) -> Path:
    execute(url, f"{PLAIN}; ALTER TABLE trips DROP total_amount")
    return trips(folder, [row(1)])


def plain_of_other_types(folder: Path, _: Database, url: str) -> Path:
    execute(url, f"{PLAIN}; ALTER TABLE trips ALTER total_amount TYPE money USING NULL")
    return trips(folder, [row(1)])


def a_view(folder: Path, _: Database, url: str) -> Path:
    execute(url, "CREATE VIEW trips AS SELECT 1 AS a")
    return trips(folder, [row(1)])


def lookup_same(folder: Path, database: Database, _: str) -> Path:
    loaded(zones(folder, "A"), database)
    return zones(folder, "A")


def lookup_changed(folder: Path, database: Database, _: str) -> Path:
    loaded(zones(folder, "A"), database)
    return zones(folder, "B")


def lookup_with_foreign_rows(folder: Path, database: Database, url: str) -> Path:
    loaded(zones(folder, "A"), database)
    execute(url, "INSERT INTO trips VALUES (2, 'mine')")
    return zones(folder, "B")


STATES = [
    *(new, same, changed, second_place, detached, other_dataset),
    *(plain, plain_same, plain_changed, plain_second_place, plain_that_lacks_a_column, plain_of_other_types),
    *(a_view, lookup_same, lookup_changed, lookup_with_foreign_rows),
]


@pytest.mark.parametrize("if_loaded", ["skip", "replace", "fail"])
@pytest.mark.parametrize("state", STATES)
def test_the_dry_run_says_what_the_load_does(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, state: State, if_loaded: IfLoaded
) -> None:
    path = state(tmp_path, embedded_database, embedded_database_url)
    planned, done = both(path, embedded_database, if_loaded=if_loaded)
    assert planned == done


@pytest.mark.parametrize("if_loaded", ["skip", "fail"])
def test_a_month_from_a_second_place_is_refused_with_both_addresses(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, if_loaded: str
) -> None:
    first = elsewhere(tmp_path, [row(1)])
    loaded(first, embedded_database)
    second = trips(tmp_path, [row(2)], "yellow_tripdata_2024-01 (1).csv")
    with pytest.raises(DataError, match="yellow 2024-01 already: load 1 from file://") as failure:
        loaded(second, embedded_database, if_loaded=if_loaded)
    assert f"{first.as_uri()}." in str(failure.value)
    assert second.as_uri() in str(failure.value)
    assert "--keep-both" in failure.value.hint
    assert totals(embedded_database_url) == [1]


def test_a_month_from_a_second_place_replaces_or_stands_beside_as_wanted(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(elsewhere(tmp_path, [row(1)]), embedded_database)
    here = trips(tmp_path, [row(2)])
    replaced = loaded(here, embedded_database, if_loaded="replace")
    assert (replaced.status, replaced.record.replaces) == ("replaced", 1)
    other = elsewhere(tmp_path, [row(3)])
    assert loaded(other, embedded_database, keep_both=True).status == "loaded"
    assert totals(embedded_database_url) == [2, 3]
    # Each has its place now: a revision replaces its own.
    assert loaded(trips(tmp_path, [row(4)]), embedded_database).status == "replaced"
    assert totals(embedded_database_url) == [3, 4]
    third = trips(tmp_path, [row(5)], "copy of yellow_tripdata_2024-01.csv")
    with pytest.raises(DataError, match=r"load 3 from .*, load 4 from") as failure:
        loaded(third, embedded_database, if_loaded="replace")
    assert "undo" in failure.value.hint


def test_a_month_as_parquet_and_as_csv_is_one_month(tmp_path: Path, embedded_database: Database) -> None:
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    path = parquet_trips(tmp_path, "yellow_tripdata_2024-01.parquet", 1_705_320_000, rows=1)
    with pytest.raises(DataError, match="yellow 2024-01 already"):
        loaded(path, embedded_database)


def test_files_of_no_known_month_are_not_compared(tmp_path: Path, embedded_database: Database) -> None:
    for name, amount in (("a.csv", 1), ("b.csv", 2)):
        assert loaded(trips(tmp_path, [row(amount)], name), embedded_database).status == "loaded"


CUT = [row(day, pickup=f"2021-01-{day:02} 12:00:00") for day in range(1, 21)]


@pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress])
def test_a_file_that_breaks_off_and_lacks_most_of_its_month_is_refused_unless_allowed(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    pack: Callable[[bytes], bytes] | None,
) -> None:
    path = trips(tmp_path, CUT, "yellow_tripdata_2021-01.csv")
    content = (path.read_text() + "1,2021-0").encode()
    path.write_bytes(pack(content) if pack else content)
    with pytest.raises(
        DataError, match=r"has 21 rows; .* known to have 1,369,765\. It breaks off"
    ) as failure:
        loaded(path, embedded_database, max_rejects="1")
    assert "--allow-short" in failure.value.hint
    assert query(embedded_database_url, "SELECT to_regclass('trips') IS NULL") == [(True,)]
    allowed = loaded(path, embedded_database, max_rejects="1", allow_short=True)
    assert (allowed.record.verdict, allowed.record.known_rows, allowed.record.rows_read) == (
        "short",
        1_369_765,
        21,
    )
    assert "1,369,765" in allowed.record.notes[-1]


def test_a_sound_part_of_a_month_is_loaded_with_a_warning(
    tmp_path: Path, embedded_database: Database
) -> None:
    """Courses hand out the first hundred rows, under the month's name."""
    result = loaded(trips(tmp_path, CUT, "yellow_tripdata_2021-01.csv"), embedded_database)
    assert (result.record.verdict, result.record.rows_loaded) == ("short", 20)
    unended = trips(tmp_path, CUT, "yellow_tripdata_2021-01.csv")
    unended.write_text(unended.read_text().rstrip("\n"))
    assert loaded(unended, embedded_database).record.rows_loaded == 20
    assert result.record.notes == [
        "The file has 20 rows; TLC's of yellow 2021-01 is known to have 1,369,765."
    ]


def test_rows_of_another_month_are_not_compared_with_it(tmp_path: Path, embedded_database: Database) -> None:
    path = trips(tmp_path, CUT, "yellow_tripdata_2021-02.csv")
    result = loaded(path, embedded_database, verify=True)
    assert (result.record.verdict, result.record.known_rows) == ("unknown", None)
    assert "20 of 20 rows were picked up outside 2021-02" in result.record.notes[-1]


@pytest.mark.parametrize(("month", "refused"), [("2025-01", True), ("2025-02", False)])
def test_the_dry_run_compares_what_a_parquet_file_says_of_its_rows(
    tmp_path: Path, embedded_database: Database, month: str, refused: bool
) -> None:
    sixteenth_of_january = 1_737_000_000
    path = parquet_trips(tmp_path, f"yellow_tripdata_{month}.parquet", sixteenth_of_january, rows=5)
    planned, done = both(path, embedded_database, verify=True)
    assert planned == done
    assert isinstance(planned, tuple) == refused


def test_a_users_own_table_is_never_deleted_from(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    columns = '"LocationID" int, "Borough" text, "Zone" text, service_zone text'
    execute(embedded_database_url, f"CREATE TABLE taxi_zones ({columns})")
    execute(embedded_database_url, "INSERT INTO taxi_zones VALUES (0, 'B', 'mine', 'S')")
    assert loaded(zones(tmp_path, "A"), embedded_database, "taxi_zones").status == "loaded"
    assert loaded(zones(tmp_path, "A"), embedded_database, "taxi_zones").status == "skipped"
    for path in (zones(tmp_path, "B"), zones(tmp_path, "C", name="elsewhere.csv")):
        for if_loaded in ("skip", "replace"):
            with pytest.raises(DataError, match="can't be told from others"):
                loaded(path, embedded_database, "taxi_zones", if_loaded=if_loaded)
    assert names_in(embedded_database_url) == ["A", "mine"]


FOREIGN = {
    "inserted": "INSERT INTO taxi_zones VALUES (9, 'B', 'mine', 'S')",
    "changed": """UPDATE taxi_zones SET "Zone" = 'mine' WHERE "LocationID" = 1""",
    "exchanged": """DELETE FROM taxi_zones; INSERT INTO taxi_zones VALUES (9, 'B', 'mine', 'S')""",
    "a column added": "ALTER TABLE taxi_zones ADD note text; UPDATE taxi_zones SET note = 'mine'",
}


@pytest.mark.parametrize("change", FOREIGN)
def test_a_lookup_with_rows_of_others_is_not_replaced(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, change: str
) -> None:
    loaded(zones(tmp_path, "A"), embedded_database, "taxi_zones")
    execute(embedded_database_url, FOREIGN[change])
    before = query(embedded_database_url, "SELECT * FROM taxi_zones")
    with pytest.raises(DataError, match="rows that taxi-ingest did not put there"):
        loaded(zones(tmp_path, "B"), embedded_database, "taxi_zones")
    assert query(embedded_database_url, "SELECT * FROM taxi_zones") == before


def test_an_own_lookup_is_replaced_wherever_it_is_moved_and_made_anew_where_it_is_gone(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(zones(tmp_path, "A"), embedded_database, "taxi_zones")
    execute(embedded_database_url, "DELETE FROM taxi_zones")
    loaded(zones(tmp_path, "B"), embedded_database, "taxi_zones")
    assert names_in(embedded_database_url) == ["B"]
    execute(embedded_database_url, "DROP TABLE taxi_zones")
    again = loaded(zones(tmp_path, "B"), embedded_database, "taxi_zones")
    assert again.status == "loaded"
    from taxi_ingest.load import Filter, list_loads

    told = [(load.load_id, load.status) for load in list_loads(embedded_database, Filter())]
    assert told == [(1, "replaced"), (2, "dropped"), (3, "loaded")]


@pytest.mark.parametrize(
    "name",
    [
        "pg_temp.x",
        "pg_catalog.x",
        "PG_CATALOG.x",
        '"pg_catalog".x',
        "pg_toast.x",
        "pg_temp_3.x",
        "pg_anything.x",
        "information_schema.x",
        "Information_Schema.x",
        "taxi_ingest.x",
        "taxi_ingest.loads",
        "TAXI_INGEST.load_1",
        " taxi_ingest .x",
    ],
)
def test_no_table_in_a_schema_of_postgres_or_ours(name: str) -> None:
    with pytest.raises(UsageError, match="is in a schema that"):
        parse_target(name)


@pytest.mark.parametrize("name", ["pg_temp", "taxi_ingest", "taxi_ingest_2.x", "my_pg_.x"])
def test_other_names_may_look_alike(name: str) -> None:
    assert parse_target(name)


def test_a_view_on_a_column_that_must_widen_is_named(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("n,t\n1,x\n")
    second.write_text("n,t\n1.5,y\n")
    loaded(first, embedded_database, "things")
    execute(embedded_database_url, 'CREATE VIEW "The View" AS SELECT n FROM things')
    planned, done = both(second, embedded_database, "things", max_rejects="0")
    assert planned == done
    assert isinstance(done, tuple)
    assert (done[0], 'public."The View"' in done[1]) == (4, True)
    assert query(embedded_database_url, 'SELECT n, pg_typeof(n)::text FROM "The View"') in (
        [(1, "integer")], [(1, "bigint")], [(1, "smallint")],
    )  # fmt: skip
    execute(embedded_database_url, 'DROP VIEW "The View"; CREATE VIEW other AS SELECT t FROM things')
    assert loaded(second, embedded_database, "things").status == "loaded"


def test_rows_that_the_server_did_not_keep_abort_the_load(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    """The promise that matters most: rows read = loaded, as the server counts them, + rejected."""
    execute(
        embedded_database_url,
        PLAIN,
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN CASE WHEN NEW.total_amount <> 2 THEN NEW END; END $$",
        "CREATE TRIGGER swallow BEFORE INSERT ON trips FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    with pytest.raises(DataError, match="Of 3 rows some got lost"):
        loaded(trips(tmp_path, [row(1), row(2), row(3)]), embedded_database)
    assert totals(embedded_database_url) == []
    assert query(embedded_database_url, "SELECT count(*) FROM taxi_ingest.loads") == [(0,)]


def test_rows_that_no_step_removed_are_lost(tmp_path: Path) -> None:
    path = trips(tmp_path, [row(1)])
    counts = Counts(read=3, loaded=2, removed=1)
    with pytest.raises(DataError, match="Of 3 rows some got lost"), RejectSpool(1) as spool:
        check_counts(counts, open_stream(path, path.name, 10), spool, Allowance())


def test_a_failed_load_says_nothing_in_the_ledger(tmp_path: Path, embedded_database: Database) -> None:
    from taxi_ingest.load import Filter, list_loads

    with pytest.raises(DataError):
        loaded(trips(tmp_path, [row(1, "many")]), embedded_database)
    assert list_loads(embedded_database, Filter()) == []
    assert isinstance(loaded(trips(tmp_path, [row(1)]), embedded_database), LoadResult)


def test_preview_writes_nothing_and_waits_for_nobody(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = trips(tmp_path, [row(1)])
    loaded(path, embedded_database)
    busy = held(embedded_database_url, "LOCK TABLE taxi_ingest.loads IN ROW EXCLUSIVE MODE")
    assert both(path, embedded_database)[0] == "skip"
    busy.close()


@pytest.mark.parametrize("if_loaded", ["skip", "replace"])
def test_a_file_that_turns_into_what_another_address_has_loaded_is_not_there_twice(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, if_loaded: IfLoaded
) -> None:
    february = "yellow_tripdata_2024-02.csv"
    loaded(trips(tmp_path, [row(1)]), embedded_database)
    loaded(trips(tmp_path, [row(2)], february), embedded_database)
    turned = trips(tmp_path, [row(2)])
    planned, done = both(turned, embedded_database, if_loaded=if_loaded)
    assert planned == done
    assert "as load 2 from" in done[1]  # type: ignore[index]
    assert "`taxi-ingest undo 1`" in done[2]  # type: ignore[index]
    assert totals(embedded_database_url) == [1, 2]
    # Both ways out that it names.
    assert both(turned, embedded_database, keep_both=True) == ("replace", "replace")
    assert totals(embedded_database_url) == [2, 2]
    undo(embedded_database, 3)
    assert loaded(turned, embedded_database).status == "skipped"
