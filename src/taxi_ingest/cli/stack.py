"""The commands of the local stack: up, down, status, ui."""

from typing import Annotated, Any

import typer

from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.shared import Json, Quiet, read_settings, stderr, stdout

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
        if not quiet:
            _print_status(json)


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


@app.command(epilog="Example: taxi-ingest status --json")
def status(json: Json = False) -> None:
    """Say whether the local stack runs, and where. Starts nothing."""
    with failures_told(json):
        _print_status(json)


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


def _print_status(json: bool) -> None:
    from taxi_ingest import stack

    found = stack.status(read_settings())
    if json:
        print_json(
            {
                "database": found.database.address,
                "database_running": found.database.running,
                "prefect": found.prefect.address,
                "prefect_running": found.prefect.running,
                "notes": [note for note in (found.database.note, found.prefect.note) if note],
            }
        )
        return
    for name, service in (("Postgres", found.database), ("Prefect", found.prefect)):
        state = "running" if service.running else "stopped"
        note = f" ({service.note})" if service.note else ""
        typer.echo(f"{name:<9} {state:<8} {service.address}{note}")


def _is_ours(service: Any) -> bool:
    return service.pid is not None


def _not_stopped(service: Any) -> str:
    return f"left running ({service.note})" if service.running else "was not running"
