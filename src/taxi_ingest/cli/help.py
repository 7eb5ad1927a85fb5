"""How help reads: a command's purpose, its usage, its flags in groups, examples.

Typer's own layout gives names and types four columns, which leaves 22 characters of 80 for what a flag does.
Here a page is data first, so that a terminal and docs/commands.md show the same.
"""

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

SOURCE, TARGET, BEHAVIOUR, OUTPUT = "Source", "Target", "Behaviour", "Output"
"""The groups of flags: what is loaded or looked at, the table and database, how, and what is printed."""

LOAD, LOOK, UNDO, STACK, HELP = "Load", "Look", "Undo", "Stack", "Help"
"""The groups of commands."""

_COMMAND_GROUPS = (LOAD, LOOK, UNDO, STACK, HELP, "Commands")
_FLAG_GROUPS = (SOURCE, TARGET, BEHAVIOUR, OUTPUT, "Options")
"""The last of each: where there is nothing to group."""

_INDENT = _GAP = "  "
_WIDEST_TERM = 22
"""A flag that is longer has a line of its own, above its meaning."""


@dataclass(frozen=True)
class Entry:
    """A flag, an argument or a command, and what it does."""

    term: str
    meaning: str


@dataclass(frozen=True)
class Page:
    """A command's help."""

    command: str
    """As it is typed: `taxi-ingest blocks create`."""
    purpose: str
    more: Sequence[str]
    """Paragraphs, if one line does not say it all."""
    usage: str
    groups: Mapping[str, Sequence[Entry]]
    examples: Sequence[str]


def page(command: Any, context: Any) -> Page:
    """The help of a command or group of commands."""
    purpose, *more = (" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n"))
    entries = [*_commands(command, context), *_parameters(command, context)]
    names = sorted({name for name, _ in entries}, key=(*_COMMAND_GROUPS, *_FLAG_GROUPS).index)
    groups = {name: [entry for group, entry in entries if group == name] for name in names}
    return Page(
        context.command_path,
        purpose,
        more,
        " ".join((context.command_path, *_usage(command, context))),
        groups,
        (command.epilog or "").splitlines(),
    )


def all_pages(app: typer.Typer, program: str) -> list[Page]:
    """The help of a program, and of all its commands."""
    command: Any = typer.main.get_command(app)
    return list(_pages(command, typer.Context(command, info_name=program, **command.context_settings)))


def _pages(command: Any, context: Any) -> Iterator[Page]:
    yield page(command, context)
    for name, below in _visible(command):
        yield from _pages(below, typer.Context(below, info_name=name, parent=context))


def as_text(page: Page, width: int) -> str:
    """A page as a terminal shows it."""
    parts = [
        "\n\n".join(textwrap.fill(text, width, **_WHOLE_WORDS) for text in (page.purpose, *page.more)),
        f"{_heading('Usage:')} {page.usage}",
        *("\n".join((_heading(name), *_listed(page, name, width))) for name in page.groups),
    ]
    if page.examples:
        parts.append("\n".join((_heading("Examples"), *(f"{_INDENT}{line}" for line in page.examples))))
    return "\n\n".join(parts)


_WHOLE_WORDS: dict[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
"""Flags, variables and addresses stay in one piece."""


def _heading(text: str) -> str:
    return typer.style(text, bold=True, fg="green")


def _listed(page: Page, group: str, width: int) -> Iterator[str]:
    """The lines of a group; meanings stand below each other in all groups of flags, or of commands."""
    alike = _COMMAND_GROUPS if group in _COMMAND_GROUPS else _FLAG_GROUPS
    terms = [entry.term for name in alike for entry in page.groups.get(name, ())]
    column = max((len(term) for term in terms if len(term) <= _WIDEST_TERM), default=0)
    margin = " " * len(f"{_INDENT}{'':{column}}{_GAP}")
    for entry in page.groups[group]:
        lines = textwrap.wrap(entry.meaning, width - len(margin), **_WHOLE_WORDS)
        first = lines.pop(0) if lines and len(entry.term) <= column else ""
        term = typer.style(entry.term, fg="cyan", bold=True)
        yield f"{_INDENT}{term}{'':{max(column - len(entry.term), 0)}}{_GAP}{first}".rstrip()
        yield from (f"{margin}{line}" for line in lines)


def _visible(command: Any) -> list[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    return [(name, each) for name, each in below.items() if not each.hidden]


def _commands(command: Any, context: Any) -> Iterator[tuple[str, Entry]]:
    for name, below in _visible(command):
        purpose = page(below, typer.Context(below, info_name=name, parent=context)).purpose
        yield below.rich_help_panel or _COMMAND_GROUPS[-1], Entry(name, purpose)


def _parameters(command: Any, context: Any) -> Iterator[tuple[str, Entry]]:
    usual = _FLAG_GROUPS[-1] if hasattr(command, "commands") else OUTPUT
    for parameter in command.get_params(context):
        if not parameter.hidden:
            yield (
                parameter.rich_help_panel or usual,
                Entry(_term(parameter), f"{parameter.help or ''}{_default(parameter)}"),
            )


def _term(parameter: Any) -> str:
    """`-q, --quiet`, `--index / --no-index`, `--table TABLE`, `LOAD_ID`."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.is_flag or parameter.count:
        return " / ".join((names, *parameter.secondary_opts))
    return f"{names} {parameter.metavar}"


def _default(parameter: Any) -> str:
    """What holds if a flag is not given, where that is a value of its own."""
    value = parameter.default
    if value is None or not parameter.show_default:
        return ""
    if isinstance(value, bool):
        names = parameter.opts if value else parameter.secondary_opts
        return f" [default: {names[0]}]" if names and parameter.secondary_opts else ""
    return f" [default: {value}]"


def _usage(command: Any, context: Any) -> Iterator[str]:
    """What stands behind the command's name."""
    yield "[OPTIONS]"
    for parameter in command.get_params(context):
        if parameter.param_type_name == "argument" and not parameter.hidden:
            several = "..." if parameter.nargs == -1 and "..." not in parameter.metavar else ""
            yield f"{parameter.metavar}{several}" if parameter.required else f"[{parameter.metavar}]{several}"
    if hasattr(command, "commands"):
        yield "COMMAND"
