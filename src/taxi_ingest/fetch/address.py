"""Addresses of sources: paths and URLs, and the logins that must not travel with them."""

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from taxi_ingest.errors import SourceError, UsageError


def canonical_url(source: str) -> str:
    """The address under which the ledger knows a source: a path becomes an absolute file:// URL.

    Raises UsageError for other schemes than http, https and file.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source):
        return Path(source).expanduser().absolute().as_uri()
    parts = _split(source)
    if parts.scheme.lower() not in ("http", "https", "file"):
        raise UsageError(
            f"A source can't be {parts.scheme}://.", "Give --url a path or an http, https or file URL."
        )
    return without_login(urlunsplit(parts._replace(fragment="")))


def without_login(source: str) -> str:
    """A source as it may be shown: a URL's user and password left out."""
    if "://" not in source:
        return source
    parts = _split(source)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login_of(source: str) -> str | None:
    """The `user:password` in a URL, which must not travel with it."""
    return unquote(_split(source).netloc.rpartition("@")[0]) or None if "://" in source else None


def file_name(url: str) -> str:
    """The last part of a URL's path."""
    return unquote(Path(urlsplit(url).path).name) or "download"


def local_path(url: str) -> Path | None:
    """The path behind a file:// URL; None for one of http. Raises SourceError for another machine's."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{url} is on another machine ({parts.netloc}).", "Write file:///path, or use http."
        )
    return Path(url2pathname(parts.path))


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise UsageError(f"The URL can't be read: {error}.", "Check --url.") from None
