"""A stream's rows parsed in threads, a few pieces ahead of whoever takes them.

One thread cuts the pieces off, several parse them: Arrow lets go of the GIL, so that all of it overlaps. At
most `_AHEAD` pieces are under way, whatever the file's size.
"""

import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from taxi_ingest.read import Piece
from taxi_ingest.transform.stream import CanonicalBatch, Stream

Result = TypeVar("Result")

_WORKERS = min(4, os.cpu_count() or 1)
_AHEAD = _WORKERS + 1


def worked_ahead(stream: Stream, work: Callable[[CanonicalBatch], Result]) -> Generator[Result, None, None]:
    """What `work`, called in the threads, makes of each batch, in the order of the file.

    Raises what reading and `work` raise. To be closed by who does not take all of it.
    """
    convert, pieces = stream.converter(), stream.pieces()

    def done(piece: Piece) -> Result:
        return work(convert(piece))

    under_way: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(_WORKERS + 1, thread_name_prefix="load") as pool:
        following = pool.submit(next, pieces, None)
        try:
            while (piece := following.result()) is not None:
                following = pool.submit(next, pieces, None)
                under_way.append(pool.submit(done, piece))
                if len(under_way) >= _AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
