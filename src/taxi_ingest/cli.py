"""The command line: parse, call one library function, print its result.

Results go to stdout, everything else to stderr. Heavy imports stand inside the commands, so that
`--help` is fast.
"""

import json as jsonlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from taxi_ingest.errors import TaxiIngestError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from taxi_ingest.settings import Settings

_INTERRUPTED = 130

app = typer.Typer(
    name="taxi-ingest",
    help="New York's taxi trips into Postgres: fast, exactly once, visible in Prefect.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
blocks_app = typer.Typer(
    no_args_is_help=True, help="Prefect blocks: databases that flows load by name (create, ls, check)."
)
app.add_typer(blocks_app, name="blocks")


class IfLoadedChoice(StrEnum):
    SKIP = "skip"
    REPLACE = "replace"
    FAIL = "fail"


class NamesChoice(StrEnum):
    TLC = "tlc"
    SNAKE = "snake"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing on success.")]
Block = Annotated[
    str | None, typer.Option(metavar="NAME", help="Load into the database of this Prefect block.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="Postgres to use, as postgresql://user@host/database. Keep passwords out of it: name a block "
        "or set TAXI_INGEST_DATABASE_URL, PGPASSWORD or ~/.pgpass.",
    ),
]


@app.command(
    epilog="Example: taxi-ingest ingest --url yellow_tripdata_2024-01.parquet --table yellow_tripdata",
)
def ingest(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The file: path or URL (file, http, https) of a CSV, CSV.gz or Parquet."
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(metavar="TABLE", help="The table, or SCHEMA.TABLE; made if it is missing."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead of --url: TLC's dataset (yellow, green, fhv, fhvhv) …"),
    ] = None,
    month: Annotated[str | None, typer.Option(metavar="YYYY-MM", help="… and its month.")] = None,
    chunk_size: Annotated[int, typer.Option(min=1, help="Rows to take at a time.")] = 100_000,
    block: Block = None,
    database_url: DatabaseUrl = None,
    if_loaded: Annotated[
        IfLoadedChoice, typer.Option(help="What to do with a file that the table already has.")
    ] = IfLoadedChoice.SKIP,
    names: Annotated[
        NamesChoice | None,
        typer.Option(help="How a new table spells its columns: as TLC does, or in snake_case."),
    ] = None,
    max_rejects: Annotated[
        str, typer.Option(metavar="N|P%", help="How many rows may be unfit before nothing at all is loaded.")
    ] = "1%",
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Load nothing if rows are missing by TLC's known counts."),
    ] = False,
    transform: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own step: this function gets each chunk as a pandas DataFrame and returns one.",
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Whether downloads are kept, and used again.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen; write nothing to the database.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load one file into a table, exactly once.

    The same file again is skipped; a file that has changed since replaces its own rows and no others.
    """
    with _failures_told(json, table=table, url=None) as known:
        if (url is None) == (dataset is None) or (dataset is None) != (month is None):
            raise UsageError("Which file?", "Give --url, or --dataset and --month.")
        if dataset and month:
            from taxi_ingest.locate import month_address

            url, usual_table = month_address(_settings(), dataset, month)
            table = table or usual_table
        if url is None or table is None:
            raise UsageError("Which table?", "Give --table.")
        _load(
            known,
            json,
            quiet,
            url=url,
            table=table,
            database_url=database_url,
            chunk_size=chunk_size,
            block=block,
            if_loaded=if_loaded.value,
            max_rejects=max_rejects,
            verify=verify,
            names=names.value if names else None,
            step=transform,
            cache=cache,
            dry_run=dry_run,
        )


@app.command(epilog="Example: taxi-ingest zones")
def zones(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The lookup file, if not TLC's present one.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table [default: taxi_zones].")
    ] = None,
    block: Block = None,
    database_url: DatabaseUrl = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load the taxi zone lookup, which PULocationID and DOLocationID refer to.

    The table has LocationID as its key; a newer lookup replaces it whole.
    """
    with _failures_told(json, table=table, url=None) as known:
        from taxi_ingest.locate import zones_address

        usual_url, usual_table = zones_address(_settings())
        _load(
            known,
            json,
            quiet,
            url=url or usual_url,
            table=table or usual_table,
            database_url=database_url,
            block=block,
        )


def _load(
    known: dict[str, Any],
    json: bool,
    quiet: bool,
    *,
    url: str,
    database_url: str | None,
    block: str | None,
    **parameters: Any,
) -> None:
    """Run the flow `ingest` and print its outcome; `known` gets what an error is told with."""
    from taxi_ingest.fetch import login_of, without_login
    from taxi_ingest.run import run_ingest

    known |= {"url": without_login(url), "table": parameters["table"]}
    # What a flow gets as a parameter, Prefect stores: secrets go by the environment.
    if login := login_of(url):
        os.environ["TAXI_INGEST_SOURCE_LOGIN"] = login
    if database_url:
        os.environ["TAXI_INGEST_DATABASE_URL"] = database_url
    outcome = run_ingest(
        _settings(),
        _stderr(),
        quiet,
        url=known["url"],
        block=None if database_url else block,
        **parameters,
    )
    if json:
        _print_json(outcome.as_json())
    elif not quiet:
        from taxi_ingest.stack import psql_command

        _stdout().print(outcome.summary(psql_command(outcome.database)))


@app.command(epilog="Example: taxi-ingest up")
def up(json: Json = False, quiet: Quiet = False) -> None:
    """Start the local stack: the embedded Postgres and a Prefect server, both left running."""
    from taxi_ingest import stack

    with _failures_told(json):
        settings = _settings()
        server = stack.launch_prefect(settings)
        if not quiet and not json:
            _stderr().print("Starting the embedded Postgres and the Prefect server …")
        stack.start_database(settings)
        server.wait()
        if not quiet:
            _print_status(json)


@app.command(epilog="Example: taxi-ingest down")
def down(json: Json = False, quiet: Quiet = False) -> None:
    """Stop the local stack. Its data stays."""
    from taxi_ingest import stack

    with _failures_told(json):
        before = stack.stop(_settings())
        if json:
            _print_json(
                {"database_stopped": before.database.running, "prefect_stopped": _is_ours(before.prefect)}
            )
        elif not quiet:
            ours = (("The embedded Postgres", before.database), ("The Prefect server", before.prefect))
            for name, service in ours:
                _stdout().print(f"{name}: {'stopped' if _is_ours(service) else _not_stopped(service)}.")


@app.command(epilog="Example: taxi-ingest status --json")
def status(json: Json = False) -> None:
    """Say whether the local stack runs, and where. Starts nothing."""
    with _failures_told(json):
        _print_status(json)


@app.command(epilog="Example: taxi-ingest ui --no-browser")
def ui(
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open it, or only print its address.")
    ] = True,
) -> None:
    """Open Prefect's dashboard; its server is started if needed."""
    with _failures_told(json=False):
        from taxi_ingest.orchestration import dashboard

        address = dashboard(_settings())
        typer.echo(address)
        if browser and typer.launch(address) != 0:
            _stderr().print("No browser could be opened: open the address above yourself.")


@blocks_app.command(
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
    with _failures_told(json=False), _prefect(quiet):
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


@blocks_app.command("ls", epilog="Example: taxi-ingest blocks ls --json")
def blocks_ls(json: Json = False) -> None:
    """List the blocks that name a database."""
    with _failures_told(json), _prefect(quiet=True):
        from taxi_ingest.blocks import list_blocks

        blocks = list_blocks()
        if json:
            _print_json({"blocks": [{"name": block.name, "database": block.address} for block in blocks]})
        elif not blocks:
            _stderr().print("No blocks yet: `taxi-ingest blocks create` makes one.")
        for block in blocks if not json else []:
            typer.echo(f"{block.name}\t{block.address}")


@blocks_app.command("check", epilog="Example: taxi-ingest blocks check postgres-connector")
def blocks_check(name: Annotated[str, typer.Argument(metavar="NAME", help="The block's name.")]) -> None:
    """Try a connection through a block."""
    with _failures_told(json=False), _prefect(quiet=True):
        from taxi_ingest.blocks import database_of_block

        database = database_of_block(name)
        typer.echo(f"{name}: {database.address} answers, {database.server_version()}")


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"taxi-ingest {version_of('taxi-ingest')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """The entry point `taxi-ingest`."""
    app()


@contextmanager
def _failures_told(json: bool, **known: Any) -> Iterator[dict[str, Any]]:
    """Print an error as one sentence and one hint, and exit with its code.

    Yields what is known anyway, which `--json` prints with the error.
    """
    try:
        yield known
    except TaxiIngestError as error:
        _fail(str(error), error.hint, error.exit_code, json, known)
    except KeyboardInterrupt:
        _fail(
            "Interrupted.", "Nothing is half-loaded; run the same command again.", _INTERRUPTED, json, known
        )


def _fail(message: str, hint: str, exit_code: int, json: bool, known: dict[str, Any]) -> NoReturn:
    if json:
        _print_json({"status": "failed", **known, "error": message, "hint": hint})
    console = _stderr()
    console.print(f"[bold red]Error:[/] {_escaped(message)}", soft_wrap=True, highlight=False)
    console.print(f"[bold]Hint:[/] {_escaped(hint)}", soft_wrap=True, highlight=False)
    raise typer.Exit(exit_code)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _stdout() -> "Console":
    from rich.console import Console

    return Console(soft_wrap=True)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(jsonlib.dumps(value))


def _settings() -> "Settings":
    from pydantic import ValidationError

    from taxi_ingest.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = f"TAXI_INGEST_{'_'.join(map(str, problem['loc']))}".upper()
        raise UsageError(
            f"{name} is wrong: {problem['msg']}.", ".env.example explains each setting."
        ) from None


@contextmanager
def _prefect(quiet: bool) -> Iterator[None]:
    from taxi_ingest.orchestration import prefect_api
    from taxi_ingest.progress import show_prefect_logs

    show_prefect_logs(_stderr(), quiet)
    with prefect_api(_settings()):
        yield


def _default_database_url() -> str:
    from taxi_ingest import stack

    settings = _settings()
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


def _print_status(json: bool) -> None:
    from taxi_ingest import stack

    found = stack.status(_settings())
    if json:
        _print_json(
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
