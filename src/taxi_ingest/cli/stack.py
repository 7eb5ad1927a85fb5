"""The commands of the local stack: up, down, status, ui."""

from typing import Annotated, Any

import typer

from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.options import Block, DatabaseUrl, Json, Quiet
from taxi_ingest.cli.shared import read_settings, running_database, stderr, stdout

_UNSEEN = "can't be looked at while the local stack is stopped: `taxi-ingest up` starts it."
_NOTHING = "none was loaded yet: `taxi-ingest backfill yellow 2024` loads a year of them."

app = typer.Typer()


@app.command(epilog="Example: taxi-ingest up")
def up(json: Json = False, quiet: Quiet = False) -> None:
    """Start the local stack: the embedded Postgres and a Prefect server, both left running."""
    from taxi_ingest import stack

    with failures_told(json):
        settings = read_settings()
        server = stack.launch_prefect(settings)
        if not quiet and not json:
            stderr().print("Starting the embedded Postgres and the Prefect server …")
        stack.start_database(settings)
        server.wait()
        if quiet:
            return
        found = _stack(shown=not json)
        if json:
            print_json(found)


@app.command(epilog="Example: taxi-ingest down")
def down(
    force: Annotated[
        bool, typer.Option("--force", help="End loads that run, instead of waiting for them.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stop the local stack. Its data stays; a load that runs is waited for, or ended with --force."""
    from taxi_ingest import stack

    with failures_told(json):
        before = stack.stop(read_settings(), force, _nobody if quiet else _tell_waiting)
        if json:
            print_json(
                {
                    "database_stopped": before.database.running,
                    "prefect_stopped": _is_ours(before.prefect),
                    "loads_ended": list(before.ended),
                }
            )
        elif not quiet:
            ours = (("The embedded Postgres", before.database), ("The Prefect server", before.prefect))
            for name, service in ours:
                stdout().print(f"{name}: {'stopped' if _is_ours(service) else _not_stopped(service)}.")
            for table in before.ended:
                stdout().print(f"The load into {table}: ended.", markup=False)


@app.command(epilog="Example: taxi-ingest status --dataset yellow")
def status(
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only its months; may be given again.")
    ] = None,
    table: Annotated[str | None, typer.Option(metavar="TABLE", help="Only the months in this table.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the sources which files were revised since.")
    ] = False,
    block: Block = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Say what runs, and what has become of each month. Starts nothing.

    A dataset that has loads has a grid of all its months: loaded, short (rows are missing), revised (since it
    was loaded; only with --check), failed, missing, or unpublished.
    """
    with failures_told(json) as known:
        known |= _stack(shown=not json)
        from taxi_ingest.cli import grid

        database = running_database(block, database_url)
        found = grid.look(database, dataset or [], table, read_settings() if check else None)
        if json:
            known["notes"] += [] if database else [f"The months {_UNSEEN}"]
            ledger = database.address if database else None
            print_json({**known, "ledger": ledger, "datasets": [grid.as_json(months) for months in found]})
            return
        if not found:
            typer.echo(f"Months    {_NOTHING if database else _UNSEEN}")
        elif database and database.address != known["database"]:
            typer.echo(f"Months    in {database.address}")
        where = (("--block", block), ("--database-url", database_url and database and database.address))
        flags = [part for name, value in where if value for part in (name, value)]
        for months in found:
            grid.show(months, flags)


@app.command(epilog="Example: taxi-ingest ui --no-browser")
def ui(
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open it, or only print its address.")
    ] = True,
) -> None:
    """Open Prefect's dashboard, logged in; its server is started if needed.

    Anywhere else the dashboard of the local server asks for a password: the key in the home folder.
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


def _tell_waiting(tables: list[str]) -> None:
    loads = "A load runs (table" if len(tables) == 1 else f"{len(tables)} loads run (tables"
    stderr().print(
        f"{loads} {', '.join(tables)}): waiting for the end. Ctrl-C leaves all as it is, --force ends it.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _stack(shown: bool) -> dict[str, Any]:
    """What runs of the local stack, and where, as JSON has it; `shown` as text, too."""
    from taxi_ingest import stack

    found = stack.status(read_settings())
    for name, service in (("Postgres", found.database), ("Prefect", found.prefect)) if shown else ():
        state = "running" if service.running else "stopped"
        note = f" ({service.note})" if service.note else ""
        typer.echo(f"{name:<9} {state:<8} {service.address}{note}")
    return {
        "database": found.database.address,
        "database_running": found.database.running,
        "prefect": found.prefect.address,
        "prefect_running": found.prefect.running,
        "notes": [note for note in (found.database.note, found.prefect.note) if note],
    }


def _is_ours(service: Any) -> bool:
    return service.pid is not None


def _not_stopped(service: Any) -> str:
    return f"left running ({service.note})" if service.running else "was not running"
