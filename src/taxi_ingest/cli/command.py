"""A command, and a group of commands, as they are here: their help, their errors, what TAB offers."""

import textwrap
from typing import Any

from typer.core import TyperCommand, TyperGroup

from taxi_ingest.cli import help
from taxi_ingest.cli.usage import check_words, no_such_command

_SHORT = 70
"""Shells show what TAB offers on one line each."""


class _Told:
    """What commands and groups have in common."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page of this command."""
        formatter.write(help.as_text(help.page(self, ctx), formatter.width))

    def get_short_help_str(self, limit: int = 45) -> str:
        """The purpose, where it is listed: it is one line, and never cut."""
        del limit
        return getattr(self, "help", "").partition("\n")[0]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind the command. Raises UsageError for what would be misread."""
        if not ctx.resilient_parsing:
            check_words(ctx, args)
        return super().parse_args(ctx, args)  # type: ignore[misc, no-any-return]

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What TAB offers, with meanings that fit a line."""
        offered: list[Any] = super().shell_complete(ctx, incomplete)  # type: ignore[misc]
        for item in offered:
            item.help = _shortened(item.help or "")
        return offered


def _shortened(text: str) -> str:
    """Its first sentence, on one line; what looks like a quote is none for zsh."""
    sentence = text.partition(". ")[0].rstrip(".").replace("'", "’")
    return textwrap.shorten(sentence, _SHORT, placeholder=" …")


class Command(_Told, TyperCommand):
    """A command."""


class Group(_Told, TyperGroup):
    """A group of commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named. Raises UsageError, with the one that was meant."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise no_such_command(ctx, args[0])
        return super().resolve_command(ctx, args)
