"""The commands of the ledger: loads, rejects, undo."""

import io
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from taxi_ingest.cli import completion, options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import LOOK, OUTPUT, SOURCE, UNDO
from taxi_ingest.cli.options import DatabaseUrl, Json, PlaceBlock, Quiet, To, choices
from taxi_ingest.cli.shared import chosen_place, named_place, stderr, stdout
from taxi_ingest.errors import printable

if TYPE_CHECKING:
    from taxi_ingest.load import Disagreement, Filter, LoadRecord, Undone
    from taxi_ingest.places import Place

_SHOWN_REJECTS = 50
_WIDEST = 1000
_SHOWN_COLUMNS = {
    "load": True,
    "table": False,
    "file": False,
    "rows": True,
    "rejects": True,
    "state": False,
    "when": False,
}
"""Heading -> whether numbers stand under it."""
_CUT_ON_TERMINALS = ("table", "file")

app = typer.Typer()

LoadId = Annotated[
    int,
    typer.Argument(
        metavar="LOAD_ID",
        rich_help_panel=SOURCE,
        autocompletion=completion.loads,
        help="The load's number, as `loads` shows it.",
    ),
]


class StatusChoice(StrEnum):
    """What has become of a load, as `loads --status` asks for it."""

    LOADED = "loaded"
    REPLACED = "replaced"
    UNDONE = "undone"
    DROPPED = "dropped"


@app.command(
    rich_help_panel=LOOK,
    epilog="""taxi-ingest loads --table yellow_tripdata --status loaded --limit 20
taxi-ingest loads 7""",
)
def loads(
    load_id: Annotated[
        int | None,
        typer.Argument(
            metavar="LOAD_ID",
            rich_help_panel=SOURCE,
            autocompletion=completion.loads,
            help="All that is known of this load.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        options.table("Only those into this table."),
    ] = None,
    dataset: Annotated[
        str | None,
        options.dataset("Only those of this dataset."),
    ] = None,
    month: Annotated[
        str | None,
        options.month("Only those of this month."),
    ] = None,
    status: Annotated[
        StatusChoice | None,
        typer.Option(metavar=choices(StatusChoice), rich_help_panel=SOURCE, help="Only those in this state."),
    ] = None,
    to: To = None,
    block: PlaceBlock = None,
    database_url: DatabaseUrl = None,
    limit: Annotated[
        int | None,
        options.number("Only the latest so many.", OUTPUT),
    ] = None,
    json: Json = False,
) -> None:
    """List what was loaded, the latest last, and what became of it.

    Every file, its rows, and when. With a load's number: where it came from, by which run, its counts, all in
    one piece.
    """
    with failures_told(json):
        from taxi_ingest.cli.grid import disagreement_as_json, show_disagreements
        from taxi_ingest.load import Filter, parse_target
        from taxi_ingest.tlc import dataset_named, parse_month

        if load_id is not None:
            target = parse_target(table) if table is not None else None
            place = chosen_place(to, block, database_url, json)
            record = place.find_load(load_id, target)
            print_json(_as_json(record)) if json else _print_record(record)
            if not json:
                where = named_place(place, to, block, database_url)
                show_disagreements(_disagreements(place, [record]), stderr(), where)
            return
        wanted = Filter(
            parse_target(table) if table is not None else None,
            dataset_named(dataset).name if dataset is not None else None,
            parse_month(month) if month is not None else None,
            status.value if status else None,
            limit,
        )
        place = chosen_place(to, block, database_url, json)
        found = place.list_loads(wanted)
        if json:
            disagreements = map(disagreement_as_json, _disagreements(place, found))
            print_json({"loads": [_as_json(load) for load in found], "disagreements": [*disagreements]})
        elif found:
            _print_table(found)
            where = named_place(place, to, block, database_url)
            show_disagreements(_disagreements(place, found), stderr(), where)
        else:
            stderr().print(_none(place, wanted), markup=False)


@app.command(
    rich_help_panel=LOOK,
    epilog="""taxi-ingest rejects 7
taxi-ingest rejects 7 --csv > rejects.csv""",
)
def rejects(
    load_id: LoadId,
    table: Annotated[
        str | None,
        options.table("The load's table, where several have one of that number, as in a lake."),
    ] = None,
    to: To = None,
    block: PlaceBlock = None,
    database_url: DatabaseUrl = None,
    csv: Annotated[
        bool, typer.Option("--csv", rich_help_panel=OUTPUT, help="Print all of them as CSV.")
    ] = False,
) -> None:
    """Show the rows of a load that were rejected, with their reasons.

    Those that the table could not represent, whole.
    """
    with failures_told(json=False):
        from taxi_ingest.load import parse_target

        place = chosen_place(to, block, database_url, quiet=csv)
        target = place.find_load(load_id, parse_target(table) if table is not None else None).target
        if csv:
            file = _Terminal() if sys.stdout.isatty() else sys.stdout.buffer
            place.write_rejects(target, load_id, file)
            return
        found = place.rejects(target, load_id, _SHOWN_REJECTS + 1)
        for reject in found[:_SHOWN_REJECTS]:
            column = f"{reject.column}: " if reject.column else ""
            typer.echo("\t".join(map(printable, (str(reject.number), column + reject.reason, reject.raw))))
        if not found:
            stderr().print(f"Load {load_id} rejected nothing.")
        elif len(found) > _SHOWN_REJECTS:
            stderr().print(f"These are the first {_SHOWN_REJECTS}: --csv prints all.")


@app.command(rich_help_panel=UNDO, epilog="taxi-ingest undo 7")
def undo(
    load_id: LoadId,
    to: To = None,
    block: PlaceBlock = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a load's rows out of its table again.

    The ledger keeps the fact. The same file can be ingested again afterwards. What the load had replaced does
    not come back.
    """
    with failures_told(json, load_id=load_id):
        undone = chosen_place(to, block, database_url, quiet or json).undo(load_id)
        if json:
            detached = {str(table): rows for table, rows in undone.detached.items()}
            told = {"status": "undone", "rows_undone": undone.rows, "detached": detached}
            print_json(_as_json(undone.record) | told)
        elif not quiet:
            for line in _undone(undone):
                stdout().print(printable(line), highlight=False, markup=False)


def _undone(undone: "Undone") -> Iterator[str]:
    """What was taken out, and what of the load someone else had taken out before."""
    load = undone.record
    counted = f"the {load.rows_loaded:,} rows"
    which = counted if undone.rows == load.rows_loaded else f"{undone.rows:,} of {counted}"
    tables = ", ".join(sorted(map(str, undone.tables)))
    yield f"Undone: {which} of load {load.load_id} ({load.source}) are no longer in {tables}."
    for table, rows in undone.detached.items():
        yield f"{table}, which someone has detached, still has {rows:,}: DROP TABLE {table} removes them."
    gone = load.rows_loaded - undone.rows - sum(undone.detached.values())
    if gone > 0 and load.status == "dropped":
        yield f"Someone had dropped or moved the other {gone:,} before."


def _disagreements(place: "Place", shown: "Sequence[LoadRecord]") -> "list[Disagreement]":
    """Which of the loads a table has otherwise than the ledger says."""
    numbers = {load.load_id for load in shown}
    return [each for each in place.disagreements() if each.load_id in numbers]


def _none(place: "Place", wanted: "Filter") -> str:
    """What is said where no load fits."""
    from taxi_ingest.load import Filter

    if wanted == Filter(limit=wanted.limit):
        return "Nothing was loaded yet."
    if wanted.target and wanted == Filter(wanted.target):
        return printable(f"No such loads. {place.table_hint(wanted.target)}")
    return "No such loads."


class _Terminal(io.BytesIO):
    """Where bytes go that a terminal shows: as they are but for what it would obey."""

    def write(self, content: Any) -> int:
        for line in bytes(content).decode(errors="backslashreplace").splitlines():
            typer.echo(printable(line))
        return len(content)


def _as_json(load: "LoadRecord") -> dict[str, Any]:
    times = {name: value.isoformat() for name, value in vars(load).items() if hasattr(value, "isoformat")}
    return {"table": str(load.target), **vars(load), **times}


def _print_table(loads: "list[LoadRecord]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="cyan", pad_edge=False)
    # A line is a load: on a terminal it fits, for grep it is whole.
    console = Console(width=None if sys.stdout.isatty() else _WIDEST, highlight=False)
    for name, width in _widths(loads, console.width).items():
        justify: Literal["left", "right"] = "right" if _SHOWN_COLUMNS[name] else "left"
        shown.add_column(name, justify=justify, no_wrap=True, width=width)
    for load in loads:
        shown.add_row(*(Text(printable(cell)) for cell in _shown(load).values()))
    console.print(shown)


def _widths(loads: "list[LoadRecord]", room: int) -> dict[str, int]:
    """How wide each column is: those that may be cut share what the others leave."""
    cells = [dict(zip(_SHOWN_COLUMNS, _SHOWN_COLUMNS, strict=True)), *map(_shown, loads)]
    widths = {name: max(len(printable(row[name])) for row in cells) for name in _SHOWN_COLUMNS}
    left = room - sum(width + 1 for name, width in widths.items() if name not in _CUT_ON_TERMINALS)
    table, file = (widths[name] for name in _CUT_ON_TERMINALS)
    for_file = max(min(file, left - 1 - table), min(file, left // 2))
    return {**widths, "file": for_file, "table": min(table, left - 1 - for_file)}


def _shown(load: "LoadRecord") -> dict[str, str]:
    """What stands under each heading."""
    from taxi_ingest.flows.labels import file_label

    odd = load.verdict in ("short", "revised")
    return {
        "load": str(load.load_id),
        "table": str(load.target),
        "file": file_label(load.dataset, load.month, load.source),
        "rows": f"{load.rows_loaded:,}",
        "rejects": f"{load.rows_rejected:,}",
        "state": f"{load.status}, {load.verdict}" if odd else load.status,
        "when": f"{load.finished_at.astimezone():%Y-%m-%d}",
    }


def _print_record(load: "LoadRecord") -> None:
    for name, value in _as_json(load).items():
        # What identifies a load counts nothing.
        shown = str(value) if name == "load_id" else _told(value)
        typer.echo(f"{name.replace('_', ' '):<14} {printable(shown)}".rstrip())


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_told, value))
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
