"""The command `report`: what a table holds, as a page, a picture or text."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from taxi_ingest.cli import completion, options
from taxi_ingest.cli.failures import failures_told
from taxi_ingest.cli.help import LOOK, OUTPUT, SOURCE
from taxi_ingest.cli.shared import check_text, chosen_database, stdout
from taxi_ingest.errors import UsageError

_USUAL_FILE = "report.html"

app = typer.Typer()


@app.command(
    rich_help_panel=LOOK,
    epilog="""taxi-ingest report --dataset yellow
taxi-ingest report --table yellow_tripdata --month 2021 --out 2021.html
taxi-ingest report --text""",
)
def report(
    table: Annotated[
        str | None,
        options.table("The table, or SCHEMA.TABLE, if there are several."),
    ] = None,
    dataset: Annotated[
        str | None,
        options.dataset("The dataset: its usual table, unless --table is given."),
    ] = None,
    month: Annotated[
        str | None,
        typer.Option(
            metavar="MONTHS",
            rich_help_panel=SOURCE,
            autocompletion=completion.ranges,
            help="Only 2021-01, 2021, or 2021-01..2021-07.",
        ),
    ] = None,
    block: options.Block = None,
    database_url: options.DatabaseUrl = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=OUTPUT,
            help=f"Where the page goes, {_USUAL_FILE} unless told; - is stdout.",
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", rich_help_panel=OUTPUT, help="Also write the main pictures as a PNG here."
        ),
    ] = None,
    text: Annotated[
        bool,
        typer.Option(
            "--text", rich_help_panel=OUTPUT, help="Print it as text instead; needs nothing installed."
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a table holds, as a page with pictures, or as text.

    Trips by day, hour and zone, distances, fares, loads and their quality. It is one page of HTML that needs
    no network. Of a large table a sample is read, and the page says so.
    """
    with failures_told(json=False):
        from taxi_ingest.report import check_can_draw, find_table, make_report, page, save_png
        from taxi_ingest.tlc import check_range, dataset_named

        check_text(table=table, block=block, month=month, out=out)
        if dataset is not None:
            dataset_named(dataset)
        if month is not None:
            check_range(month)
        if text and (out or png):
            raise UsageError("--text writes no file.", "Leave it out, or --out and --png.")
        if not text:
            check_can_draw()
        database = chosen_database(block, database_url, quiet)
        target = find_table(database, table, dataset)
        made = make_report(database, target, date.today(), dataset=dataset, months=month)
        if text:
            from taxi_ingest.cli.display import PlainConsole
            from taxi_ingest.report.terminal import print_report

            print_report(made, PlainConsole())
            return
        if png:
            _write(png, lambda: save_png(made, png))
        content = page(made)
        if out == "-":
            typer.echo(content)
            return
        path = Path(out or _USUAL_FILE)
        _write(path, lambda: path.write_text(content, encoding="utf-8"))
        if not quiet:
            written = ", ".join(str(file.absolute()) for file in (path, png) if file)
            stdout().print(f"Written: {written}", highlight=False)


def _write(path: Path, write: Callable[[], object]) -> None:
    """Raise UsageError where a file can't be written."""
    try:
        write()
    except OSError as error:
        raise UsageError(
            f"{path} can't be written: {error.strerror or error}.", "Name another file."
        ) from None
