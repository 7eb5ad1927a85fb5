"""Standard output and error as any environment leaves them: closed, full, a broken pipe, not UTF-8.

Whether results can be shown decides nothing about what is done: a load that has been committed is
done, also where stdout is full. So what can't be written is kept, to be told at the end.
"""

import io
import os
import select
import sys
from typing import TextIO

_KEPT_BYTES = 100_000


class Stream(io.FileIO):
    """File descriptor 1 or 2; a failure to write is kept, not raised."""

    failure: OSError | None = None
    unwritten: bytes = b""

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        try:
            while (written := super().write(data)) is None:
                # Someone has made the terminal that we share not to block.
                select.select([], [self], [])
            return written
        except OSError as error:
            self.failure = self.failure or error
            self.unwritten = (self.unwritten + bytes(data))[:_KEPT_BYTES]
            return len(data)


def guard() -> Stream:
    """Put such streams in the place of `sys.stdout` and `sys.stderr`; return the one of stdout."""
    closed = _fill_up()
    output, errors = Stream(1, "w", closefd=False), Stream(2, "w", closefd=False)
    if 1 in closed:
        output.failure = OSError(None, "it is closed")
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(errors, sys.stderr)
    return output


def _fill_up() -> set[int]:
    """Open what is closed of 0, 1 and 2, else the next file or connection would get its number."""
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            closed.add(number)
    return closed


def _text(stream: Stream, before: TextIO | None) -> TextIO:
    """A text stream that shows what its encoding lacks as escapes."""
    encoding = before.encoding if before else "utf-8"
    # Lines at once, so that stdout and stderr keep their order.
    buffer = io.BufferedWriter(stream)  # type: ignore[type-var]
    return io.TextIOWrapper(buffer, encoding, errors="backslashreplace", line_buffering=True)
