"""What a known count of rows says about a file."""

from typing import Literal

Verdict = Literal["match", "revised", "short", "unknown"]


def judge(read: int, known: int | None, changed: bool) -> Verdict:
    """Compare the rows read with the rows that the file is known to have.

    `changed`: whether the same address had other content before. `match`: all known rows, no more.
    `revised`: whole, but republished by TLC since the count was taken: more rows, or as many in other
    content. `short`: rows are missing. `unknown`: no count is known.
    """
    if known is None:
        return "unknown"
    if read < known:
        return "short"
    return "revised" if read > known or changed else "match"
