"""What the commands share: flags, how results and errors are printed, the settings, the database."""

import errno
import json as jsonlib
import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from taxi_ingest.cli.unexpected import explained
from taxi_ingest.errors import TaxiIngestError, UsageError, printable_lines, without_login

if TYPE_CHECKING:
    from rich.console import Console

    from taxi_ingest.load import Database
    from taxi_ingest.settings import Settings

_INTERRUPTED = 130
_LEAST_OPEN_FILES = 64
_LEAST_MEMORY_BYTES = 512 << 20
"""With less a run fails anyway, but without a word or an end: Prefect waits for a thread that could
not open its files, and OpenBLAS exits."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing on success.")]
Block = Annotated[str | None, typer.Option(metavar="NAME", help="Use the database of this Prefect block.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="Postgres to use, as postgresql://user@host/database. Keep passwords out of it: name a block "
        "or set TAXI_INGEST_DATABASE_URL, PGPASSWORD or ~/.pgpass.",
    ),
]


@contextmanager
def failures_told(json: bool, **known: Any) -> Iterator[dict[str, Any]]:
    """Print an error as one sentence and one hint, and exit with its code.

    Yields what is known anyway, which `--json` prints with the error.
    """
    try:
        yield known
    except TaxiIngestError as error:
        _fail(str(error), error.hint, error.exit_code, json, known)
    except BaseException as error:
        if _is_interrupt(error):
            hint = "Nothing is half-loaded; run the same command again."
            _fail("Interrupted.", hint, _INTERRUPTED, json, known)
        if isinstance(error, SystemExit | typer.Exit) or not isinstance(error, Exception):
            raise
        _fail(*explained(error), json, known)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is an interrupt, or what pydantic's serializer or a prompt makes of one."""
    swallowed = ("KeyboardInterrupt: ", "TerminationSignal: ")
    return isinstance(error, KeyboardInterrupt | typer.Abort) or any(name in str(error) for name in swallowed)


def _fail(message: str, hint: str, exit_code: int, json: bool, known: dict[str, Any]) -> NoReturn:
    message, hint = without_login(message), without_login(hint)
    if json:
        print_json({"status": "failed", **known, "error": message, "hint": hint})
    _tell("Error:", "red", message)
    _tell("Hint:", None, hint)
    raise SystemExit(exit_code)


def _tell(title: str, color: str | None, text: str) -> None:
    # Without rich: there may be no memory left to import it.
    no_color = False if os.environ.get("NO_COLOR") else None
    typer.secho(title, fg=color, bold=True, err=True, nl=False, color=no_color)
    typer.echo(f" {printable_lines(text)}", err=True)


def stderr() -> "Console":
    from taxi_ingest.cli.display import PlainConsole

    return PlainConsole(stderr=True)


def stdout() -> "Console":
    from taxi_ingest.cli.display import PlainConsole

    return PlainConsole(soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    typer.echo(jsonlib.dumps(value))


def read_settings() -> "Settings":
    from pydantic import ValidationError

    from taxi_ingest.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = f"TAXI_INGEST_{'_'.join(map(str, problem['loc']))}".upper()
        raise UsageError(
            f"{name} is wrong: {problem['msg'].removeprefix('Value error, ')}.",
            ".env.example explains each setting.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(
            f".env in the current folder can't be read: {reason}.", "Mend it, or move it away."
        ) from None


def check_environment() -> None:
    """Raise UsageError, or OSError, for what would make Prefect fail or hang when it is imported."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _LEAST_OPEN_FILES:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    mmap.mmap(-1, _LEAST_MEMORY_BYTES).close()
    if os.path.expanduser("~") == "~" and "PREFECT_HOME" not in os.environ:  # noqa: PTH111
        raise UsageError("There is no home folder.", "Set HOME to a folder of yours.")
    path = os.environ.get("SSL_CERT_FILE")
    if path and not os.access(path, os.R_OK):
        raise UsageError(f"SSL_CERT_FILE names {path}, which can't be read.", "Mend it, or unset it.")


@contextmanager
def prefect_context(quiet: bool) -> Iterator[None]:
    check_environment()
    from taxi_ingest.cli.display import show_prefect_logs
    from taxi_ingest.flows.api import prefect_api

    show_prefect_logs(stderr(), quiet)
    with prefect_api(read_settings()):
        yield


def chosen_settings(block: str | None, database_url: str | None) -> "tuple[Settings, str | None]":
    """The settings with the database that is named, and the block, which a named database goes before."""
    from pydantic import SecretStr

    settings = read_settings()
    if database_url is None:
        return settings, block
    return settings.model_copy(update={"database_url": SecretStr(database_url)}), None


def chosen_database(block: str | None, database_url: str | None, quiet: bool) -> "Database":
    """The database that `ingest` would load into with these flags."""
    from taxi_ingest.databases import choose_database

    settings, block = chosen_settings(block, database_url)

    def find_block(name: str) -> "Database | None":
        with prefect_context(quiet):
            from taxi_ingest.flows.blocks import find_block

            return find_block(name)

    return choose_database(settings, block, find_block)
