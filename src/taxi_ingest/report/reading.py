"""A table -> what is told of it: from the ledger what was loaded, from the table's rows what they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from taxi_ingest import tlc
from taxi_ingest.errors import UsageError
from taxi_ingest.load import (
    Answers,
    Database,
    Filter,
    LoadRecord,
    Surveyed,
    SurveyedColumn,
    Target,
    ask,
    disagreements,
    list_loads,
    parse_target,
    survey,
    taxi_zones,
)
from taxi_ingest.load.survey import MOST_PAGES
from taxi_ingest.months import Month, compare
from taxi_ingest.places import Postgres
from taxi_ingest.report import pictures
from taxi_ingest.report.pictures import Picture
from taxi_ingest.report.questions import ASSIGNED, BINS, KINDS, ROLES, questions_for

Columns = Mapping[str, Sequence[SurveyedColumn]]


@dataclass(frozen=True)
class Report:
    """What is told of a table."""

    target: Target
    dataset: str | None
    facts: tuple[tuple[str, str], ...]
    """Names and what they are, for people."""
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...]
    months: tuple[Month, ...]
    """All from the first loaded to the last, or those that were asked for."""
    loads: tuple[LoadRecord, ...]
    outlines: Mapping[int, str]
    """The zones' outlines, as GeoJSON."""

    @property
    def missing(self) -> list[str]:
        """The months (`2024-01`) that were published and are not loaded."""
        return [month.month for month in self.months if month.load is None and month.state != "unpublished"]


def find_table(database: Database, table: str | None, dataset: str | None) -> Target:
    """The table that is meant: the named one, the usual one of a dataset, or the only one.

    Raises UsageError where there are none or several.
    """
    if table is not None:
        return parse_target(table)
    loads = list_loads(database, Filter(dataset=dataset, status="loaded"))
    found = sorted({load.target for load in loads if not _is_lookup(load.dataset)}, key=str)
    usual = parse_target(tlc.dataset_named(dataset).table) if dataset else None
    if usual and (usual in found or not found):
        return usual
    if len(found) == 1:
        return found[0]
    raise UsageError(
        "Which table?",
        f"Give --table: {', '.join(map(str, found))}."
        if found
        else "Load one: taxi-ingest backfill yellow 2024-01",
    )


def _is_lookup(dataset: str | None) -> bool:
    return dataset is not None and tlc.dataset_named(dataset).kind == "lookup"


def make_report(
    database: Database,
    target: Target,
    today: date,
    *,
    dataset: str | None = None,
    months: str | None = None,
    most_pages: int = MOST_PAGES,
) -> Report:
    """What can be told of a table; of some months of it (`2021`, `2021-01..2021-07`), if such are given.

    Raises UsageError where there is no such table, and for what is no dataset and no range.
    """
    surveyed = survey(database, target)
    loads = list_loads(database, Filter(target=target, status="loaded"))
    wrong = disagreements(database, target)
    known = _dataset_of(surveyed, loads, dataset)
    if months is not None and known is None:
        raise UsageError(f"{target} holds no trips of TLC's, which have months.", "Leave --month out.")
    wanted = tlc.parse_range(months, known, today).months if months is not None and known else None
    if wanted is not None:
        loads = [load for load in loads if load.month in wanted]
    loads.sort(key=lambda load: (load.month or "", load.load_id))
    columns = _columns(surveyed, known)
    answers = ask(
        database,
        surveyed,
        columns,
        questions_for(columns),
        loads=None if wanted is None else {load.load_id for load in loads},
        between=_moments(wanted) if wanted else None,
        most_pages=most_pages,
    )
    shown = wanted or _span(sorted({load.month for load in loads if load.month}))
    zones = taxi_zones(database) if "zone" in columns else None
    return Report(
        target,
        known.name if known else None,
        tuple(_facts([] if wrong else loads, answers, surveyed, known)),
        (*(f"{each.found} {each.mend()}" for each in wrong), *_notes(surveyed, columns, answers, known)),
        (*_of_rows(answers, shown, known, zones.names if zones else {}), *_of_loads(loads)),
        tuple(compare(Postgres(database), target, known.name, shown, today)) if known and shown else (),
        tuple(loads),
        zones.outlines if zones else {},
    )


def _dataset_of(surveyed: Surveyed, loads: Sequence[LoadRecord], named: str | None) -> tlc.Dataset | None:
    """The dataset of trips that a table holds: the named one, what its ledger or else its columns say."""
    if named is not None:
        found: tlc.Dataset | None = tlc.dataset_named(named)
    elif loads:
        found = tlc.dataset_named(loads[-1].dataset) if loads[-1].dataset else None
    else:
        found = tlc.recognise(column.name for column in surveyed.columns)
    return found if found and found.kind == "trips" else None


def _columns(surveyed: Surveyed, dataset: tlc.Dataset | None) -> dict[str, list[SurveyedColumn]]:
    """The table's columns by what questions call them."""
    if dataset is None:
        times = [column for column in surveyed.columns if column.kind == "time"]
        return {"pickup": times[:1]} if times else {}
    header = frozenset(tlc.normalise(column.name) for column in surveyed.columns)
    named: dict[str, SurveyedColumn] = {}
    for column in surveyed.columns:
        meant = dataset.column_of(tlc.normalise(column.name), header)
        named.setdefault(meant.snake if meant else column.name, column)
    found = {
        role: [
            named[name]
            for name in (*names, ASSIGNED.get(role, ""))
            if name in named and _fits(role, named[name])
        ]
        for role, names in ROLES.items()
    }
    return {role: columns for role, columns in found.items() if columns}


def _fits(role: str, column: SurveyedColumn) -> bool:
    return column.kind is not None and column.kind == KINDS.get(role, column.kind)


def _moments(months: Sequence[str]) -> tuple[str, str]:
    window = pictures.window_of(months, [])
    assert window is not None
    return str(window.start), str(window.end)


def _span(months: Sequence[str]) -> tuple[str, ...]:
    """All months from the first to the last of these."""
    if not months:
        return ()
    first, last = (int(month[:4]) * 12 + int(month[5:]) - 1 for month in (months[0], months[-1]))
    return tuple(f"{number // 12}-{number % 12 + 1:02}" for number in range(first, last + 1))


def _facts(
    loads: Sequence[LoadRecord], answers: Answers, surveyed: Surveyed, dataset: tlc.Dataset | None
) -> Iterator[tuple[str, str]]:
    what = "trips" if dataset else "rows"
    if loads and all(part.load_id for part in surveyed.parts):
        yield what, f"{sum(load.rows_loaded for load in loads):,}"
    else:
        yield what, f"{'about ' if answers.sampled else ''}{_total(answers):,}"
    if loads:
        yield "rejected rows", f"{sum(load.rows_rejected for load in loads):,}"
        yield "loads", f"{len(loads):,}"
        yield "last load", f"{max(load.finished_at for load in loads):%Y-%m-%d}"


def _total(answers: Answers) -> int:
    return int(answers.rows["total"][0]["trips"]) if answers.rows.get("total") else 0


def _notes(surveyed: Surveyed, columns: Columns, answers: Answers, dataset: tlc.Dataset | None) -> list[str]:
    notes = []
    if dataset is None:
        by = f"by its column {columns['pickup'][0].name}" if columns else "but for those of its loads"
        notes.append(
            f"{surveyed.target} is no table of TLC's trips: what can be told of its rows is told, {by}."
        )
    if answers.sampled:
        read = answers.rows["total"][0]["read"]
        notes.append(
            f"Sampled: {read:,} rows were read, from {answers.pages_read:,} of the table's {answers.pages:,} "
            "pages at equal distances, and their counts scaled up. What is told of loads is the ledger's, "
            "and exact."
        )
    elif not _total(answers):
        notes.append("There are no rows.")
    return notes


def _of_rows(
    answers: Answers,
    months: Sequence[str],
    dataset: tlc.Dataset | None,
    names: Mapping[int, str],
) -> list[Picture]:
    """The pictures of the table's rows; of an empty one none."""
    rows = answers.rows
    if not _total(answers):
        return []
    what = "Trips" if dataset else "Rows"
    found: list[Picture] = []
    hours = [(datetime.fromisoformat(row["hour"]), int(row["trips"])) for row in rows.get("hours", [])]
    if window := pictures.window_of(months, hours):
        found += [pictures.series(hours, window, what), pictures.heat(hours, window, what)]
    found += [pictures.binned(bins, rows[bins.name]) for bins in BINS if rows.get(bins.name)]
    found += _rankings(rows)
    return found + _zones(rows.get("zones", []), names)


def _rankings(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Picture]:
    """How trips were paid, or who carried them, by what the dataset tells of it."""
    kinds = (
        ("named_payments", "Payment", "payment_type"),
        ("payments", "Payment", "payment_type"),
        ("apps", "App", "hvfhs_license_num"),
        ("bases", "Base that sent the car", "dispatching_base_num"),
    )
    name, title, column = next((kind for kind in kinds if rows.get(kind[0])), ("", "", ""))
    if not name:
        return []
    known = pictures.meanings(column)
    counts: dict[str, int] = {}
    for row in rows[name]:
        label = "none given" if row["value"] is None else known.get(row["value"], row["value"])
        counts[label] = counts.get(label, 0) + int(row["trips"])
    return [pictures.ranking(name.removeprefix("named_"), title, title.lower(), counts)]


def _zones(rows: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> list[Picture]:
    counts = {row["zone"]: int(row["trips"]) for row in rows if row["zone"] is not None}
    if not counts:
        return []
    without = sum(int(row["trips"]) for row in rows if row["zone"] is None)
    labelled = {names.get(zone, f"Zone {zone}"): 0 for zone in counts}
    for zone, trips in counts.items():
        labelled[names.get(zone, f"Zone {zone}")] += trips
    top = pictures.ranking("zones", "Top pickup zones", "zone", labelled)
    if without:
        top = replace(top, note=f"{top.note} {without:,} trips have none.".strip())
    if not names:
        top = replace(top, note=f"{top.note} `taxi-ingest zones` loads their names and outlines.".strip())
    return [top, pictures.zone_map(counts, names)]


def _of_loads(loads: Sequence[LoadRecord]) -> list[Picture]:
    if not loads:
        return []
    quality = pictures.quality_picture(loads)
    return [pictures.loads_picture(loads), *([quality] if quality else [])]
