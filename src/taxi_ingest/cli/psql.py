"""The command that opens a shell on the database: psql."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from taxi_ingest.cli.failures import failures_told
from taxi_ingest.cli.help import BEHAVIOUR, LOOK
from taxi_ingest.cli.options import Block, DatabaseUrl
from taxi_ingest.cli.shared import chosen_database, read_settings
from taxi_ingest.errors import UsageError

if TYPE_CHECKING:
    from taxi_ingest.load import Database

app = typer.Typer()


@app.command(
    rich_help_panel=LOOK,
    epilog="""taxi-ingest psql
taxi-ingest psql -- -c 'SELECT count(*) FROM yellow_tripdata'""",
)
def psql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- ARGUMENTS", rich_help_panel=BEHAVIOUR, help="What psql is given."),
    ] = None,
    block: Block = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Open psql on the database that loads go to.

    The embedded Postgres is started if needed. It is the machine's psql, or else the one that comes with the
    embedded Postgres.
    """
    with failures_told(json=False):
        from taxi_ingest import stack

        _check_flags(arguments or [])
        database = _ready(chosen_database(block, database_url, quiet=True))
        program = stack.psql_program()
        variables = {**os.environ, **_password(database)}
        sys.stdout.flush()
        # Python ignores it, and psql would go on to write where nobody reads any more.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        # psql takes our place, so that signals are its own, and its exit code is ours.
        os.execvpe(program, [program, "-d", database.address, *(arguments or [])], variables)


def _check_flags(arguments: Sequence[str]) -> None:
    """Raise UsageError for what psql would take for the name of a role, and be silent."""
    if arguments and not arguments[0].startswith("-"):
        statement = shlex.join(["taxi-ingest", "psql", "--", "-c", " ".join(arguments)])
        raise UsageError(f"psql takes no {arguments[0]}: what it is given begins with a flag.", statement)


def _ready(database: "Database") -> "Database":
    """The database, started if it is the local stack's."""
    from taxi_ingest import stack
    from taxi_ingest.load import database_at
    from taxi_ingest.places.databases import EmbeddedDatabase

    if isinstance(database, EmbeddedDatabase):
        return database_at(stack.start_database(read_settings()))
    return database


def _password(database: "Database") -> dict[str, str]:
    """The password as psql takes it where no list of processes shows it.

    Raises UsageError for other secrets, which could only stand on the command line.
    """
    secrets = dict(database.secrets)
    password = secrets.pop("password", None)
    if secrets:
        raise UsageError(
            f"psql can't be given {', '.join(sorted(secrets))} without showing it to all of the machine.",
            "Leave it out of the URL, and give it by a service file of libpq's (PGSERVICE).",
        )
    return {"PGPASSWORD": password} if password else {}
