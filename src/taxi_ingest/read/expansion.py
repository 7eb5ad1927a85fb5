"""How far a compressed file may expand: one made to fill the disk (a "bomb") is refused."""

from taxi_ingest.errors import SourceError

_ALWAYS_ALLOWED_BYTES = 256 << 20
_MOST_TIMES = 200
"""TLC's files expand 3 to 10 times, deflate at most 1,032 times (https://zlib.net/zlib_tech.html)."""


def check_expansion(name: str, stored_bytes: int, expanded_bytes: int) -> None:
    """Raise SourceError if `expanded_bytes` is out of all proportion to what is stored."""
    if expanded_bytes > max(_ALWAYS_ALLOWED_BYTES, _MOST_TIMES * stored_bytes):
        raise SourceError(
            f"{name} expands to more than {_MOST_TIMES} times its size, which no real data does.",
            "If you trust it, decompress it yourself and load the result.",
        )
