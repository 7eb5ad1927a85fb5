"""The commands of the local stack: up, down, status, ui."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, LOOK, OUTPUT, STACK
from taxi_ingest.cli.options import DatabaseUrl, Json, PlaceBlock, Quiet, To
from taxi_ingest.cli.shared import named_place, read_settings, running_place, stderr, stdout
from taxi_ingest.errors import DatabaseError, TaxiIngestError, UsageError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from taxi_ingest.months import Calendar
    from taxi_ingest.places import Place
    from taxi_ingest.stack import Removal, StackStatus, Ways

_UNSEEN = "can't be looked at while the local stack is stopped: `taxi-ingest up` starts it."
_NO_PORT = "needs a port: `taxi-ingest up --port 5433`"
_QUESTION = "This deletes all that was loaded, and Prefect's runs, blocks and schedules, for good"
_WORTH_A_LINE = 100_000
_SHOWN = 5
_NOTHING = "none was loaded yet: `taxi-ingest backfill yellow 2024` loads a year of them."

app = typer.Typer()


@app.command(
    rich_help_panel=STACK,
    epilog="""taxi-ingest up
taxi-ingest up --port 5433""",
)
def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65535,
            metavar="N",
            rich_help_panel=BEHAVIOUR,
            help="Let programs reach the database by this port of 127.0.0.1, with a password; kept.",
        ),
    ] = None,
    no_port: Annotated[
        bool,
        typer.Option("--no-port", rich_help_panel=BEHAVIOUR, help="Let nobody in by a port any more."),
    ] = False,
    keep_days: Annotated[
        int | None,
        options.number("For how many days Prefect keeps the history of runs (90); kept."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Start the local stack: the embedded Postgres and a Prefect server.

    Both are left running. What runs is started anew, after the loads that use it, where one of these changes,
    or where it runs from before an upgrade.
    """
    from taxi_ingest import stack

    with failures_told(json):
        if port and no_port:
            raise UsageError("--port and --no-port exclude each other.", "Give one of them.")
        settings = read_settings()
        if port or no_port:
            stack.set_port(settings, port)
        if keep_days:
            stack.keep_for(settings, keep_days)
        if not quiet and not json:
            stderr().print("Starting the embedded Postgres and the Prefect server …")
        tell = _nobody if quiet else _tell_waiting
        server = stack.launch_as_set(settings, tell)
        stack.start_as_set(settings, tell)
        server.wait()
        if quiet:
            return
        found = _stack(shown=not json)
        if json:
            print_json(found)


@app.command(
    rich_help_panel=STACK,
    epilog="""taxi-ingest down
taxi-ingest down --remove-data
taxi-ingest down --purge""",
)
def down(
    force: Annotated[
        bool,
        typer.Option(
            "--force", rich_help_panel=BEHAVIOUR, help="End loads that run, instead of waiting for them."
        ),
    ] = False,
    remove_data: Annotated[
        bool,
        typer.Option(
            "--remove-data",
            rich_help_panel=BEHAVIOUR,
            help="Delete what the local stack keeps, for good. Asks first.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", rich_help_panel=BEHAVIOUR, help="Delete without asking.")
    ] = False,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            rich_help_panel=BEHAVIOUR,
            help="Delete the downloads, too: all that taxi-ingest keeps on this machine. Asks first.",
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stop the local stack; its data stays.

    A load that runs is waited for, or ended with --force.
    """
    from taxi_ingest import stack

    with failures_told(json):
        if yes and not (remove_data or purge):
            raise UsageError("--yes belongs to --remove-data or --purge.", "Leave it out, or give both.")
        settings, tell = read_settings(), _nobody if quiet else _tell_waiting_forcibly
        if not (remove_data or purge):
            before, removed = stack.stop(settings, force, tell), None
        elif yes or _is_wanted(stack.planned_removal(settings, purge)):
            before, removed = stack.remove(settings, force, tell, purge)
        else:
            stderr().print("Nothing was stopped, and nothing deleted.")
            return
        if json:
            print_json(
                {
                    "database_stopped": before.database.running,
                    "prefect_stopped": _is_ours(before.prefect),
                    "loads_ended": list(before.ended),
                    **(_removed_as_json(removed) if removed else {}),
                }
            )
        elif not quiet:
            _show_stopped(before)
            if removed:
                _show_removal(removed, "Deleted", stdout())


def _is_wanted(removal: "Removal") -> bool:
    """Ask whether it is to be deleted. Raises UsageError where nobody sits at a terminal."""
    from taxi_ingest.cli.display import size

    if not removal.parts:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            f"This would delete the local stack's data in {removal.home}{_more(removal)}, "
            f"{size(removal.bytes)}, for good.",
            "Give --yes, too, if that is what you want.",
        )
    _show_removal(removal, _QUESTION, stderr())
    return typer.confirm("Delete it?", default=False, err=True)


def _show_removal(removal: "Removal", title: str, console: "Console") -> None:
    from taxi_ingest.cli.display import size

    lines = [f"{title}: {size(removal.bytes)} in {removal.home}{_more(removal)}"]
    lines += [f"  {part.path}  {size(part.bytes)}" for part in removal.parts if part.bytes >= _WORTH_A_LINE]
    lines += [f"It stays: {path}, which is not the local stack's." for path in removal.left[:_SHOWN]]
    if (more := len(removal.left) - _SHOWN) > 0:
        lines.append(f"It stays: {more} more in {removal.home}.")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _more(removal: "Removal") -> str:
    """Where else, by ` and …`."""
    elsewhere = [part.path for part in removal.parts if not part.path.is_relative_to(removal.home)]
    return "".join(f" and {path}" for path in elsewhere)


def _removed_as_json(removal: "Removal") -> dict[str, Any]:
    return {
        "removed": [{"path": str(part.path), "bytes": part.bytes} for part in removal.parts],
        "left": [str(path) for path in removal.left],
    }


def _show_stopped(before: "StackStatus") -> None:
    ours = (("The embedded Postgres", before.database), ("The Prefect server", before.prefect))
    for name, service in ours:
        stdout().print(f"{name}: {'stopped' if _is_ours(service) else _not_stopped(service)}.")
    for table in before.ended:
        stdout().print(f"The load into {table}: ended.", markup=False)


@app.command(
    rich_help_panel=LOOK,
    epilog="""taxi-ingest status
taxi-ingest status --dataset yellow --dataset green""",
)
def status(
    dataset: Annotated[
        list[str] | None,
        options.dataset("Only its months; may be given again."),
    ] = None,
    table: Annotated[
        str | None,
        options.table("Only the months in this table."),
    ] = None,
    revised: Annotated[
        bool,
        typer.Option(
            "--revised", rich_help_panel=BEHAVIOUR, help="Ask the sources which files were revised since."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            rich_help_panel=BEHAVIOUR,
            help="Print nothing and exit with 0 if all is well; else say what is not, for monitoring.",
        ),
    ] = False,
    to: To = None,
    block: PlaceBlock = None,
    database_url: DatabaseUrl = None,
    show_password: Annotated[
        bool,
        typer.Option(
            "--show-password", rich_help_panel=OUTPUT, help="Show the embedded Postgres' password, too."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Say what runs, and what has become of each month.

    Also how programs reach the database. It starts nothing. A dataset that has loads has a grid of all its
    months: loaded, short (rows are missing), revised (since it was loaded; only with --revised), inconsistent
    (someone has moved its partitions by hand), failed, missing, or unpublished.

    All is well for --check if the database answers (else it exits with 5), Prefect's API as well (6), no
    month is inconsistent (4), and of none the last try failed (its exit code).
    """
    with failures_told(json) as known:
        from taxi_ingest.tlc import trips_named

        for name in dataset or ():
            trips_named(name)
        known |= _stack(shown=not (json or check), with_password=show_password)
        from taxi_ingest.cli import grid

        place = running_place(to, block, database_url)
        unreachable: TaxiIngestError | None = None
        try:
            found = grid.look(place, dataset or [], table, read_settings() if revised else None)
        except DatabaseError as error:
            if not check:
                raise
            found, unreachable = [], error
        address = place.address if place else None
        where = named_place(place, to, block, database_url)
        if check:
            _check_all(known, place, table, found, unreachable, where)
            if not json:
                return
        if json:
            known["notes"] += [] if place else [f"The months {_UNSEEN}"]
            print_json({**known, "ledger": address, "datasets": [grid.as_json(months) for months in found]})
            return
        if not found:
            typer.echo(f"Months    {_no_months(place, table)}")
        elif place and address != known["database"]:
            typer.echo(f"Months    in {address}")
        for months in found:
            grid.show(months, where)


def _check_all(
    known: dict[str, Any],
    place: "Place | None",
    table: str | None,
    found: "Sequence[Calendar]",
    unreachable: TaxiIngestError | None,
    where: Sequence[str],
) -> None:
    """Raise what is not well, if something is; `known` gets all of it."""
    from taxi_ingest.cli.health import problems, stopped, summed_up

    settings = read_settings()
    if place and table and not found and not unreachable:
        # A table that is misspelled would look well for ever.
        raise UsageError(f"Nothing was loaded into {table}.", _meant_table(place, table))
    wrong = list(problems(settings, found, unreachable if place else stopped(settings), where))
    known["problems"] = [vars(each) for each in wrong]
    if wrong:
        raise summed_up(wrong)


def _no_months(place: "Place | None", table: str | None) -> str:
    """What stands in the place of the grid."""
    if place is None:
        return _UNSEEN
    if table is None:
        return _NOTHING
    return printable(f"none was loaded into {table}. {_meant_table(place, table)}")


def _meant_table(place: "Place", table: str) -> str:
    from taxi_ingest.load import parse_target

    return place.table_hint(parse_target(table))


@app.command(
    rich_help_panel=LOOK,
    epilog="""taxi-ingest ui
taxi-ingest ui --no-browser""",
)
def ui(
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser",
            rich_help_panel=BEHAVIOUR,
            help="Open it, or only print its address.",
        ),
    ] = True,
) -> None:
    """Open Prefect's dashboard, logged in.

    Its server is started if needed. Anywhere else the dashboard of the local server asks for a password: the
    key in the home folder.
    """
    with failures_told(json=False):
        from taxi_ingest.flows.api import dashboard

        found = dashboard(read_settings())
        typer.echo(found.url)
        target = found.login_page.as_uri() if found.login_page else found.url
        if browser and typer.launch(target) != 0:
            stderr().print("No browser could be opened: open the address above yourself.")
        if found.login_page:
            key = found.login_page.with_name("key")
            stderr().print(f"The password, where it asks for one: {key}", soft_wrap=True, highlight=False)


def _nobody(tables: list[str]) -> None:
    del tables


def _tell_waiting_forcibly(tables: list[str]) -> None:
    _tell_waiting(tables, ", --force ends it")


def _tell_waiting(tables: list[str], otherwise: str = "") -> None:
    loads = "A load runs (table" if len(tables) == 1 else f"{len(tables)} loads run (tables"
    stderr().print(
        f"{loads} {', '.join(tables)}): waiting for the end. Ctrl-C leaves all as it is{otherwise}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _stack(shown: bool, with_password: bool = False) -> dict[str, Any]:
    """What runs of the local stack, and where, as JSON has it; `shown` as text, too."""
    from taxi_ingest import stack

    settings = read_settings()
    found = stack.status(settings)
    ways = stack.ways(settings, found.database, with_password)
    for name, service in (("Postgres", found.database), ("Prefect", found.prefect)) if shown else ():
        state = "running" if service.running else "stopped"
        note = f" ({service.note})" if service.note else ""
        typer.echo(f"{name:<9} {state:<8} {service.address}{note}")
        if service is found.database and service.running:
            _show_ways(ways, with_password)
    return {
        "database": found.database.address,
        "database_running": found.database.running,
        "database_port": found.database.port,
        "connect": {name: line for name, line in asdict(ways).items() if name != "password" or with_password},
        "prefect": found.prefect.address,
        "prefect_running": found.prefect.running,
        "notes": [note for note in (found.database.note, found.prefect.note) if note],
    }


def _show_ways(ways: "Ways", with_password: bool) -> None:
    lines = {"psql": ways.psql, "SQLAlchemy": ways.sqlalchemy, "JDBC": ways.jdbc or _NO_PORT}
    if with_password:
        lines["password"] = ways.password or _NO_PORT
    elif ways.jdbc:
        lines["password"] = "shown by `taxi-ingest status --show-password`"
    for name, line in lines.items():
        typer.echo(f"  {name:<16} {line}")


def _is_ours(service: Any) -> bool:
    return service.pid is not None


def _not_stopped(service: Any) -> str:
    return f"left running ({service.note})" if service.running else "was not running"
