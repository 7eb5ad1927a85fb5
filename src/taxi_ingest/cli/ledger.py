"""The commands of the ledger: loads, rejects, undo."""

import io
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.options import Block, DatabaseUrl, Json, Quiet
from taxi_ingest.cli.shared import chosen_database, stderr, stdout
from taxi_ingest.errors import printable

if TYPE_CHECKING:
    from taxi_ingest.load import LoadRecord

_SHOWN_REJECTS = 50
_WIDEST = 1000
_SHOWN_COLUMNS = {
    "load": True,
    "table": False,
    "month": False,
    "rows": True,
    "rejects": True,
    "verdict": False,
    "status": False,
    "when": False,
    "file": False,
    "flow run": False,
}
"""Heading -> whether numbers stand under it."""

app = typer.Typer()

LoadId = Annotated[int, typer.Argument(metavar="LOAD_ID", help="The load's number, as `loads` shows it.")]


class StatusChoice(StrEnum):
    LOADED = "loaded"
    REPLACED = "replaced"
    UNDONE = "undone"
    DROPPED = "dropped"


@app.command(epilog="Example: taxi-ingest loads --table yellow_tripdata --status loaded")
def loads(
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="Only those into this table.")] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this dataset.")] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="Only those of this month.")] = None,
    status: Annotated[StatusChoice | None, typer.Option(help="Only those in this state.")] = None,
    block: Block = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """List what was loaded: every file, when, by which run, and what became of it."""
    with failures_told(json):
        from taxi_ingest.load import Filter, list_loads, parse_target
        from taxi_ingest.tlc import dataset_named, parse_month

        wanted = Filter(
            parse_target(table) if table is not None else None,
            dataset_named(dataset).name if dataset is not None else None,
            parse_month(month) if month is not None else None,
            status.value if status else None,
        )
        found = list_loads(chosen_database(block, database_url, json), wanted)
        if json:
            print_json({"loads": [_as_json(load) for load in found]})
        elif found:
            _print_table(found)
        else:
            stderr().print("No such loads." if wanted != Filter() else "Nothing was loaded yet.")


@app.command(epilog="Example: taxi-ingest rejects 7 --csv > rejects.csv")
def rejects(
    load_id: LoadId,
    csv: Annotated[bool, typer.Option("--csv", help="Print all of them as CSV.")] = False,
    block: Block = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the rows of a load that could not be represented, whole, with their reasons."""
    with failures_told(json=False):
        from taxi_ingest.load import rejects_of, write_rejects

        database = chosen_database(block, database_url, quiet=csv)
        if csv:
            write_rejects(database, load_id, _Terminal() if sys.stdout.isatty() else sys.stdout.buffer)
            return
        found = rejects_of(database, load_id, _SHOWN_REJECTS + 1)
        for reject in found[:_SHOWN_REJECTS]:
            column = f"{reject.column}: " if reject.column else ""
            typer.echo("\t".join(map(printable, (str(reject.number), column + reject.reason, reject.raw))))
        if not found:
            stderr().print(f"Load {load_id} rejected nothing.")
        elif len(found) > _SHOWN_REJECTS:
            stderr().print(f"These are the first {_SHOWN_REJECTS}: --csv prints all.")


@app.command(epilog="Example: taxi-ingest undo 7")
def undo(
    load_id: LoadId,
    block: Block = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a load's rows out of its table again. The ledger keeps the fact.

    The same file can be ingested again afterwards. What the load had replaced does not come back.
    """
    with failures_told(json, load_id=load_id):
        from taxi_ingest.load import undo as undo_load

        undone = undo_load(chosen_database(block, database_url, quiet or json), load_id)
        if json:
            print_json(_as_json(undone) | {"status": "undone"})
        elif not quiet:
            stdout().print(
                printable(
                    f"Undone: the {undone.rows_loaded:,} rows of load {load_id} ({undone.source}) are no "
                    f"longer in {undone.target}."
                ),
                highlight=False,
                markup=False,
            )


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
    for name, has_numbers in _SHOWN_COLUMNS.items():
        shown.add_column(name, justify="right" if has_numbers else "left", no_wrap=True)
    for load in loads:
        shown.add_row(*(Text(printable(cell)) for cell in _shown(load)))
    # A line is a load, also where a terminal is too narrow for it, and for grep.
    Console(width=_WIDEST, highlight=False).print(shown)


def _shown(load: "LoadRecord") -> list[str]:
    return [
        str(load.load_id),
        str(load.target),
        load.month or "",
        f"{load.rows_loaded:,}",
        f"{load.rows_rejected:,}",
        load.verdict,
        load.status,
        f"{load.finished_at.astimezone():%Y-%m-%d %H:%M:%S}",
        load.source.rpartition("/")[2],
        load.flow_run_url or "",
    ]
