"""README and docs/ as data: their blocks, the commands in them with what they show, links and anchors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from helpers import ROOT

RUN = ("console", "sh", "bash", "python", "sql")
"""Languages of blocks that are run."""
SHOWN = ("text", "ini", "yaml", "json", "crontab")
"""Those of blocks that are only to be read."""
REMARK = re.compile(
    r"<!-- (?:(?P<no>not run)|run with (?P<flag>--dry-run)|exit code (?P<code>\d+)): (?P<why>\S.+) -->"
)
"""Before a block: that it is not run, or how, and why."""


@dataclass(frozen=True)
class Command:
    """A command behind a prompt, and the lines that the block shows below it."""

    text: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int
    remark: str
    """The comment before it; empty if there is none."""

    @property
    def how(self) -> dict[str, str | None]:
        """What the remark says: `no`, `flag`, `code`, `why`."""
        found = REMARK.fullmatch(self.remark)
        return found.groupdict() if found else {}

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.how.get("no")

    @property
    def exit_code(self) -> int:
        return int(self.how.get("code") or 0)

    @property
    def commands(self) -> Iterator[Command]:
        """Of a console block what stands behind each prompt; of a script all of it."""
        if self.language != "console":
            yield Command(self.text, ())
            return
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, shown = re.sub(r"\\\n", "", part).partition("\n")
            yield Command(re.sub(r"\s+#\s.*", "", command), tuple(shown.splitlines()))


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def tokens(self) -> list[Token]:
        return _tokens(self.path)

    @property
    def blocks(self) -> list[Block]:
        found = []
        before = [None, *self.tokens]
        for previous, token in zip(before, self.tokens, strict=False):
            if token.type == "fence":
                remark = previous.content.strip() if previous and previous.type == "html_block" else ""
                assert token.map
                found.append(Block(token.info.strip(), token.content, token.map[0] + 1, remark))
        return found

    @property
    def links(self) -> list[str]:
        """Where its links and pictures lead."""
        return [
            str(child.attrs.get("href") or child.attrs.get("src"))
            for child in self._inline()
            if child.type in ("link_open", "image")
        ]

    @property
    def code_spans(self) -> list[str]:
        return [child.content for child in self._inline() if child.type == "code_inline"]

    @property
    def anchors(self) -> set[str]:
        """What can be linked to: its headings, as GitHub spells them."""
        pairs = zip(self.tokens, self.tokens[1:], strict=False)
        return {anchor(inside.content) for heading, inside in pairs if heading.type == "heading_open"}

    def _inline(self) -> Iterator[Token]:
        for token in self.tokens:
            yield from token.children or ()


def anchor(heading: str) -> str:
    """`What happens when…` -> `what-happens-when`."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def _tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text())


PAGES = [Page(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
