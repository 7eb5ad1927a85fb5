"""What `report` tells: numbers that are those of the files, on a page that needs nothing else."""

import html
import os
import re
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from builders import ZONES, any_rows, csv_of, plain_table, row, trips, two_squares
from helpers import PASSWORD, Cli, execute, run_python, together
from helpers import loaded as load_in_chunks
from taxi_ingest import tlc
from taxi_ingest.errors import UsageError
from taxi_ingest.load import Database, database_at, parse_target
from taxi_ingest.report import Report, find_table, make_report, page, save_png
from taxi_ingest.report.drawing import drawn
from taxi_ingest.report.pictures import Picture
from taxi_ingest.tlc.sample import write_sample

TODAY = date(2026, 1, 1)
ROWS = 3000

FILES = {
    "yellow": (
        "tpep_pickup_datetime",
        "tpep_dropoff_datetime",
        "trip_distance",
        "fare_amount",
        "PULocationID",
    ),
    "green": (
        "lpep_pickup_datetime",
        "lpep_dropoff_datetime",
        "trip_distance",
        "fare_amount",
        "PULocationID",
    ),
    "fhv": ("pickup_datetime", "dropOff_datetime", None, None, "PUlocationID"),
    "fhvhv": ("pickup_datetime", "dropoff_datetime", "trip_miles", "base_passenger_fare", "PULocationID"),
}
"""What the files of a dataset call pickup, drop-off, distance, fare and zone."""


def loaded(file: Path, database: Database, table: str = "trips", **how: Any) -> None:
    load_in_chunks(file, database, table, chunk_size=100_000, **how)


def reported(database: Database, table: str = "trips", **how: Any) -> Report:
    return make_report(database, parse_target(table), TODAY, **how)


def picture(report: Report, name: str) -> Picture:
    [found] = [picture for picture in report.pictures if picture.name == name]
    return found


def names(report: Report) -> list[str]:
    return [picture.name for picture in report.pictures]


def numbers(report: Report, name: str) -> dict[str, int]:
    """The first number of each row of a picture, but for zeros."""
    return {str(label): int(value or 0) for label, value, *_ in picture(report, name).rows if value}


def on_page(text: str, name: str) -> list[list[str]]:
    """The cells of the rows that the page shows under a picture."""
    section = text.partition(f'<section id="{name}"')[2].partition("</section>")[0]
    rows = re.findall("<tr>(.*?)</tr>", section.partition("<tbody>")[2], re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", cells)] for cells in rows]


def counted(values: "pd.Series[Any]", width: float, most: int) -> dict[str, int]:
    """What pandas counts in bins from zero, by their names on the page."""
    found = (values.dropna() // width).clip(upper=most).value_counts()
    bins = {int(bin): int(n) for bin, n in found.items() if bin >= 0}  # type: ignore[call-overload]
    return {
        f"{bin * width:g} to {(bin + 1) * width:g}" if bin < most else f"{most * width:g} and more": n
        for bin, n in bins.items()
    }


@pytest.mark.parametrize(
    ("dataset", "spelling"),
    [("yellow", "tlc"), ("yellow", "lower"), ("green", "snake"), ("fhv", "tlc"), ("fhvhv", "lower")],
)
def test_the_numbers_on_the_page_are_what_pandas_reckons_from_the_file(
    dataset: str, spelling: Any, tmp_path: Path, embedded_database: Database
) -> None:
    file = write_sample(dataset, "2021-03", tmp_path / f"{dataset}_tripdata_2021-03.parquet", ROWS)
    loaded(file, embedded_database, names=spelling)
    report = reported(embedded_database)
    text = page(report)
    rows = pd.read_parquet(file)
    pickup, dropoff, distance, fare, zone = FILES[dataset]
    within = rows[(rows[pickup] >= "2021-03-01") & (rows[pickup] < "2021-04-01")]

    days = within[pickup].dt.date.astype(str).value_counts().to_dict()
    assert {day: int(n.replace(",", "")) for day, n in on_page(text, "days") if n != "0"} == days
    hours = within.groupby([within[pickup].dt.hour, within[pickup].dt.day_of_week]).size()
    assert {
        (int(hour[:2]), weekday): int(n)
        for hour, *cells in on_page(text, "hours")
        for weekday, n in enumerate(cells)
        if n != "0"
    } == hours.to_dict()
    minutes = (rows[dropoff] - rows[pickup]).dt.total_seconds() / 60
    assert numbers(report, "duration") == counted(minutes, 2, 45)
    for name, column, width, most in (("distance", distance, 0.5, 40), ("fare", fare, 2, 50)):
        assert (name in names(report)) == (column is not None)
        if column:
            assert numbers(report, name) == counted(rows[column], width, most)
    zones = rows[zone].dropna().astype(int).value_counts().to_dict()
    assert dict(zip(picture(report, "map").numbers, numbers(report, "map").values(), strict=True)) == zones
    top = on_page(text, "zones")
    assert [n for _, n in top] == [f"{n:,}" for n in sorted(zones.values(), reverse=True)[:15]]


def test_payments_have_the_meaning_of_their_codes_in_every_era(
    tmp_path: Path, embedded_database: Database
) -> None:
    files = [
        write_sample("yellow", month, tmp_path / f"yellow_tripdata_{month}.csv", ROWS)
        for month in ("2009-05", "2012-05", "2019-05")
    ]
    for file in files:
        loaded(file, embedded_database)
    meant = {
        code.value: code.number or code.value for code in tlc.codes() if code.column.startswith("payment")
    }
    meanings = {code.value: code.meaning for code in tlc.codes() if code.column == "payment_type"}
    expected: dict[str, int] = {}
    for file in files:
        cells = pd.read_csv(file, skipinitialspace=False, keep_default_na=False, dtype=str, index_col=False)
        column = next(name for name in cells if name.strip().lower() == "payment_type")
        for value, n in cells[column].value_counts().items():
            code: Any = int(str(value)) if str(value).isdigit() else value
            label = meanings.get(meant.get(code, code), str(value)) if value else "none given"
            expected[label] = expected.get(label, 0) + int(n)
    assert numbers(reported(embedded_database), "payments") == expected


@pytest.mark.parametrize(("dataset", "name"), [("fhv", "bases"), ("fhvhv", "apps")])
def test_where_nothing_is_told_of_payment_it_is_who_carried_them(
    dataset: str, name: str, tmp_path: Path, embedded_database: Database
) -> None:
    file = write_sample(dataset, "2021-03", tmp_path / f"{dataset}_tripdata_2021-03.parquet", ROWS)
    loaded(file, embedded_database)
    report = reported(embedded_database)
    assert "payments" not in names(report)
    column = {"fhv": "dispatching_base_num", "fhvhv": "hvfhs_license_num"}[dataset]
    expected = pd.read_parquet(file)[column].value_counts()
    assert list(numbers(report, name).values()) == sorted(expected, reverse=True)[:15]


def test_of_a_large_table_a_sample_is_read_and_the_page_says_so(tmp_path: Path, database: Database) -> None:
    file = write_sample("yellow", "2021-03", tmp_path / "yellow_tripdata_2021-03.parquet", 40_000)
    loaded(file, database)
    # A small file besides is not passed over.
    loaded(write_sample("yellow", "2021-04", tmp_path / "yellow_tripdata_2021-04.parquet", 100), database)
    report = reported(database, most_pages=100)
    [note] = report.notes
    assert note.startswith("Sampled: ")
    assert note in html.unescape(page(report))
    rows = pd.concat([pd.read_parquet(file), pd.read_parquet(tmp_path / "yellow_tripdata_2021-04.parquet")])
    for name, column, width, most in (("distance", "trip_distance", 0.5, 40), ("fare", "fare_amount", 2, 50)):
        found, expected = numbers(report, name), counted(rows[column], width, most)
        assert sum(found.values()) == pytest.approx(sum(expected.values()), rel=0.02)
        likeliest = max(expected, key=expected.__getitem__)
        assert found[likeliest] == pytest.approx(expected[likeliest], rel=0.1)
    assert numbers(report, "loads") == {"2021-03": 40_000, "2021-04": 100}
    assert dict(report.facts)["trips"] == "40,100"


def test_what_is_told_of_loads_is_the_ledgers(tmp_path: Path, embedded_database: Database) -> None:
    for month, lines in {
        "2024-01": [row(), row(pickup="2008-01-01 00:00:00"), row(amount=-3), row(amount="much")],
        "2024-04": [row(pickup="2024-04-01 00:00:00")],
    }.items():
        loaded(trips(tmp_path, lines, f"yellow_tripdata_{month}.csv"), embedded_database, max_rejects="1")
    report = reported(embedded_database)
    known = tlc.known_rows("yellow", "2024-01", "csv")
    assert picture(report, "loads").rows[0] == ("2024-01", 4, known)
    quality = picture(report, "quality")
    assert dict(zip(quality.columns, quality.rows[0], strict=True)) == {
        "load": "2024-01",
        "picked up outside the month": 25,
        "negative amounts": 25,
        "rejected": 25,
    }
    assert report.missing == ["2024-02", "2024-03"]
    assert "Missing: 2024-02..2024-03." in page(report)
    # A stray of 2008 does not stretch the days.
    assert picture(report, "days").rows[0][0] == "2024-01-01"
    assert picture(report, "days").note == "Not shown, as they lie before or after these days: 1."


def test_months_restrict_it_also_in_a_table_of_ones_own(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, plain_table("own"))
    for table in ("trips", "own"):
        for month in ("2024-01", "2024-02"):
            lines = [row(pickup=f"{month}-{day:02} 12:00:00") for day in range(1, 4)]
            loaded(trips(tmp_path, lines, f"yellow_tripdata_{month}.csv"), embedded_database, table)
        report = reported(embedded_database, table, months="2024-02")
        assert numbers(report, "days") == {f"2024-02-{day:02}": 1 for day in range(1, 4)}
        assert list(numbers(report, "loads")) == ["2024-02"]
        assert [month.month for month in report.months] == ["2024-02"]


def test_a_month_of_several_parts_is_told_whole(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    for month in (1, 2):
        lines = [row(pickup=f"2024-{month:02}-{day:02} 12:00:00") for day in range(1, 29)]
        load_in_chunks(
            trips(tmp_path, lines, f"yellow_tripdata_2024-{month:02}.csv"),
            embedded_database,
            connections=2,
            on_progress=together(embedded_database_url, 2),
        )
    assert sum(numbers(reported(embedded_database, months="2024-02"), "days").values()) == 28
    assert sum(numbers(reported(embedded_database), "days").values()) == 56


@pytest.mark.parametrize(("days", "unit"), [(300, "day"), (900, "week"), (4000, "month"), (40_000, "year")])
def test_the_longer_the_time_the_longer_its_steps(
    days: int, unit: str, tmp_path: Path, embedded_database: Database
) -> None:
    last = pd.Timestamp("2000-01-05") + pd.Timedelta(days=days)
    loaded(csv_of(tmp_path, "n,at", "1,2000-01-05 08:00:00", f"2,{last}"), embedded_database)
    report = reported(embedded_database)
    assert picture(report, "days").title == f"Rows per {unit}"
    assert sum(numbers(report, "days").values()) == 2
    assert len(drawn(picture(report, "days"), {})) == 2


def test_of_a_table_that_is_none_of_tlcs_it_says_what_it_can(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    loaded(csv_of(tmp_path, "n,at", "1,2024-05-06 08:30:00", "2,2024-05-07 09:00:00"), embedded_database)
    loaded(any_rows(tmp_path, 5), embedded_database, "timeless")
    # One that taxi-ingest has never seen, with columns of which nothing can be told, and one without any.
    execute(
        embedded_database_url, "CREATE TABLE odd (t time, j jsonb, b bytea); INSERT INTO odd VALUES (NULL)"
    )
    execute(embedded_database_url, "CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES")
    report = reported(embedded_database)
    assert "by its column at" in report.notes[0]
    assert numbers(report, "days") == {"2024-05-06": 1, "2024-05-07": 1}
    assert picture(report, "hours").rows[8] == ("08:00", 1, 0, 0, 0, 0, 0, 0)
    for table, rows in {"timeless": "5", "odd": "1", "bare": "1"}.items():
        report = reported(embedded_database, table)
        assert dict(report.facts)["rows"] == rows
        assert set(names(report)) <= {"loads"}
        assert page(report)


def test_trips_of_a_table_that_taxi_ingest_never_saw_are_recognised(
    embedded_database: Database, embedded_database_url: str
) -> None:
    execute(
        embedded_database_url,
        "CREATE TABLE own (vendorid int, tpep_pickup_datetime timestamptz, passenger_count int, "
        "trip_distance numeric, total_amount money, pulocationid bigint, payment_type text)",
        "INSERT INTO own VALUES (1, '2024-01-01 12:00:00Z', 1, 1.2, '3', 7, '2'), "
        "(1, 'infinity', 1, 'NaN', '3', NULL, 'CSH')",
    )
    report = reported(embedded_database, "own")
    assert report.dataset == "yellow"
    # New York's clocks.
    assert picture(report, "hours").rows[7] == ("07:00", 1, 0, 0, 0, 0, 0, 0)
    assert numbers(report, "distance") == {"1 to 1.5": 1}
    assert numbers(report, "payments") == {"Cash": 2}


def test_an_empty_table_has_a_page_that_says_so(
    embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, plain_table("own"))
    report = reported(embedded_database, "own")
    assert (report.notes, report.pictures) == (("There are no rows.",), ())
    assert "There are no rows." in page(report)


def mean_world(folder: Path, database: Database, name: str) -> Report:
    """Trips, zones with outlines, a table and a column that all are called so."""
    lines = ["VendorID,lpep_pickup_datetime,total_amount,PULocationID,payment_type"]
    lines += [f"1,2024-01-0{day} 10:00:00,3,{day},1" for day in (1, 2)]
    # No name of a file can have what ends a folder's.
    file = folder / f"green_tripdata_2024-01{name.replace('/', '')}.csv"
    file.write_text("\n".join(lines) + "\n")
    loaded(file, database, name)
    zones = csv_of(folder, ZONES, *(f'{n},B,"{n} {name}",S' for n in (1, 2)))
    loaded(zones, database, "taxi_zones")
    loaded(two_squares(folder, name), database, "taxi_zones_shapes")
    return reported(database, f"public.{name}")


def test_nothing_of_the_data_becomes_part_of_the_page(tmp_path: Path, embedded_database: Database) -> None:
    name = "<img src=x onerror=alert(1)>&'$x_1$"
    report = mean_world(tmp_path, embedded_database, name)
    text = page(report)
    assert "<img" not in text
    assert text.count("<title>1 &lt;img src=x") == 1, "the map"
    assert html.escape(name)[:20] in text
    assert on_page(text, "zones") == [[f"1 {name}", "1"], [f"2 {name}", "1"]]


def test_the_page_needs_nothing_but_itself(tmp_path: Path, embedded_database: Database) -> None:
    text = page(mean_world(tmp_path, embedded_database, "trips"))
    assert 'class="wide"' in text
    assert 'id="map"' in text
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(
        r"<(script|link(?! rel=\"icon\" href=\"data:)|img|iframe|object)|@import|\bsrc=", text
    )
    assert {target[0] for target in re.findall(r'(?:href="|url\()([^")]+)', text)} <= {"#", "d"}
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(re.findall(r"--(\w+):", text))
    assert text.count("prefers-color-scheme: dark") == 1


def test_no_login_is_on_the_page(tmp_path: Path, system_url: str, database_url: str, cli: Cli) -> None:
    del system_url
    loaded(trips(tmp_path, [row()]), database_at(database_url))
    done = cli("report", "--out", "-", env={"TAXI_INGEST_DATABASE_URL": database_url})
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout
    assert "postgres" not in done.stdout


def test_the_png_has_the_main_pictures(tmp_path: Path, embedded_database: Database) -> None:
    report = mean_world(tmp_path, embedded_database, "trips")
    save_png(report, tmp_path / "trips.png")
    assert (tmp_path / "trips.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_where_it_is_told(
    tmp_path: Path, cli: Cli, embedded_database_url: str, embedded_database: Database
) -> None:
    loaded(trips(tmp_path, [row()]), embedded_database)
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    done = cli("report", env=env, cwd=tmp_path)
    assert (done.stdout, done.returncode) == (f"Written: {tmp_path / 'report.html'}\n", 0), done.stderr
    whole = (tmp_path / "report.html").read_text()
    assert cli("report", "--table", "trips", "--out", "-", env=env).stdout == f"{whole}\n"
    done = cli("report", "--out", "a.html", "--png", "a.png", "--quiet", env=env, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "a.html").exists()
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--out", "nowhere/report.html"],
            "nowhere/report.html can't be written: No such file or directory.",
        ),
        (["--out", "."], ". can't be written: Is a directory."),
        (["--table", "lost"], "There is no table lost."),
        (["--table", "seen"], "seen is no table that holds rows itself."),
        (["--dataset", "green"], "There is no table green_tripdata."),
        (["--dataset", "blue"], "TLC has no dataset 'blue'."),
        (["--month", "2024-13"], "'2024-13' is no month"),
        (["--table", "other", "--month", "2024"], "other holds no trips of TLC's, which have months."),
        (["--text", "--out", "a.html"], "--text writes no file."),
    ],
)
def test_what_it_can_not_do_is_said(
    arguments: list[str], message: str, tmp_path: Path, cli: Cli, embedded_database_url: str
) -> None:
    database = database_at(embedded_database_url)
    loaded(trips(tmp_path, [row()]), database)
    execute(embedded_database_url, "CREATE VIEW seen AS SELECT 1", "CREATE TABLE other (n int)")
    done = cli("report", *arguments, env={"TAXI_INGEST_DATABASE_URL": embedded_database_url}, cwd=tmp_path)
    assert message in done.stderr
    assert "Hint: " in done.stderr
    assert (done.returncode, done.stdout) == (2, "")


def test_of_several_tables_one_must_be_named(tmp_path: Path, embedded_database: Database) -> None:
    with pytest.raises(UsageError, match="Which table"):
        find_table(embedded_database, None, None)
    # The zones are no table that is meant.
    loaded(csv_of(tmp_path, ZONES, "1,B,Zone,S"), embedded_database, "taxi_zones")
    loaded(trips(tmp_path, [row()]), embedded_database, "one")
    assert str(find_table(embedded_database, None, None)) == "one"
    loaded(trips(tmp_path, [row()]), embedded_database, "two")
    with pytest.raises(UsageError, match="Which table") as told:
        find_table(embedded_database, None, "yellow")
    assert told.value.hint == "Give --table: one, two."
    loaded(trips(tmp_path, [row()]), embedded_database, "yellow_tripdata")
    assert str(find_table(embedded_database, None, "yellow")) == "yellow_tripdata"


def test_as_text_it_needs_no_extra_and_fits_a_terminal(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    file = write_sample("yellow", "2021-03", tmp_path / "yellow_tripdata_2021-03.parquet", ROWS)
    loaded(file, embedded_database)
    code = """
import sys
from taxi_ingest.cli import main
sys.modules |= {"matplotlib": None, "jinja2": None}
sys.argv = ["taxi-ingest", "report", *sys.argv[1:]]
main()
"""
    env = {**os.environ, "TAXI_INGEST_DATABASE_URL": embedded_database_url, "COLUMNS": "80"}
    done = run_python(code, "--text", env={**env, "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    assert "▇" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    plain = run_python(code, "--text", env={**env, "PYTHONIOENCODING": "ascii"}).stdout
    assert plain.isascii()
    assert "\\" not in plain
    refused = run_python(code, env=env)
    assert refused.returncode == 2
    assert "pip install 'taxi-ingest[report]'" in refused.stderr
    assert "--text" in refused.stderr
