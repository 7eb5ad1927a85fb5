"""A URL or a path -> a local file, whole, with its sha256.

`parse_source` makes a Source of it, which can say "unchanged" and fetch itself. Downloads go through a
cache: what was cut is resumed, what has not changed is not downloaded again. Another kind of source is one
new module with a subclass of Source, and one row in the table below.
"""

from collections.abc import Callable, Mapping

from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.sources.address import HINT, NO_LOGINS, Logins, logins_of, scheme_of, with_login_in
from taxi_ingest.sources.buckets import is_bucket_url
from taxi_ingest.sources.cache import (
    Cache,
    Validators,
    chosen_cache,
    kept_bytes,
    remove_cache,
    run_folder,
)
from taxi_ingest.sources.http import parse_http
from taxi_ingest.sources.local import LocalFile, files_at, parse_file_url, parse_path
from taxi_ingest.sources.objects import objects_at, parse_object
from taxi_ingest.sources.source import DownloadProgress, Found, Source, SourceFile

__all__ = [
    "Cache",
    "DownloadProgress",
    "Found",
    "Logins",
    "Source",
    "SourceFile",
    "Validators",
    "chosen_cache",
    "files_of",
    "kept_bytes",
    "local_file",
    "logins_of",
    "parse_source",
    "remove_cache",
    "run_folder",
    "with_login_in",
]

_KINDS: Mapping[str, Callable[[str, Logins], Source]] = {
    "file": parse_file_url,
    "http": parse_http,
    "https": parse_http,
    **dict.fromkeys(("gs", "s3", "az"), parse_object),
}
"""What parses an address, by its scheme; all others are paths."""


def parse_source(text: str, logins: Logins = NO_LOGINS) -> Source:
    """The source that an address, a path or `-` (standard input) names, however it is spelled.

    One that needs a login gets its own of `logins`, unless one stands in its address. Raises UsageError for
    other schemes and for what can't be read, and never repeats a login; SourceError for another machine's
    file.
    """
    if "\0" in text:
        raise UsageError("An address can't hold a NUL character.", HINT)
    parse = _KINDS.get(scheme_of(text.strip()))
    if parse is parse_object and not is_bucket_url(text):
        # A file may be called s3:x.csv.
        return parse_path(text)
    return parse(text.strip(), logins) if parse else parse_path(text)


def files_of(text: str, logins: Logins = NO_LOGINS) -> list[str]:
    """The files that a path, a folder or a pattern (`data/*.parquet`) names, also in a bucket.

    Any other address is its own. Raises SourceError for a folder that has none, UsageError for a pattern that
    matches none.
    """
    if is_bucket_url(text):
        return objects_at(text.strip(), logins)
    return [text] if scheme_of(text.strip()) in _KINDS else files_at(text)


def local_file(path: str) -> SourceFile:
    """A file of this machine, by its path or file:// URL. Raises SourceError where it can't be read."""
    source = parse_source(path)
    if not isinstance(source, LocalFile):
        raise SourceError(f"{source.url} is no file of this machine.", "Name a file.")
    return source.look()
