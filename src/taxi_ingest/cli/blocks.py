"""The commands of Prefect blocks that name a database: blocks create, ls, check."""

import os
import sys
from typing import Annotated

import typer

from taxi_ingest.cli.shared import (
    DatabaseUrl,
    Json,
    Quiet,
    failures_told,
    prefect_context,
    print_json,
    read_settings,
    stderr,
)
from taxi_ingest.errors import UsageError

app = typer.Typer(
    no_args_is_help=True, help="Prefect blocks: databases that flows load by name (create, ls, check)."
)


@app.command(
    "create",
    epilog="Example: taxi-ingest blocks create --host localhost --user me --database ny_taxi",
)
def blocks_create(
    name: Annotated[str, typer.Option(metavar="NAME", help="The block's name.")] = "postgres-connector",
    database_url: DatabaseUrl = None,
    host: Annotated[str | None, typer.Option(help="Host, or folder of the Unix socket.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.")] = None,
    user: Annotated[str | None, typer.Option(help="User.")] = None,
    database: Annotated[str | None, typer.Option(help="Database.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a block of this name.")] = False,
    quiet: Quiet = False,
) -> None:
    """Save a database as a Prefect block, after trying to connect to it.

    The password comes from standard input, the URL, PGPASSWORD or a prompt. Without any flags the block
    names the database that TAXI_INGEST_DATABASE_URL names, else the local stack's embedded Postgres.
    """
    with failures_told(json=False), prefect_context(quiet):
        from taxi_ingest.blocks import create_block
        from taxi_ingest.load.connection import join_dsn

        parts = {"host": host, "port": port, "user": user, "dbname": database}
        given = {key: str(value) for key, value in parts.items() if value is not None}
        if database_url and given:
            raise UsageError(
                "The database is named twice.", "Give --database-url or --host, --user, …, not both."
            )
        url = database_url or ("" if given else _default_database_url())
        dsn = join_dsn(url, given, _password(password_stdin, asked=bool(given)))
        block = create_block(name, dsn, overwrite)
        if not quiet:
            typer.echo(f"Saved block {block.name}: {block.address}")


@app.command("ls", epilog="Example: taxi-ingest blocks ls --json")
def blocks_ls(json: Json = False) -> None:
    """List the blocks that name a database."""
    with failures_told(json), prefect_context(quiet=True):
        from taxi_ingest.blocks import list_blocks

        blocks = list_blocks()
        if json:
            print_json({"blocks": [{"name": block.name, "database": block.address} for block in blocks]})
        elif not blocks:
            stderr().print("No blocks yet: `taxi-ingest blocks create` makes one.")
        for block in blocks if not json else []:
            typer.echo(f"{block.name}\t{block.address}")


@app.command("check", epilog="Example: taxi-ingest blocks check postgres-connector")
def blocks_check(name: Annotated[str, typer.Argument(metavar="NAME", help="The block's name.")]) -> None:
    """Try a connection through a block."""
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.blocks import database_of_block

        database = database_of_block(name)
        typer.echo(f"{name}: {database.address} answers, {database.server_version()}")


def _default_database_url() -> str:
    from taxi_ingest import stack

    settings = read_settings()
    return (
        settings.database_url.get_secret_value() if settings.database_url else stack.start_database(settings)
    )


def _password(from_stdin: bool, asked: bool) -> str | None:
    """The password from standard input, else from PGPASSWORD, else from a prompt on a terminal."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if password := os.environ.get("PGPASSWORD"):
        return password
    if asked and sys.stdin.isatty():
        return typer.prompt("Password", hide_input=True, default="", show_default=False) or None
    return None
