"""How a failure is told: one sentence, one hint, an exit code; also what nobody foresaw."""

import errno
import json as jsonlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import typer

from taxi_ingest.errors import PrefectError, TaxiIngestError, printable, printable_lines, without_login
from taxi_ingest.flows.log_line import LogLine

_INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """An interrupt of several loads; its text says how far they had come."""


_REFUSALS = {
    errno.ENOSPC: "Free disk space, also in the folder that TMPDIR names.",
    errno.EDQUOT: "Free disk space, also in the folder that TMPDIR names.",
    errno.EMFILE: "Raise the limit of open files: `ulimit -n 1024`.",
    errno.ENFILE: "The machine has too many open files: end what needs them.",
    errno.EAGAIN: "Raise the limit of processes: `ulimit -u`.",
    errno.ENOMEM: "Free memory, or raise its limit: `ulimit -v`.",
    errno.EFBIG: "Raise the limit of a file's size: `ulimit -f`.",
    errno.EROFS: "Name folders that can be written: TAXI_INGEST_HOME, TAXI_INGEST_CACHE_DIR, TMPDIR.",
    errno.EACCES: "Name folders that you may use: HOME, TMPDIR, TAXI_INGEST_HOME, TAXI_INGEST_CACHE_DIR.",
    errno.EPERM: "Name folders that you may use: HOME, TMPDIR, TAXI_INGEST_HOME, TAXI_INGEST_CACHE_DIR.",
    errno.ENOENT: "Check that the current folder, TMPDIR, HOME and SSL_CERT_FILE exist.",
    errno.ENOTDIR: "Check that TMPDIR and HOME are folders.",
}
"""What to do where the operating system refuses something, by its error number."""


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
            message = f"Interrupted: {error}" if isinstance(error, Interrupted) else "Interrupted."
            _fail(message, hint, _INTERRUPTED, json, known)
        if isinstance(error, SystemExit | typer.Exit) or not isinstance(error, Exception):
            raise
        _fail(*explained(error), json, known)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is an interrupt, or what pydantic's serializer, a prompt or Python 3.11 makes of one.

    That wraps whatever a __set_name__ raises while a class is made.
    """
    swallowed = ("KeyboardInterrupt: ", "TerminationSignal: ")
    return (
        isinstance(error, KeyboardInterrupt | typer.Abort)
        or isinstance(error.__cause__, KeyboardInterrupt)
        or any(name in str(error) for name in swallowed)
    )


def _fail(message: str, hint: str, exit_code: int, json: bool, known: dict[str, Any]) -> NoReturn:
    message, hint = without_login(message), without_login(hint)
    if json:
        print_json({"status": "failed", **known, "error": message, "hint": hint})
    if writes_json_lines():
        told = {name: known.get(name) for name in ("table", "url", "retry")}
        tell_json(LogLine(message, logging.ERROR, about={"hint": hint, "exit_code": exit_code, **told}))
    else:
        _tell("Error:", "red", message)
        _tell("Hint:", None, hint)
    raise SystemExit(exit_code)


def writes_json_lines() -> bool:
    """Whether stderr is for programs, by `--log-format json`; also where the command line is wrong."""
    flag, value = "--log-format", "json"
    return f"{flag}={value}" in sys.argv or (flag, value) in pairwise(sys.argv)


def tell_json(line: LogLine) -> None:
    """Write a line to stderr, as `--log-format json` has it."""
    typer.echo(jsonlib.dumps(line.as_json()), err=True)


def _tell(title: str, color: str | None, text: str) -> None:
    # Without rich: there may be no memory left to import it.
    typer.secho(title, fg=color, bold=True, err=True, nl=False, color=wants_color())
    typer.echo(f" {printable_lines(text)}", err=True)


def wants_color() -> bool | None:
    """Whether colours are asked for; None where a terminal gets them, and nothing else (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def print_json(value: dict[str, Any]) -> None:
    """Print an object as one line on stdout: all that `--json` prints."""
    typer.echo(jsonlib.dumps(value))


def explained(error: Exception) -> tuple[str, str, int]:
    """Message, hint and exit code for an error that is none of ours."""
    cause = _root(error)
    if isinstance(cause, OSError) and cause.errno in _REFUSALS:
        where = f": {os.fsdecode(cause.filename)}" if isinstance(cause.filename, str | bytes) else ""
        return f"The system refuses: {cause.strerror or cause}{where}.", _REFUSALS[cause.errno], 1
    if isinstance(cause, MemoryError) or "failed to map segment" in str(cause):
        return "There is not enough memory.", _REFUSALS[errno.ENOMEM], 1
    if isinstance(cause, RuntimeError) and "start new thread" in str(cause):
        return "The system refuses to start another thread.", _REFUSALS[errno.EAGAIN], 1
    if problem := _prefect_settings_problem(cause):
        return f"Prefect's settings can't be used: {problem}.", _SETTINGS_HINT, PrefectError.exit_code
    what = printable(without_login(" ".join(f"{type(cause).__name__}: {cause}".split())))[:300]
    return f"taxi-ingest has met a bug: {what}", _report(error), 1


_SETTINGS_HINT = (
    "Check PREFECT_… variables (also in .env), prefect.toml, pyproject.toml and ~/.prefect/profiles.toml."
)


def _prefect_settings_problem(error: BaseException) -> str | None:
    """What is wrong with Prefect's settings, without the value, which may be secret; None if nothing is."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    if isinstance(error, ValidationError) and error.title.endswith("Settings"):
        problem = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, problem["loc"]))
        return without_login(f"{error.title} {name}: {plainly(problem)}")
    return printable(without_login(str(error)))[:300] if isinstance(error, SettingsError) else None


_WRONG = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "is no whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "is no number"),
    "finite_number": "is no finite number",
    **dict.fromkeys(("bool_parsing", "bool_type"), "is neither true nor false"),
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
    "greater_than": "is not more than {gt}",
    "less_than": "is not less than {lt}",
    **dict.fromkeys(("literal_error", "enum"), "is not {expected}"),
}
"""What pydantic finds wrong with a value, by its name for it, in the words of who has set the value
(https://docs.pydantic.dev/latest/errors/validation_errors/)."""


def _bound(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace("'", "")


def plainly(problem: Mapping[str, Any], value: str = "it") -> str:
    """What pydantic says of a value, without what it says of Python."""
    if wrong := _WRONG.get(problem["type"]):
        known = {name: _bound(each) for name, each in problem.get("ctx", {}).items()}
        return f"{value} {wrong.format(**known)}"
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return str(message[:1].lower() + message[1:])


def _root(error: BaseException) -> BaseException:
    """What lies behind an error: what the system has refused, if it is that, else the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or (isinstance(seen, OSError) and seen.errno in _REFUSALS):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _report(error: Exception) -> str:
    """Keep the traceback, which shows no values but those of the error's own text; say where it is."""
    import traceback

    text = without_login("".join(traceback.format_exception(error)))
    try:
        path = _log()
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w"
        ) as file:
            file.write(text)
    except Exception:
        return "Please report it, with the command line that led to it."
    return f"Please report it, with the command line that led to it and what {path} says."


def _log() -> Path:
    from taxi_ingest.settings.environment import Settings

    folder = Settings().home
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / "bug.log"
