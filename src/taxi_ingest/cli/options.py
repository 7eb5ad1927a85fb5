"""The flags that commands share: one declaration each, and what of them a command was given."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import IfLoaded, Names

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing on success.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's log lines, too.")]
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
Table = Annotated[
    str | None, typer.Option(metavar="TABLE", help="The table, or SCHEMA.TABLE; made if it is missing.")
]
ChunkSize = Annotated[int, typer.Option(min=1, help="Rows to take at a time.")]
WhenLoaded = Annotated[IfLoaded, typer.Option(help="What to do with a file that the table already has.")]
Spelling = Annotated[
    Names | None,
    typer.Option(
        help="How a new table spells its columns: as TLC does, in snake_case, or as TLC does in lower case."
    ),
]
MaxRejects = Annotated[
    str, typer.Option(metavar="N|P%", help="How many rows may be unfit before nothing at all is loaded.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Load nothing if rows are missing by TLC's known counts.")
]
AllowShort = Annotated[bool, typer.Option("--allow-short", help="Load what there is of a CSV that was cut.")]
KeepBoth = Annotated[
    bool, typer.Option("--keep-both", help="Load a month beside the one that the table has from elsewhere.")
]
Index = Annotated[
    bool, typer.Option("--index/--no-index", help="Whether the load gets an index on the pickup time.")
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        metavar="CHAR", help="What separates a CSV's fields (a character, or tab); found out unless told."
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header", help="Whether a CSV's first row has the names; found out unless told."
    ),
]
Transform = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Your own step: this function gets each chunk as a pandas DataFrame and returns one.",
    ),
]
Cached = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Whether downloads are kept, and used again.")
]
Views = Annotated[
    bool, typer.Option("--views", help="Then make the views on what is loaded, as `taxi-ingest views` does.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen; write nothing to the database.")
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="How many to load at once; as many as the cores bear if not told."),
]
MaxFailures = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Begin no other load after so many failures.")
]
WorkPool = Annotated[
    str | None, typer.Option(metavar="NAME", help="Prefect's work pool whose workers carry it out.")
]


class Command(TyperCommand):
    """A command that takes no flag twice, of which it would heed the last one alone, and no flag for the
    value of another one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as Typer does. Raises UsageError where a flag stands in the place of another one's value."""
        if not ctx.resilient_parsing:
            values, _, given = self.make_parser(ctx).parse_args(args=list(args))
            flags = {name for option in self.params for name in (*option.opts, *option.secondary_opts)}
            for option in set(given):
                value = values.get(option.name)
                if isinstance(value, str) and value in flags:
                    raise UsageError(
                        f"{option.opts[0]} needs a value, and {value} is a flag.",
                        f"Give it one. `{ctx.command_path} --help` shows what it takes.",
                    )
                if given.count(option) > 1 and not option.multiple and option.param_type_name == "option":
                    names = " / ".join((*option.opts, *option.secondary_opts))
                    raise UsageError(f"{names} is given twice.", "Give it once.")
        return super().parse_args(ctx, args)


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
    if isinstance(value, bool):
        return [(option.opts if value else option.secondary_opts)[0]]
    return [option.opts[0], str(value)]
