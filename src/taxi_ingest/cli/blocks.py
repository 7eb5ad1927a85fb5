"""The commands of Prefect blocks that name a database: blocks create, ls, check."""

import os
import sys
from getpass import getuser
from typing import Annotated

import typer

from taxi_ingest.cli import completion
from taxi_ingest.cli.command import Group
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, SOURCE, TARGET
from taxi_ingest.cli.options import DatabaseUrl, Json, Quiet
from taxi_ingest.cli.shared import prefect_context, read_settings, stderr
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import DEFAULT_BLOCK

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Keep databases as Prefect blocks, which flows load by name.",
    epilog="""taxi-ingest blocks create --embedded
taxi-ingest blocks ls""",
)


@app.command(
    "create",
    epilog="""taxi-ingest blocks create --host localhost --user me --database ny_taxi
taxi-ingest blocks create --name warehouse --embedded""",
)
def blocks_create(
    name: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=TARGET, help="The block's name.")
    ] = DEFAULT_BLOCK,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", rich_help_panel=TARGET, help="Host, or folder of the Unix socket."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, metavar="N", rich_help_panel=TARGET, help="Port; 5432 unless told."),
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="USER", rich_help_panel=TARGET, help="User.")] = None,
    database: Annotated[
        str | None, typer.Option(metavar="DATABASE", rich_help_panel=TARGET, help="Database.")
    ] = None,
    database_url: DatabaseUrl = None,
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded",
            rich_help_panel=TARGET,
            help="The local stack's own Postgres, started if needed.",
        ),
    ] = False,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin",
            rich_help_panel=BEHAVIOUR,
            help="Read the password from standard input.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=BEHAVIOUR, help="Replace a block of this name."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Save a database as a Prefect block, after trying to connect to it.

    The password comes from standard input, the URL, PGPASSWORD or a prompt.

    Without any flags it names TAXI_INGEST_DATABASE_URL's; without that either, a terminal is asked.
    """
    with failures_told(json=False):
        parts = {"host": host, "port": port, "user": user, "dbname": database}
        given = {key: str(value) for key, value in parts.items() if value is not None}
        dsn = _chosen_dsn(database_url, given, embedded, password_stdin)
        with prefect_context(quiet):
            from taxi_ingest.flows.blocks import create_block

            block = create_block(name, dsn, overwrite)
            if not quiet:
                typer.echo(f"Saved block {block.name}: {block.address}")


@app.command("ls", epilog="taxi-ingest blocks ls --json")
def blocks_ls(json: Json = False) -> None:
    """List the blocks that name a database."""
    with failures_told(json), prefect_context(quiet=True):
        from taxi_ingest.flows.blocks import list_blocks

        blocks = list_blocks()
        if json:
            print_json({"blocks": [{"name": block.name, "database": block.address} for block in blocks]})
        elif not blocks:
            stderr().print("No blocks yet: `taxi-ingest blocks create` makes one.")
        for block in blocks if not json else []:
            typer.echo(f"{block.name}\t{block.address}")


@app.command("check", epilog="taxi-ingest blocks check postgres-connector")
def blocks_check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            rich_help_panel=SOURCE,
            autocompletion=completion.blocks,
            help="The block's name.",
        ),
    ],
) -> None:
    """Try a connection through a block."""
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.flows.blocks import find_block
        from taxi_ingest.places.databases import no_such_block

        database = find_block(name)
        if database is None:
            raise no_such_block(name)
        typer.echo(f"{name}: {database.address} answers, {database.server_version()}")


def _chosen_dsn(database_url: str | None, parts: dict[str, str], embedded: bool, from_stdin: bool) -> str:
    """The database that the flags name, else the settings, else who sits at the terminal."""
    from taxi_ingest import stack
    from taxi_ingest.load.database import join_dsn

    settings = read_settings()
    if bool(database_url) + bool(parts) + embedded > 1:
        raise UsageError(
            "The database is named twice.",
            "Give --database-url, or --host, --user, …, or --embedded, and not two of them.",
        )
    if not (database_url or parts or embedded):
        if settings.database_url:
            database_url = settings.database_url.get_secret_value()
        else:
            parts = _ask_where()
            embedded = not parts
    if embedded:
        return stack.start_database(settings)
    return join_dsn(database_url or "", parts, _password(from_stdin, asked=bool(parts)))


def _ask_where() -> dict[str, str]:
    """Ask for a server's host, port, user and database; none for the local stack's Postgres.

    Raises UsageError where nobody sits at a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            "Which database?",
            "Name it by --host, --user and --database, by --database-url or TAXI_INGEST_DATABASE_URL;"
            " --embedded is the local stack's own Postgres.",
        )
    if typer.confirm("Is it the local stack's own Postgres?", default=True, err=True):
        return {}
    usual = {
        "host": os.environ.get("PGHOST", "localhost"),
        "port": os.environ.get("PGPORT", "5432"),
        "user": os.environ.get("PGUSER") or getuser(),
        "dbname": os.environ.get("PGDATABASE", "ny_taxi"),
    }
    names = {"host": "Host", "port": "Port", "user": "User", "dbname": "Database"}
    return {key: str(typer.prompt(names[key], default=default, err=True)) for key, default in usual.items()}


def _password(from_stdin: bool, asked: bool) -> str | None:
    """The password from standard input, else from PGPASSWORD, else from a prompt on a terminal."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if password := os.environ.get("PGPASSWORD"):
        return password
    if asked and sys.stdin.isatty():
        return typer.prompt("Password", hide_input=True, default="", show_default=False, err=True) or None
    return None
