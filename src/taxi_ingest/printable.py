"""Text from elsewhere (names, values, messages of servers) as it may be shown."""

import re

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0, DEL and C1 (what a terminal obeys), marks that turn the direction of writing, line separators,
and the halves of characters that stand for bytes which are not UTF-8."""

_LOGIN = re.compile(r"(?<=://)(?!user:password@)(?:[^\s/?#]*@|[^\s@]*:[^\s@]*@)+")
"""All but the one in our own hints."""


def printable(text: str) -> str:
    """A text as it may be shown in one line: what a terminal would obey is an escape like `\\x1b`."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def without_login(text: str) -> str:
    """A text with the user and password left out of every URL in it; also of one that can't be read."""
    return _LOGIN.sub("", text)
