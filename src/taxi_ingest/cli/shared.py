"""What the commands share: the consoles, the settings, the database."""

import errno
import mmap
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from taxi_ingest.cli.failures import plainly, writes_json_lines
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import DEFAULT_BLOCK

if TYPE_CHECKING:
    from taxi_ingest.cli.display import PlainConsole
    from taxi_ingest.load import Database
    from taxi_ingest.places import Place
    from taxi_ingest.settings.environment import Settings

Request = TypeVar("Request")

_LEAST_OPEN_FILES = 64
_LEAST_MEMORY_BYTES = 512 << 20
"""With less a run fails anyway, but without a word or an end: Prefect waits for a thread that could
not open its files, and OpenBLAS exits."""


def given(context: typer.Context, kind: type[Request], **more: Any) -> Request:
    """A request of which the command's flags of the same names are the fields, and these more."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in context.params.items() if name in names} | more)


def stderr() -> "PlainConsole":
    """The console for progress, warnings and errors."""
    from taxi_ingest.cli.display import JsonConsole, PlainConsole

    return JsonConsole() if writes_json_lines() else PlainConsole(stderr=True)


def stdout() -> "PlainConsole":
    """The console for results, whose lines are not wrapped."""
    from taxi_ingest.cli.display import PlainConsole

    return PlainConsole(soft_wrap=True)


def read_settings() -> "Settings":
    """The settings of the environment and `.env`. Raises UsageError, naming the one that can't be read."""
    from pydantic import ValidationError

    from taxi_ingest.settings.environment import Settings

    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = f"TAXI_INGEST_{'_'.join(map(str, problem['loc']))}".upper()
        raise UsageError(
            f"{name} is wrong: {plainly(problem, str(problem['input']))}.",
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


def check_text(**named: str | None) -> None:
    """Raise UsageError for a flag's value that is empty, or not UTF-8."""
    for name, text in named.items():
        if text == "":
            raise UsageError(f"--{name.replace('_', '-')} is empty.", "Give it a value, or leave it out.")
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise UsageError(f"--{name} is not UTF-8 text.", "Write it in UTF-8.") from None


@contextmanager
def prefect_context(quiet: bool) -> Iterator[None]:
    """The Prefect API that flows are to run with, and its log lines on stderr, none of them if `quiet`.

    Raises UsageError for wrong settings of Prefect's, PrefectError where its API can't be reached.
    """
    check_environment()
    from taxi_ingest.flows.api import prefect_api
    from taxi_ingest.flows.logs import show_prefect_logs

    show_prefect_logs(stderr(), quiet)
    with prefect_api(read_settings()):
        yield


def told_apart(to: str | None, block: str | None, database_url: str | None) -> tuple[str | None, str | None]:
    """What `--to` and `--database-url` name: a place by its whole address, or a database.

    Raises UsageError for what is no place, and where several flags name one.
    """
    if to is None:
        return None, database_url
    # A block says who opens a dataset of BigQuery's, which its address names.
    says_where = block if not to.lower().startswith("bigquery://") else None
    others = {"--database-url": database_url, "--block": says_where}
    if also := [flag for flag, value in others.items() if value is not None]:
        raise UsageError(f"Where to? Both --to and {also[0]} say it.", "Leave one of them out.")
    check_text(to=to)
    from taxi_ingest.places import is_postgres, place_at

    return (None, to) if is_postgres(to) else (place_at(to).address, None)


def chosen_place(to: str | None, block: str | None, database_url: str | None, quiet: bool) -> "Place":
    """The place that `ingest` would load into with these flags."""
    from taxi_ingest.places import choose_place

    to, database_url = told_apart(to, block, database_url)
    settings, block = chosen_settings(block, database_url)
    return choose_place(settings, to, block, partial(_find_database, quiet), partial(open_block, quiet))


def open_block(quiet: bool, block: str, to: str | None = None) -> "Place | Database":
    """What a block names, or opens of an address, by asking Prefect."""
    with prefect_context(quiet):
        from taxi_ingest.flows.cloud_blocks import open_block

        return open_block(block, to)


def _find_database(quiet: bool, block: str) -> "Database | None":
    with prefect_context(quiet):
        from taxi_ingest.flows.blocks import find_block

        return find_block(block)


def chosen_settings(
    block: str | None, database_url: str | None, source_block: str | None = None
) -> "tuple[Settings, str | None]":
    """The settings with the database that is named, and the block, which a named database goes before.

    With them goes what `source_block` opens buckets with. Raises UsageError where there is no such block.
    """
    from pydantic import SecretStr

    settings = read_settings()
    if source_block:
        with prefect_context(quiet=True):
            from taxi_ingest.flows.cloud_blocks import with_source_block

            settings = with_source_block(settings, source_block)
    if database_url is None:
        return settings, block
    return settings.model_copy(update={"database_url": SecretStr(database_url)}), None


def chosen_database(block: str | None, database_url: str | None, quiet: bool) -> "Database":
    """The database that `ingest` would load into with these flags."""
    from taxi_ingest.places.databases import choose_database

    settings, block = chosen_settings(block, database_url)
    return choose_database(settings, block, partial(_find_database, quiet))


def running_database(block: str | None, database_url: str | None) -> "Database | None":
    """The same database, to be looked at; None where something would have to be started for it."""
    from taxi_ingest.load import database_at
    from taxi_ingest.places.databases import EmbeddedDatabase, choose_database

    settings, block = chosen_settings(block, database_url)
    try:
        database = choose_database(settings, block, lambda name: _find_running_block(settings, name))
    except _Stopped:
        return None
    if not isinstance(database, EmbeddedDatabase):
        return database
    return database_at(database.address) if database.runs else None


def running_place(to: str | None, block: str | None, database_url: str | None) -> "Place | None":
    """The same for any place."""
    from taxi_ingest.places import Postgres

    to, database_url = told_apart(to, block, database_url)
    if to is not None:
        return chosen_place(to, block, None, quiet=True)
    database = running_database(block, database_url)
    return Postgres(database) if database else None


def named_place(
    place: "Place | None", to: str | None, block: str | None, database_url: str | None
) -> list[str]:
    """The flags that name the place again, in which a password is not shown; none where none named it."""
    address = place.address if place else None
    named = (("--to", to and address), ("--block", block), ("--database-url", database_url and address))
    return [part for flag, value in named if value for part in (flag, value)]


class _Stopped(Exception):
    """Prefect, which may know the block, does not run."""


def _find_running_block(settings: "Settings", name: str) -> "Database | None":
    from taxi_ingest.cli.local_api import local_api, may_have_block, prefect_may_be_configured

    api, configured = local_api(settings), prefect_may_be_configured()
    if not configured:
        if api is None:
            raise _Stopped
        with api:
            # Another that is not there was mistyped, and Prefect knows what was meant.
            if name == DEFAULT_BLOCK and not may_have_block(api, name):
                return None
    check_environment()
    from taxi_ingest.flows.api import own_api_url

    if api is None and not own_api_url():
        raise _Stopped
    return _find_database(True, name)
