"""The command that loads the taxi zones, and finds those of coordinates."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, LOAD, SOURCE, TARGET
from taxi_ingest.cli.ingest import print_loaded, run_load
from taxi_ingest.cli.shared import check_text, chosen_database, chosen_settings, stderr, stdout
from taxi_ingest.errors import UsageError, printable
from taxi_ingest.settings.job import Job

if TYPE_CHECKING:
    from rich.text import Text

    from taxi_ingest.flows.outcome import Outcome
    from taxi_ingest.load import Assignment, Database

app = typer.Typer()

_OUTLINES = (".zip", ".geojson", ".json")


@app.command(
    rich_help_panel=LOAD,
    epilog="""taxi-ingest zones
taxi-ingest zones --assign""",
)
def zones(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", rich_help_panel=SOURCE, help="The lookup file, if not TLC's present one."
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            rich_help_panel=SOURCE,
            help="The outlines, if not TLC's: a zipped shapefile or GeoJSON.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        options.table("The table, taxi_zones unless told; outlines go to TABLE_shapes.", TARGET),
    ] = None,
    assign: Annotated[
        bool,
        typer.Option(
            "--assign",
            rich_help_panel=BEHAVIOUR,
            help="Then find the zones of all loaded trips that have coordinates only.",
        ),
    ] = False,
    block: options.Block = None,
    database_url: options.DatabaseUrl = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
    log_format: options.LogFormat = "text",
) -> None:
    """Load the taxi zones and their outlines.

    PULocationID and DOLocationID refer to them. Each table has LocationID as its key; a newer file replaces
    it whole.
    """
    del log_format  # heeded by whatever writes to stderr
    with failures_told(json, table=table, url=None) as known:
        from taxi_ingest.read.shapes import INSTALL, can_read_shapes, check_can_read_shapes
        from taxi_ingest.sources.months import shapes_address, zones_address
        from taxi_ingest.tlc import dataset_named

        if shapes or assign:
            check_can_read_shapes()
        _check_outlines(shapes)
        check_text(table=table, block=block)
        settings, chosen_block = chosen_settings(block, database_url)
        name = table or dataset_named("zones").table

        def load(address: str, table: str) -> "Outcome":
            return run_load(Job(address, table, block=chosen_block), settings, known, quiet, verbose)

        names = load(url or zones_address(settings), name)
        # Beside a lookup file of the user's own nothing is looked for.
        address = shapes or (shapes_address(settings) if assign or not url else None)
        outlines = load(address, f"{name}_shapes") if address and can_read_shapes() else None
        if address and not outlines:
            names = names.with_note(f"The zones' outlines were not loaded, which need more: {INSTALL}.")
        elif not outlines and not url:
            names = names.with_note("There are no outlines of zones beside it; --shapes FILE names some.")
        found = None
        if assign:
            found = _assign(chosen_database(block, database_url, quiet), f"{name}_shapes", quiet)
        if json:
            print_json(_as_json(names, outlines, found))
        elif not quiet:
            print_loaded(names)
            for line in _told(outlines, found):
                stdout().print(line, highlight=False)


def _check_outlines(address: str | None) -> None:
    """Raise UsageError for a file that can't be outlines, by its name: it would be loaded as what it is."""
    if address and "://" not in address and Path(address).suffix.lower() not in _OUTLINES:
        raise UsageError(
            f"{address} is no file of outlines.",
            "Give the zip archive that has a shapefile's .shp, .dbf and .prj, or a .geojson file.",
        )


def _assign(database: "Database", shapes: str, quiet: bool) -> "list[Assignment]":
    """Find the zones of all loads that have none by these outlines yet, and show how it goes."""
    from taxi_ingest.cli.display import display
    from taxi_ingest.load import assign_zones, loads_to_assign, outlines_in, parse_target
    from taxi_ingest.transform.zones import Zones

    outlines = outlines_in(database, parse_target(shapes))
    waiting = loads_to_assign(database, outlines)
    zones = Zones(outlines.texts)
    found = []
    for number, load_id in enumerate(waiting, 1):
        with display(stderr(), quiet) as shown:
            stage = f"Zones of load {load_id}, {number} of {len(waiting)}"
            done = assign_zones(database, load_id, outlines, zones.at, partial(shown.update, stage, ""))
        if done:
            found.append(done)
    return found


def _as_json(
    names: "Outcome", outlines: "Outcome | None", found: "list[Assignment] | None"
) -> dict[str, Any]:
    return {
        **names.as_json(),
        "shapes": outlines.as_json() if outlines else None,
        "assigned": None if found is None else [asdict(each) for each in found],
    }


def _told(outlines: "Outcome | None", found: "list[Assignment] | None") -> "list[Text]":
    """What was done besides, line by line."""
    from rich.text import Text

    rows = []
    if outlines:
        rows.append(("outlines", f"{outlines.table}: {outlines.rows_loaded} zones from {outlines.url}"))
    if found:
        rows += [("assigned", _counted(each)) for each in found]
    elif found is not None:
        rows.append(("assigned", "all trips that have coordinates only have their zones already"))
    return [Text.assemble((f"{name:<9}", "cyan"), printable(value)) for name, value in rows]


def _counted(done: "Assignment") -> str:
    name = " ".join(filter(None, (done.dataset, done.month)))
    return (
        f"{name} (load {done.load_id}): {done.rows:,} trips; in no zone "
        f"{done.pickup_in_no_zone:,} pickups, {done.dropoff_in_no_zone:,} drop-offs"
    )
