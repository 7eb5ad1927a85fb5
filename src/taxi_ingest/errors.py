"""Every error that taxi-ingest raises on purpose.

    TaxiIngestError         1  (none is raised; the command line ends so for what nobody foresaw)
    ├── UsageError      2  the command line is wrong
    ├── SourceError     3  the source: missing, unreachable, cut short, not what its name says
    ├── DataError       4  the data: an unknown schema, or more rejects than allowed
<<<<<<< HEAD
    ├── DatabaseError   5  where tables are: unreachable, not there, refused, no right, out of disk
=======
    │   └── InconsistentError  table and ledger disagree about whose rows are there
    ├── DatabaseError   5  the database: unreachable, refused, no right, out of disk
>>>>>>> ledger
    │   └── TransientDatabaseError  one that can pass: the same again may succeed
    ├── PrefectError    6  Prefect: its API is unreachable or refuses
    └── BusyError      75  another run does the same, and this one was not to wait for it

Library code raises them; only the command line prints them and exits. Since they repeat names, values and
what servers say, how text from elsewhere may be shown stands here too, and how a near miss is found.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class TaxiIngestError(Exception):
    """One sentence that says what is wrong, and one hint that says what to do about it.

    The number behind each class above is `exit_code`, what the command line exits with.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str) -> None:
        # They name files, values and what servers say; terminals, and Prefect's database, show them.
        super().__init__(printable_lines(message))
        self.hint = printable_lines(hint)

    def __reduce__(self) -> tuple[type["TaxiIngestError"], tuple[str, str]]:
        # Prefect pickles the exceptions of failed tasks; the default would drop the hint.
        return type(self), (str(self), self.hint)


class UsageError(TaxiIngestError):
    """The command line, a parameter or a setting is wrong: exit code 2."""

    exit_code = 2


class SourceError(TaxiIngestError):
    """The source is missing, unreachable, cut short, or not what its name says: exit code 3."""

    exit_code = 3


class DataError(TaxiIngestError):
    """The data has an unknown schema, or more rejects than allowed: exit code 4."""

    exit_code = 4


class InconsistentError(DataError):
    """Table and ledger disagree about whose rows are there, which is told until it is mended: exit code 4."""


class DatabaseError(TaxiIngestError):
    """The database, bucket or dataset of tables is not to be had, refuses, or has no room: exit code 5."""

    exit_code = 5


class TransientDatabaseError(DatabaseError):
    """A lost connection, a server that restarts, a deadlock: nothing was done, or the ledger knows it."""


class PrefectError(TaxiIngestError):
    """Prefect's API is unreachable, or refuses: exit code 6."""

    exit_code = 6


class BusyError(TaxiIngestError):
    """Another run does the same, and was not to be waited for: exit code 75.

    That is EX_TEMPFAIL of sysexits.h, which systemd knows as TEMPFAIL: nothing is wrong.
    """

    exit_code = 75

    def __init__(self, message: str, hint: str = "Without --no-wait it is waited for.") -> None:
        super().__init__(message, hint)


def bug(error: Exception) -> TaxiIngestError:
    """An error that nobody foresaw, as one of ours."""
    what = without_login(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
    return TaxiIngestError(
        f"taxi-ingest has met a bug: {what}",
        "Please report it, with the command line that led to it and the log of the flow run.",
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of these names that was probably meant, if any: for hints."""
    by_key = {_key(name): name for name in known}
    found = get_close_matches(_key(word), by_key, n=1)
    return by_key[found[0]] if found else None


def _key(name: str) -> str:
    return name.strip(" -").lower().replace("_", "-")


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
