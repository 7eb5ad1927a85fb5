"""The command line: parse, call one library function, print its result.

Results go to stdout, everything else to stderr. Heavy imports stand inside the commands, so that
`--help` is fast.

Any environment is borne: standard output and error may be closed, full, a broken pipe, not UTF-8. Whether
results can be shown decides nothing about what is done: a load that has been committed is done, also where
stdout is full. So what can't be written is kept, to be told at the end.
"""

import gc
import io
import logging
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, TextIO

import typer

from taxi_ingest.cli import (
    backfill,
    blocks,
    completion,
    doctor,
    help_command,
    ingest,
    ledger,
    psql,
    report,
    schedule,
    stack,
    views,
    zones,
)
from taxi_ingest.cli.command import Command, Group
from taxi_ingest.cli.failures import failures_told, tell_json, wants_color, writes_json_lines
from taxi_ingest.cli.help import LOAD, STACK
from taxi_ingest.cli.usage import misread
from taxi_ingest.errors import printable_lines
from taxi_ingest.flows.log_line import LogLine

_CHANGING = ("ingest", "backfill", "zones", "views", "undo", "up", "down")
"""Commands that are done once they have changed something, whether or not they can tell of it."""

_CHANGING_BLOCKS = (["blocks", "create"], ["blocks", "rm"])

_EXIT_SECONDS = 5
_KEPT_BYTES = 100_000


completion.mend_zsh()
app = typer.Typer(
    name="taxi-ingest",
    help="New York's taxi trips into Postgres: fast, exactly once, visible in Prefect.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    # The help is laid out by Group and Command.
    rich_markup_mode=None,
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "color": wants_color()},
    epilog="""taxi-ingest ingest --dataset yellow --month 2024-01
taxi-ingest backfill yellow green 2023..
taxi-ingest status
taxi-ingest help backfill""",
)
for commands in (ingest, backfill, zones, views, stack, ledger, report, psql, doctor, help_command):
    app.add_typer(commands.app)
app.add_typer(schedule.app, name="schedule", rich_help_panel=LOAD)
app.add_typer(blocks.app, name="blocks", rich_help_panel=STACK)
for group in app.registered_groups:
    for command in group.typer_instance.registered_commands if group.typer_instance else ():
        command.cls = Command


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


class _Stream(io.FileIO):
    """File descriptor 1 or 2; a failure to write is kept, not raised."""

    failure: OSError | None = None
    unwritten: bytes = b""

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        try:
            while (written := super().write(data)) is None:
                # Someone has made the terminal that we share not to block.
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            self.unwritten = (self.unwritten + bytes(data))[:_KEPT_BYTES]
            return len(data)


def main() -> None:
    """The entry point `taxi-ingest`."""
    if not sys.warnoptions:
        # Those of libraries are for their developers: `--quiet` prints nothing.
        warnings.simplefilter("ignore")
    # Whoever ends us kindly gets what Ctrl-C gets: a clean end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # As a terminal does that is closed; not under nohup.
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    output = _guarded_streams()
    if os.environ.get("HOME") == "":
        # Else a home folder would be taken for the root of the file system.
        del os.environ["HOME"]
    # NumPy's threads, which nothing here uses, would end us with SIGINT where the system refuses them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports make a million objects that stay. To look through them for garbage again and again takes
    # a tenth of the start, and 0.4 s at the very end.
    gc.set_threshold(100_000)
    try:
        code = _run()
        sys.stdout.flush()
        code = _told(output) if code == 0 else code
        _end_within(_EXIT_SECONDS, code)
        sys.exit(code)
    finally:
        gc.freeze()
        # All is done: an interrupt now would only spoil Python's own end.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def _end_within(seconds: float, code: int) -> None:
    """End in this time, whatever else wants to be done at Python's exit.

    Prefect's threads then send what they still have to its server, and would wait for one that is gone.
    """
    end = threading.Timer(seconds, os._exit, [code])
    end.daemon = True
    # Where the system has no thread left, nothing else can be waiting either.
    with suppress(RuntimeError):
        end.start()


def _run() -> int:
    """Run the command; return its exit code. What ends it early ends in one sentence and one hint."""
    try:
        with failures_told(json="--json" in sys.argv), _command_line_read():
            # A number where a command has ended itself, as --version does; else what it returned.
            code = app(standalone_mode=False)
    except SystemExit as end:
        code = end.code
    return code if isinstance(code, int) else 0


@contextmanager
def _command_line_read() -> Iterator[None]:
    """Make a UsageError of what Typer says about the command line. A group without a command shows help."""
    try:
        yield
    except Exception as error:
        # Typer brings its own copy of click, or uses click itself: the class has no name to rely on.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)
            raise SystemExit(2) from None
        raise misread(error) from None


def _told(output: _Stream) -> int:
    """Say on stderr what stdout did not take; return the exit code."""
    if output.failure is None:
        return 0
    changing = sys.argv[1:2] and (sys.argv[1] in _CHANGING or sys.argv[1:3] in _CHANGING_BLOCKS)
    if isinstance(output.failure, BrokenPipeError) and not changing:
        # Who reads, as `head` does, has seen enough.
        return 0
    reason = f"stdout can't be written: {output.failure.strerror}."
    unwritten = printable_lines(output.unwritten.decode(errors="replace"))
    if writes_json_lines():
        tell_json(LogLine(reason, logging.WARNING, about={"stdout": unwritten}))
    elif changing:
        sys.stderr.write(f"Done, but {reason}\n{unwritten}")
    else:
        sys.stderr.write(f"Error: {reason}\nHint: Redirect it to where there is room.\n")
    return 0 if changing else 1


def _guarded_streams() -> _Stream:
    """Put such streams in the place of `sys.stdout` and `sys.stderr`; return the one of stdout."""
    closed = _fill_up()
    output, errors = _Stream(1, "w", closefd=False), _Stream(2, "w", closefd=False)
    if 1 in closed:
        output.failure = OSError(None, "it is closed")
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(errors, sys.stderr)
    return output


def _fill_up() -> set[int]:
    """Open what is closed of 0, 1 and 2, else the next file or connection would get its number."""
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            closed.add(number)
    return closed


def _text(stream: _Stream, before: TextIO | None) -> TextIO:
    """A text stream that shows what its encoding lacks as escapes."""
    encoding = before.encoding if before else "utf-8"
    # Lines at once, so that stdout and stderr keep their order.
    buffer = io.BufferedWriter(stream)  # type: ignore[type-var]
    return io.TextIOWrapper(buffer, encoding, errors="backslashreplace", line_buffering=True)
