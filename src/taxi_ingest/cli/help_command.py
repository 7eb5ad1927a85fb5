"""The command `help`: what --help shows, by name."""

from typing import Annotated, Any

import typer

from taxi_ingest.cli import completion
from taxi_ingest.cli.help import HELP, SOURCE
from taxi_ingest.cli.usage import no_such_command

app = typer.Typer()


@app.command(
    "help",
    rich_help_panel=HELP,
    epilog="""taxi-ingest help
taxi-ingest help blocks create""",
)
def help_(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            rich_help_panel=SOURCE,
            autocompletion=completion.commands,
            help="The command, with those above it; all are listed if none is named.",
        ),
    ] = None,
) -> None:
    """Show what a command does and what it takes."""
    found: Any = context.find_root()
    for word in words or ():
        below = getattr(found.command, "commands", {}).get(word)
        if below is None:
            raise no_such_command(found, word)
        found = typer.Context(below, info_name=word, parent=found)
    typer.echo(found.command.get_help(found), color=context.color)
