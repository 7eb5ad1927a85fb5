"""What is wrong with a command line, and what was probably meant."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taxi_ingest.cli.failures import plainly
from taxi_ingest.errors import UsageError, nearest

_HINTS = {
    "load_id": "`taxi-ingest loads` shows each load's number.",
    "arguments": "What psql is to be given stands behind --: taxi-ingest psql -- -c 'SELECT 1'.",
}
"""Where to find what an argument takes, by its parameter."""

_COMMANDS = {
    "start": "up",
    "stop": "down",
    "list": "loads",
    "load": "ingest",
    "import": "ingest",
    "delete": "rm",
    "remove": "rm",
}
"""What commands are called elsewhere."""

_FLAGS = {
    "backfill": {
        "--dataset": "Datasets stand before the months, without a flag: taxi-ingest backfill yellow 2024-01",
        "--month": "Months stand behind the datasets, without a flag: taxi-ingest backfill yellow 2024-01",
        "--if-loaded": "Did you mean --reprocess all?",
    },
}
"""What is meant by a flag that only other commands have."""

Told = tuple[str, str | None]
"""A sentence, and a hint if there is a better one than where to find help."""


def misread(error: Any, context: Any = None) -> UsageError:
    """The error in our words for one of Typer's, which may not know where it was.

    Typer brings its own copy of click, or uses click itself: of its classes only the names can be relied on.
    """
    message, hint = _TOLD.get(type(error).__name__, _as_it_is)(error)
    return UsageError(message, hint or _help_hint(context or getattr(error, "ctx", None)))


def _help_hint(context: Any) -> str:
    return f"`{context.command_path if context else 'taxi-ingest'} --help` shows what it takes."


def _as_it_is(error: Any) -> Told:
    return error.format_message(), None


def _no_such_option(error: Any) -> Told:
    return f"No such option: {error.option_name}.", _meant_flag(error.ctx, error.option_name)


def _meant_flag(context: Any, flag: str) -> str | None:
    """The flag of this command that looks like it, or where it belongs."""
    command = context.command
    if meant := _FLAGS.get(command.name, {}).get(flag):
        return meant
    below = getattr(command, "commands", {}).values()
    if any(flag in flags_of(each, context) for each in below):
        return f"It stands behind the command: {context.command_path} COMMAND {flag}."
    if near := nearest(flag, flags_of(command, context)):
        return f"Did you mean {near}?"
    return next((_HINTS[each.name] for each in command.params if each.name == "arguments"), None)


def flags_of(command: Any, context: Any) -> list[str]:
    """All flags of a command."""
    options = [each for each in command.get_params(context) if each.param_type_name == "option"]
    return [name for option in options for name in (*option.opts, *option.secondary_opts)]


def _bad_use(error: Any) -> Told:
    if error.message.endswith("does not take a value."):
        return f"{error.option_name} takes no value.", "Leave it out."
    return f"{error.option_name} needs a value.", None


def _missing(error: Any) -> Told:
    example = (error.ctx.command.epilog or "").partition("\n")[0]
    return f"{_name(error.param)} is missing.", f"Write it like this: {example}" if example else None


def _bad_value(error: Any) -> Told:
    """What is wrong with a value, which pydantic knows, and the choice that was meant."""
    problems: list[Any] = getattr(error.__cause__, "errors", list)()
    if not problems:
        return error.format_message(), None
    value = str(problems[0]["input"])
    near = nearest(value, error.param.metavar.split("|"))
    hint = f"Did you mean {near}?" if near else _HINTS.get(error.param.name)
    return f"{_name(error.param)} is wrong: {plainly(problems[0], value).rstrip('.')}.", hint


def _name(parameter: Any) -> str:
    return str(parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar)


_TOLD: Mapping[str, Callable[[Any], Told]] = {
    "NoSuchOption": _no_such_option,
    "BadOptionUsage": _bad_use,
    "BadParameter": _bad_value,
    "MissingParameter": _missing,
}


def no_such_command(context: Any, name: str) -> UsageError:
    """The error for a word that is no command here; it may be another one's."""
    root = context.find_root()
    own, all = list(context.command.commands), _paths(root.command)
    near = meant_command(name, own)
    path = f"{context.command_path} {near}" if near else all.get(nearest(name, all) or "")
    return UsageError(
        f"No such command: {name}.",
        f"Did you mean {path if near else f'{root.command_path} {path}'}?"
        if path
        else f"There are {', '.join(sorted(own))}.",
    )


def meant_command(word: str, commands: Sequence[str]) -> str | None:
    """The one of these commands that is meant by a word that is none."""
    synonym = _COMMANDS.get(word)
    return synonym if synonym in commands else nearest(word, commands)


def _paths(group: Any, above: str = "") -> dict[str, str]:
    """The last word of each command -> all its words."""
    found: dict[str, str] = {}
    for name, command in group.commands.items():
        path = f"{above} {name}".strip()
        found |= _paths(command, path) if hasattr(command, "commands") else {}
        found[name] = path
    return found


def check_words(context: Any, arguments: Sequence[str]) -> None:
    """Raise UsageError for what Typer would take for something else, or not tell plainly.

    A flag given twice, of which the last alone would be heeded; a flag as the value of another one; a long
    flag with one dash; a word too many, which may be the value of a flag.
    """
    command = context.command
    flags = flags_of(command, context)
    for word in _before_dashes(arguments):
        if word.startswith("-") and f"-{word}" in flags:
            raise UsageError(f"No such option: {word}.", f"Did you mean -{word}?")
    values, left, given = _parsed(context, arguments)
    for option in set(given):
        value = values.get(option.name)
        if isinstance(value, str) and value in flags:
            raise UsageError(f"{option.opts[0]} needs a value, and {value} is a flag.", _help_hint(context))
        if given.count(option) > 1 and _is_single(option):
            names = " / ".join((*option.opts, *option.secondary_opts))
            raise UsageError(f"{names} is given twice.", "Give it once.")
    if left and not command.allow_extra_args:
        meant = _meant_value(command, left[0])
        raise UsageError(f"One word too many: {left[0]}.", meant or _help_hint(context))


def _parsed(context: Any, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str], list[Any]]:
    """Values, words that are none, and which flags were given, in their order."""
    try:
        parsed: tuple[dict[str, Any], list[str], list[Any]] = context.command.make_parser(context).parse_args(
            args=list(arguments)
        )
    except Exception as error:
        raise (misread(error, context) if hasattr(error, "format_message") else error) from None
    return parsed


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _is_single(option: Any) -> bool:
    return option.param_type_name == "option" and not option.multiple and not option.count


def _meant_value(command: Any, word: str) -> str | None:
    """The flag whose value it may be."""
    from taxi_ingest.tlc import datasets, near_month

    is_dataset = word in [dataset.name for dataset in datasets()]
    kinds = {
        "dataset": is_dataset,
        "month": near_month(word) is not None,
        "table": word.isidentifier() and not is_dataset,
    }
    names = [option.name for option in command.params if option.param_type_name == "option"]
    flag = next((name for name, fits in kinds.items() if fits and name in names), None)
    return f"Did you mean --{flag} {word}?" if flag else None
