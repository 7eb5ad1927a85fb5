"""The flags that commands share: one declaration each, and what of them a command was given."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args

import typer

from taxi_ingest.cli import completion
from taxi_ingest.cli.help import BEHAVIOUR, OUTPUT, SOURCE, TARGET
from taxi_ingest.settings.job import IfLoaded, Names


def choices(kind: Any) -> str:
    """How the values of a flag are written that takes one of a few: `skip|replace|fail`."""
    return "|".join(map(str, get_args(kind) or kind))


def table(help: str, group: str = SOURCE) -> Any:
    """A flag that names a table."""
    return typer.Option(metavar="TABLE", rich_help_panel=group, autocompletion=completion.tables, help=help)


def block(help: str) -> Any:
    """A flag that names a block of Prefect's."""
    return typer.Option(metavar="NAME", rich_help_panel=TARGET, autocompletion=completion.blocks, help=help)


def dataset(help: str) -> Any:
    """A flag that names a dataset of TLC's."""
    return typer.Option(metavar="NAME", rich_help_panel=SOURCE, autocompletion=completion.datasets, help=help)


def month(help: str) -> Any:
    """A flag that names a month."""
    return typer.Option(
        metavar="YYYY-MM", rich_help_panel=SOURCE, autocompletion=completion.months, help=help
    )


def number(help: str, group: str = BEHAVIOUR) -> Any:
    """A flag that says how many, one at least."""
    return typer.Option(min=1, metavar="N", rich_help_panel=group, help=help)


def work_pool(help: str) -> Any:
    """A flag that names a work pool of Prefect's."""
    return typer.Option(metavar="NAME", rich_help_panel=BEHAVIOUR, help=help)


# Where to


Table = Annotated[
    str | None,
    table("The table, or SCHEMA.TABLE; made if it is missing.", TARGET),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="URL",
        rich_help_panel=TARGET,
        help="Where the table is: postgresql://user@host/database; bigquery://project/dataset; or a lake of "
        "Parquet files in a folder (./lake) or a bucket, as gs://bucket/prefix, s3://bucket/prefix or "
        "az://container/prefix.",
    ),
]
Block = Annotated[str | None, block("Use the database of this Prefect block.")]
PlaceBlock = Annotated[
    str | None,
    block("Use the database or bucket of this Prefect block; with --to bigquery://… its credentials."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        rich_help_panel=TARGET,
        help="Postgres to use, as postgresql://user@host/database. Keep passwords out of it: name a block "
        "or set TAXI_INGEST_DATABASE_URL, PGPASSWORD or ~/.pgpass.",
    ),
]
Spelling = Annotated[
    Names | None,
    typer.Option(
        metavar=choices(Names),
        rich_help_panel=TARGET,
        help="How a new table spells its columns: as TLC does, in snake_case, or as TLC does in lower case; "
        "tlc unless told.",
    ),
]
Index = Annotated[
    bool,
    typer.Option(
        "--index/--no-index",
        rich_help_panel=TARGET,
        help="Whether the load gets an index on the pickup time.",
    ),
]


# What to load


Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR",
        rich_help_panel=SOURCE,
        help="What separates a CSV's fields (a character, or tab); found out unless told.",
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        rich_help_panel=SOURCE,
        help="Whether a CSV's first row has the names; found out unless told.",
    ),
]
Transform = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        rich_help_panel=SOURCE,
        help="Your own step: this function gets each chunk as a pandas DataFrame and returns one.",
    ),
]
SourceBlock = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=SOURCE,
        autocompletion=completion.cloud_blocks,
        help="Read files in buckets with the credentials of this Prefect block; with the usual ones unless "
        "told.",
    ),
]
Cached = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        rich_help_panel=SOURCE,
        help="Whether downloads are kept, and used again.",
    ),
]


# How


WhenLoaded = Annotated[
    IfLoaded,
    typer.Option(
        metavar=choices(IfLoaded),
        rich_help_panel=BEHAVIOUR,
        help="What to do with a file that the table already has.",
    ),
]
MaxRejects = Annotated[
    str,
    typer.Option(
        metavar="N|P%",
        rich_help_panel=BEHAVIOUR,
        help="How many rows may be unfit before nothing at all is loaded.",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", rich_help_panel=BEHAVIOUR, help="Load nothing if rows are missing by TLC's known counts."
    ),
]
AllowShort = Annotated[
    bool,
    typer.Option(
        "--allow-short", rich_help_panel=BEHAVIOUR, help="Load what there is of a CSV that was cut."
    ),
]
KeepBoth = Annotated[
    bool,
    typer.Option(
        "--keep-both",
        rich_help_panel=BEHAVIOUR,
        help="Load a month beside the one that the table has from elsewhere.",
    ),
]
ChunkSize = Annotated[
    int,
    number("Rows to take at a time."),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait",
        rich_help_panel=BEHAVIOUR,
        help="Whether to wait for another run that does the same, or to exit with 75 at once.",
    ),
]
Jobs = Annotated[
    int | None,
    number("How many to load at once; as many as the cores bear unless told."),
]
Connections = Annotated[
    int | None,
    number("Over how many connections one file is copied; as many as pay for its size unless told."),
]
MaxFailures = Annotated[
    int | None,
    number("Begin no other load after so many failures."),
]
WorkPool = Annotated[
    str | None,
    work_pool("Prefect's work pool whose workers carry it out."),
]
Views = Annotated[
    bool,
    typer.Option(
        "--views",
        rich_help_panel=BEHAVIOUR,
        help="Then make the views on what is loaded, as `taxi-ingest views` does.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=BEHAVIOUR,
        help="Say what would happen; write nothing to the database.",
    ),
]


# What is printed


Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=OUTPUT, help="Print one JSON object and nothing else to stdout."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="Print nothing on success.")
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        metavar="",
        show_default=False,
        rich_help_panel=OUTPUT,
        help="Show Prefect's log lines, too; with -vv also those that help to find a bug.",
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(
        metavar="text|json",
        rich_help_panel=OUTPUT,
        help="How lines on stderr are written: as text, or each as an object of JSON.",
    ),
]


def same_again(
    context: typer.Context, words: Collection[str], changes: Mapping[str, str | None]
) -> list[str]:
    """The command that was given, with other words behind it and other options; None leaves one out.

    Nothing in it is secret but what `changes` puts there.
    """
    given = [
        part
        for option in context.command.params
        if _is_given(context, option) and option.name not in changes
        for part in _spelled(option, context.params[option.name])
    ]
    changed = [
        part
        for option in context.command.params
        if (value := changes.get(option.name)) is not None
        for part in (option.opts[0], value)
    ]
    return [*context.command_path.split(), *words, *given, *changed]


def _is_given(context: typer.Context, option: Any) -> bool:
    source = context.get_parameter_source(option.name)
    return option.param_type_name == "option" and source is not None and source.name == "COMMANDLINE"


def _spelled(option: Any, value: Any) -> list[str]:
    if getattr(option, "count", False):
        return [option.opts[0]] * value
    if isinstance(value, bool):
        return [(option.opts if value else option.secondary_opts)[0]]
    return [option.opts[0], str(value)]
