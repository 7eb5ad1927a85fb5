"""A URL or a path -> a local file, whole, with its sha256.

Downloads go through a cache: what was cut is resumed, what has not changed is not downloaded again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from taxi_ingest import tlc
from taxi_ingest.errors import SourceError, without_login
from taxi_ingest.sources.address import canonical_url, file_name, is_pipe, local_path, login_of, named_url
from taxi_ingest.sources.cache import Cache, DiskFull, linked, run_folder, storing
from taxi_ingest.sources.download import Downloader
from taxi_ingest.sources.http import Login, request
from taxi_ingest.sources.pipe import check_stdin, spooled
from taxi_ingest.sources.source import Download, SourceFile, Validators, look_at

__all__ = [
    "Cache",
    "Download",
    "SourceFile",
    "Validators",
    "canonical_url",
    "check_stdin",
    "fetch",
    "first_that_exists",
    "is_unchanged",
    "local_file",
    "login_of",
    "named_url",
    "run_folder",
    "without_login",
]

DEFAULT_TRIES = 5
_NOT_THERE = (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND, httpx.codes.GONE)


def fetch(
    source: str,
    folder: Path,
    cache: Cache,
    *,
    login: Login | None = None,
    known: Validators | None = None,
    tries: int = DEFAULT_TRIES,
    on_progress: Callable[[Download], None] = lambda _: None,
) -> SourceFile | None:
    """The file at a path or URL; one of http is downloaded into `cache` and linked into `folder`.

    So is what comes from standard input (`-`) or another pipe, which can be read only once. With the
    validators `known` from an earlier download the answer may be None: the file is the same still.
    A download that fails is tried again, `tries` times in a row without getting any further.
    On a full disk the other downloads that the cache keeps make room. `login` is for this URL's host.
    Raises SourceError where the file can't be had whole.
    """
    url = canonical_url(source)
    if is_pipe(source):
        return spooled(source, folder, cache)
    if not url.startswith("http"):
        return local_file(source)

    def downloaded() -> SourceFile | None:
        with cache.entry(url) as entry:
            found = Downloader(url, entry, login, known or Validators(), on_progress).run(tries)
            with storing(folder):
                return found and replace(found, path=linked(found.path, folder))

    try:
        file = downloaded()
    except DiskFull:
        if not cache.make_room(keep=url):
            raise
        file = downloaded()
    cache.trim()
    return file


def local_file(source: str) -> SourceFile:
    """A file of this machine, by its path or file:// URL. Raises SourceError where it can't be read."""
    url = canonical_url(source)
    path = local_path(url)
    if path is None:
        raise SourceError("What came from a pipe can't be read again.", "Pipe it into --url - once more.")
    # Of a link's name and that of the file behind it, the one that tells the month.
    names = [file_name(named_url(source)), file_name(url)]
    return look_at(path, url, next((name for name in names if tlc.parse_file_name(name).month), names[0]))


def first_that_exists(sources: Sequence[str], login: Login | None) -> str:
    """The first path or URL under which a file lies; the very first one if none is found."""
    return next((source for source in sources if _exists(canonical_url(source), login)), sources[0])


def _exists(url: str, login: Login | None) -> bool:
    if path := local_path(url):
        return path.exists()
    try:
        # Not every server knows HEAD; the body of this answer is not waited for.
        with request(url, login, {}) as response:
            return response.status_code not in _NOT_THERE
    except SourceError:
        # Fetching it meets the same difficulty, tries again, and says what it is.
        return True


def is_unchanged(url: str, known: Validators, login: Login | None) -> bool:
    """Whether an http server says that the file is still this version; one round trip."""
    with request(canonical_url(url), login, known.unless_same()) as response:
        return response.status_code == httpx.codes.NOT_MODIFIED
