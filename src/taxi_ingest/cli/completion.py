"""What TAB offers: datasets, months, and what the ledger and Prefect name.

It is asked at each TAB, so it never starts anything, never takes long, and never says what is wrong: where
something is not to be had, less is offered. So it goes to Postgres' catalogue itself: our own ways there take
half a second to import.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import date
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import typer

from taxi_ingest.settings.job import BlockType

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from taxi_ingest.tlc import Dataset

_PATIENCE_SECONDS = 2
"""How long Postgres and Prefect are waited for."""

_MOST_MONTHS = 24
"""Of those that an unfinished year leaves open."""

_DATABASE, *_CLOUDS = get_args(BlockType)
"""The types of Prefect's blocks."""

_YEAR = len("2024")

_PLAIN = re.compile(r"[\w.]+")
"""What no shell takes for something else."""

Offer = str | tuple[str, str]
"""What may stand there, and what it means."""

Row = tuple[Any, ...]
Answer = TypeVar("Answer")

_LOADS = """
SELECT substring(child.relname FROM 6)::integer, nspname, parent.relname
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
JOIN pg_class AS parent ON parent.oid = inhparent
JOIN pg_namespace AS namespace ON namespace.oid = parent.relnamespace
WHERE child.relnamespace = to_regnamespace('taxi_ingest') AND child.relname ~ '^load_[0-9]{1,9}$'
UNION
SELECT substring(description FROM '^taxi-ingest: load ([0-9]{1,9}),')::integer, nspname, relname
FROM pg_description
JOIN pg_class AS class ON class.oid = objoid
JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
WHERE classoid = 'pg_class'::regclass AND objsubid = 0 AND relkind = 'r'
    AND description ~ '^taxi-ingest: load [0-9]{1,9},'
ORDER BY 1 DESC
"""
"""Loads, their tables. Of the catalogue alone: a stranger's view called `loads` would run with our rights."""


def datasets(context: typer.Context, incomplete: str) -> list[Offer]:
    """TLC's datasets that have months."""
    del context
    return [name for name in _trips() if name.startswith(incomplete)]


def months(context: typer.Context, incomplete: str) -> list[Offer]:
    """The months of the dataset that is named, or of all, the latest first."""
    found = [month for month in _months(context) if month.startswith(incomplete)]
    return list(found if len(incomplete) >= _YEAR else found[:_MOST_MONTHS])


def ranges(context: typer.Context, incomplete: str) -> list[Offer]:
    """Years, their months once a year stands there, and ranges of either."""
    begin, dots, end = incomplete.rpartition("..")
    return [f"{begin}{dots}{word}" for word in _bounds(context, end, begin) if word.startswith(end)]


def datasets_and_range(context: typer.Context, incomplete: str) -> list[Offer]:
    """The words of `backfill`: datasets that are not named yet, and once one is, years and months."""
    named = _words(context)
    others: list[Offer] = [name for name in _trips() if name not in named and name.startswith(incomplete)]
    return others + (ranges(context, incomplete) if named else [])


def tables(context: typer.Context, incomplete: str) -> list[Offer]:
    """The tables that were loaded, and those that TLC's datasets usually go to."""
    names = [_name(schema, table) for _, schema, table in _loads(context)]
    names += [dataset.table for dataset in _all_datasets()]
    return [name for name in dict.fromkeys(names) if _PLAIN.fullmatch(name) and name.startswith(incomplete)]


def loads(context: typer.Context, incomplete: str) -> list[Offer]:
    """The numbers of loads whose rows are there, the latest first, with their tables."""
    found = [(str(number), _name(schema, table)) for number, schema, table in _loads(context)]
    return [(number, table) for number, table in found if number.startswith(incomplete)]


def blocks(context: typer.Context, incomplete: str) -> list[Offer]:
    """The blocks of databases that the local Prefect server has, if it runs."""
    del context
    return [name for name in _blocks(_DATABASE) if name.startswith(incomplete)]


def cloud_blocks(context: typer.Context, incomplete: str) -> list[Offer]:
    """Those of buckets and clouds."""
    del context
    return [name for name in _blocks(*_CLOUDS) if name.startswith(incomplete)]


def all_blocks(context: typer.Context, incomplete: str) -> list[Offer]:
    """All of them."""
    del context
    return [name for name in _blocks(_DATABASE, *_CLOUDS) if name.startswith(incomplete)]


def commands(context: typer.Context, incomplete: str) -> list[Offer]:
    """The words of `help`: a command, or one of the group that is named already."""
    group: Any = context.find_root().command
    for word in context.params.get("words") or ():
        group = getattr(group, "commands", {}).get(word)
    below = getattr(group, "commands", {}).items()
    return [
        (name, command.get_short_help_str())
        for name, command in below
        if name.startswith(incomplete) and not command.hidden
    ]


def _bounds(context: typer.Context, word: str, begin: str) -> list[str]:
    """What a range may begin with or, behind its dots, end with."""
    months = [month for month in reversed(_months(context)) if month >= begin[: len(month)]]
    years = list(dict.fromkeys(month[:_YEAR] for month in months))
    if len(word) < _YEAR:
        return years if begin else [*years, "all"]
    # A word that may go on, so that no shell puts a blank behind it.
    goes_on = [] if begin else [f"{whole}.." for whole in (*years, *months) if whole == word]
    return [*years, *months, *goes_on]


def _months(context: typer.Context) -> list[str]:
    """The months of the datasets that are named, or of all, the latest first."""
    trips = _trips()
    chosen = [trips[name] for name in _words(context)] or list(trips.values())
    year, month = map(int, min(dataset.first_month for dataset in chosen).split("-"))
    today = date.today()
    first, last = year * 12 + month - 1, today.year * 12 + today.month - 1
    return [f"{number // 12}-{number % 12 + 1:02}" for number in range(last, first - 1, -1)]


def _words(context: typer.Context) -> list[str]:
    """The datasets on the command line."""
    given = context.params.get("words") or context.params.get("dataset") or ()
    return [name for name in ([given] if isinstance(given, str) else given) if name in _trips()]


def _trips() -> "dict[str, Dataset]":
    return {dataset.name: dataset for dataset in _all_datasets() if dataset.kind == "trips"}


def _all_datasets() -> "Sequence[Dataset]":
    from taxi_ingest.tlc import datasets

    return datasets()


def _name(schema: str, table: str) -> str:
    return table if schema == "public" and "." not in table else f"{schema}.{table}"


def _loads(context: typer.Context) -> list[Row]:
    """The loads that have partitions or tables in the database that the command would use."""
    with suppress(Exception):
        if address := _address(context):
            import psycopg2

            return _soon(lambda: _asked(psycopg2.connect(address)))
    return []


def _address(context: typer.Context) -> str | None:
    """The database, if it can be known without Prefect, and need not be started."""
    if url := context.params.get("database_url"):
        return str(url)
    if context.params.get("block"):
        return None
    from taxi_ingest.settings.environment import Settings

    settings = Settings()
    if settings.database_url:
        return settings.database_url.get_secret_value()
    from taxi_ingest import stack

    status = stack.database_status(settings)
    return status.address if status.running else None


def _asked(connection: "Connection") -> list[Row]:
    with closing(connection):
        connection.set_session(readonly=True, autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = pg_catalog, pg_temp")
            cursor.execute(_LOADS)
            return cursor.fetchall()


def _blocks(*types: str) -> list[str]:
    with suppress(Exception):
        from taxi_ingest.cli.local_api import block_names, local_api
        from taxi_ingest.settings.environment import Settings

        if api := local_api(Settings()):
            with api:
                return _soon(lambda: block_names(api, types))
    return []


_ZSH = """
#compdef %(prog_name)s

%(complete_func)s() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" %(autocomplete_var)s=complete_zsh %(prog_name)s)
}

compdef %(complete_func)s %(prog_name)s
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  %(complete_func)s "$@"
fi
"""
"""What zsh reads at the first TAB of a session, and is to obey at once. Typer's lacks the last three lines:
there the first TAB does nothing."""


def mend_zsh() -> None:
    """Have `--install-completion` write our script for zsh in the place of Typer's."""
    with suppress(ImportError, AttributeError):
        from typer import _completion_shared

        _completion_shared._completion_scripts["zsh"] = _ZSH


def _soon(ask: Callable[[], list[Answer]]) -> list[Answer]:
    """What is answered soon and without an error; else nothing."""
    answers: list[Answer] = []

    def run() -> None:
        with suppress(Exception):
            answers.extend(ask())

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    return list(answers)
