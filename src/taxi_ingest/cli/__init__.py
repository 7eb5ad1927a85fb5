"""The command line: parse, call one library function, print its result.

Results go to stdout, everything else to stderr. Heavy imports stand inside the commands, so that
`--help` is fast.
"""

import gc
import signal
from typing import Annotated

import typer

from taxi_ingest.cli import blocks, ingest, ledger, stack
from taxi_ingest.cli.shared import failures_told

app = typer.Typer(
    name="taxi-ingest",
    help="New York's taxi trips into Postgres: fast, exactly once, visible in Prefect.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (ingest, ledger, stack):
    app.add_typer(commands.app)
app.add_typer(blocks.app, name="blocks")


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
    # Whoever ends us kindly gets what Ctrl-C gets: a clean end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Imports make a million objects that stay. To look through them for garbage again and again takes
    # a tenth of the start, and 0.4 s at the very end.
    gc.set_threshold(100_000)
    try:
        with failures_told(json=False):
            app()
    finally:
        gc.freeze()
        # All is done: an interrupt now would only spoil Python's own end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
