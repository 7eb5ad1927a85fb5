"""The commands of Prefect blocks that name a database, a bucket or a cloud: blocks create, ls, check, rm."""

import os
import sys
from getpass import getuser
from typing import Annotated, Any

import typer

from taxi_ingest.cli import completion
from taxi_ingest.cli.command import Group
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, SOURCE, TARGET
from taxi_ingest.cli.options import DatabaseUrl, Json, Quiet
from taxi_ingest.cli.shared import prefect_context, read_settings, stderr
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import DEFAULT_BLOCK, BlockType

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Keep databases, buckets and clouds as blocks of Prefect's.",
    epilog="""taxi-ingest blocks create --embedded
taxi-ingest blocks ls""",
)


@app.command(
    "create",
    epilog="""taxi-ingest blocks create --host localhost --user me --database ny_taxi
taxi-ingest blocks create --name warehouse --embedded
taxi-ingest blocks create --type gcs-bucket --bucket taxi --key-file a.json""",
)
def blocks_create(
    context: typer.Context,
    type: Annotated[
        BlockType,
        typer.Option(
            metavar="TYPE",
            rich_help_panel=TARGET,
            help="What it is: sqlalchemy-connector (a database), gcs-bucket, s3-bucket, gcp-credentials or "
            "bigquery-warehouse.",
        ),
    ] = "sqlalchemy-connector",
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=TARGET,
            help="The block's name; postgres-connector, or else its type, unless told.",
        ),
    ] = None,
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
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="BUCKET", rich_help_panel=TARGET, help="The bucket of a gcs-bucket or s3-bucket."
        ),
    ] = None,
    folder: Annotated[
        str, typer.Option(metavar="PREFIX", rich_help_panel=TARGET, help="With what its keys begin.")
    ] = "",
    project: Annotated[
        str | None,
        typer.Option(
            metavar="PROJECT", rich_help_panel=TARGET, help="Google's project; that of the key unless told."
        ),
    ] = None,
    key_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=BEHAVIOUR,
            help="The cloud's key: Google's JSON, Amazon's CSV or credentials; - is stdin. Without one the "
            "usual credentials of where it is used.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=BEHAVIOUR, help="Replace a block of this name."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Save a database, a bucket or a cloud as a block, after trying it.

    A database's password comes from standard input, the URL, PGPASSWORD or a prompt.

    Without any flags it names TAXI_INGEST_DATABASE_URL's; without that either, a terminal is asked.
    """
    with failures_told(json=False):
        _check_flags(context, type)
        if type != "sqlalchemy-connector":
            _create_of_cloud(type, name or type, bucket, folder, project, key_file, overwrite, quiet)
            return
        parts = {"host": host, "port": port, "user": user, "dbname": database}
        given = {key: str(value) for key, value in parts.items() if value is not None}
        dsn = _chosen_dsn(database_url, given, embedded, password_stdin)
        with prefect_context(quiet):
            from taxi_ingest.flows.blocks import create_block

            block = create_block(name or DEFAULT_BLOCK, dsn, overwrite)
            if not quiet:
                typer.echo(f"Saved block {block.name}: {block.address}")


_FLAGS = {
    "sqlalchemy-connector": (
        "host",
        "port",
        "user",
        "database",
        "database_url",
        "embedded",
        "password_stdin",
    ),
    "gcs-bucket": ("bucket", "folder", "project", "key_file"),
    "s3-bucket": ("bucket", "folder", "key_file"),
    "gcp-credentials": ("project", "key_file"),
    "bigquery-warehouse": ("project", "key_file"),
}
"""Which flags a type has, beside those that all have."""


def _check_flags(context: typer.Context, type: BlockType) -> None:
    """Raise UsageError for a flag of another type, and for a bucket that is not named."""
    for name in {name for names in _FLAGS.values() for name in names} - set(_FLAGS[type]):
        if context.params[name]:
            raise UsageError(
                f"--{name.replace('_', '-')} says nothing of a {type}.",
                "Leave it out, or give another --type.",
            )
    if "bucket" in _FLAGS[type] and not context.params["bucket"]:
        raise UsageError("Which bucket?", "Give --bucket.")


def _create_of_cloud(
    type: BlockType,
    name: str,
    bucket: str | None,
    folder: str,
    project: str | None,
    key_file: str | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Save a block of a cloud's, and print which."""
    with prefect_context(quiet):
        from taxi_ingest.flows.cloud_blocks import create_cloud_block

        block = create_cloud_block(type, name, bucket or "", folder, key_file, project, overwrite)
        if not quiet:
            typer.echo(f"Saved block {block.name}: {block.address}")


@app.command("ls", epilog="taxi-ingest blocks ls --json")
def blocks_ls(json: Json = False) -> None:
    """List the blocks that name a database, a bucket or a cloud."""
    with failures_told(json), prefect_context(quiet=True):
        from taxi_ingest.flows.cloud_blocks import all_blocks

        blocks = all_blocks()
        if json:
            told = [{"name": block.name, "type": block.type, "address": block.address} for block in blocks]
            print_json({"blocks": told})
        elif not blocks:
            stderr().print("No blocks yet: `taxi-ingest blocks create` makes one.")
        for block in blocks if not json else []:
            typer.echo(f"{block.name}\t{block.type}\t{block.address}")


def _block(help: str) -> Any:
    """The argument that names a block of any type."""
    return typer.Argument(
        metavar="NAME", rich_help_panel=SOURCE, autocompletion=completion.all_blocks, help=help
    )


@app.command("check", epilog="taxi-ingest blocks check postgres-connector")
def blocks_check(
    name: Annotated[str, _block("The block's name, or TYPE/NAME.")],
) -> None:
    """Try what a block names."""
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.flows.cloud_blocks import try_block

        typer.echo(f"{name}: {try_block(name)}")


@app.command("rm", epilog="taxi-ingest blocks rm warehouse")
def blocks_rm(
    name: Annotated[str, _block("The block's name, or TYPE/NAME.")],
    quiet: Quiet = False,
) -> None:
    """Have Prefect forget a block. What it names stays as it is."""
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.flows.blocks import remove_block

        remove_block(name)
        if not quiet:
            typer.echo(f"Removed block {name}")


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
