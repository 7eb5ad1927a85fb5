"""A URL or a path -> a local file, whole, with its sha256."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

import httpx
import psutil

from taxi_ingest.errors import SourceError, UsageError

_BLOCK_BYTES = 1 << 20
_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60
_MOST_REDIRECTS = 10

_STATUS_HINTS = {
    401: "Give TAXI_INGEST_SOURCE_LOGIN=user:password.",
    403: "TLC's site answers 403 to months that are not published yet, and when it is asked too often.",
    404: "Check the address; TLC publishes a month about two months later.",
}


@dataclass(frozen=True)
class SourceFile:
    """A file to load, on this machine."""

    url: str
    """Where it came from, without credentials: what the ledger knows it by."""
    name: str
    """Its name there."""
    path: Path
    """Where it lies now."""
    bytes: int
    sha256: str
    modified_ns: int
    """When its content was last changed, as its file system says; to notice a change meanwhile."""
    etag: str | None = None
    last_modified: str | None = None

    def check_unchanged(self) -> None:
        """Raise SourceError if the file is not the one that was looked at first."""
        now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.bytes, self.modified_ns):
            raise SourceError(
                f"{self.name} was changed while it was loaded; nothing was loaded.",
                "Wait until it is complete, and run the same command again.",
            )


@dataclass(frozen=True)
class Download:
    """How far a download has come; `total` is None where the server does not say."""

    bytes: int
    total: int | None


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


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise UsageError(f"The URL can't be read: {error}.", "Check --url.") from None


def fetch(
    source: str,
    folder: Path,
    *,
    login: tuple[str, str] | None = None,
    etag: str | None = None,
    on_progress: Callable[[Download], None] = lambda _: None,
) -> SourceFile | None:
    """The file at a path or URL; what must be downloaded is put into `folder`.

    With the `etag` of an earlier download the answer may be None: the file has not changed since.
    Raises SourceError where it can't be had whole.
    """
    url = canonical_url(source)
    if urlsplit(url).scheme == "file":
        return local_file(url)
    return _download(url, login, etag, folder, on_progress)


@contextmanager
def download_folder(home: Path) -> Iterator[Path]:
    """A folder for downloads, removed at the end with what is in it.

    So are the folders of runs that were killed; each bears its process's number.
    """
    parent = home / "downloads"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        if not psutil.pid_exists(int(left.name.partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{os.getpid()}-", dir=parent, ignore_cleanup_errors=True
    ) as place:
        yield Path(place)


def local_file(source: str) -> SourceFile:
    """A file of this machine, by its path or file:// URL. Raises SourceError where it can't be read."""
    url = canonical_url(source)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{url} is on another machine ({parts.netloc}).", "Write file:///path, or use http."
        )
    path = Path(url2pathname(parts.path))
    try:
        with path.open("rb") as file:
            modified_ns = path.stat().st_mtime_ns
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError:
        raise SourceError(f"{path} is a folder.", "Name a file in it.") from None
    except FileNotFoundError:
        raise SourceError(f"There is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.", "Check its permissions.") from error
    return SourceFile(url, path.name, path, path.stat().st_size, digest, modified_ns)


def first_that_exists(sources: Sequence[str], login: tuple[str, str] | None) -> str:
    """The first path or URL under which a file lies; the very first one if none is found."""
    return next((source for source in sources if _exists(canonical_url(source), login)), sources[0])


def _exists(url: str, login: tuple[str, str] | None) -> bool:
    if urlsplit(url).scheme == "file":
        return Path(url2pathname(urlsplit(url).path)).exists()
    try:
        # Not every server knows HEAD; the body of this answer is not waited for.
        with _response(url, login, None) as response:
            return response.is_success
    except SourceError:
        return False


def is_unchanged(url: str, etag: str, login: tuple[str, str] | None) -> bool:
    """Whether an http server says that the file is still the one with this ETag; one round trip."""
    with _response(canonical_url(url), login, etag) as response:
        return response.status_code == httpx.codes.NOT_MODIFIED


def _download(
    url: str,
    login: tuple[str, str] | None,
    etag: str | None,
    folder: Path,
    on_progress: Callable[[Download], None],
) -> SourceFile | None:
    name = unquote(Path(urlsplit(url).path).name) or "download"
    path = folder / "content"
    with _response(url, login, etag) as response:
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None
        _check_status(url, response)
        digest, size = _save(response, path, on_progress)
        validators = response.headers
    return SourceFile(
        url=url,
        name=name,
        path=path,
        bytes=size,
        sha256=digest,
        modified_ns=path.stat().st_mtime_ns,
        etag=validators.get("ETag"),
        last_modified=validators.get("Last-Modified"),
    )


@contextmanager
def _response(url: str, login: tuple[str, str] | None, etag: str | None) -> Iterator[httpx.Response]:
    # The file's own bytes are wanted: no compression on the way that would hide its length.
    headers = {"Accept-Encoding": "identity"} | ({"If-None-Match": etag} if etag else {})
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
    try:
        with (
            httpx.Client(follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=timeout) as client,
            client.stream("GET", url, headers=headers, auth=login) as response,
        ):
            yield response
    except httpx.UnsupportedProtocol as error:
        raise SourceError(f"{url} redirects to an address that is not http.", "Check the address.") from error
    except httpx.ConnectError as error:
        raise SourceError(
            f"{urlsplit(url).hostname} can't be reached: {error}.", "Check the address and your network."
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(
            f"The download of {url} broke off: {error or type(error).__name__}.",
            "Run the same command again.",
        ) from error


def _check_status(url: str, response: httpx.Response) -> None:
    if response.is_success:
        return
    hint = _STATUS_HINTS.get(response.status_code, "Try again later.")
    raise SourceError(
        f"{url} answers {response.status_code} {response.reason_phrase}.".replace(" .", "."), hint
    )


def _save(response: httpx.Response, path: Path, on_progress: Callable[[Download], None]) -> tuple[str, int]:
    """Write the body to `path`; return its sha256 and its length, which is checked."""
    total = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("wb") as file:
            for block in response.iter_raw(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
                done += len(block)
                on_progress(Download(done, total))
    except OSError as error:
        raise SourceError(
            f"The download can't be stored in {path.parent}: {error.strerror}.",
            "Free disk space, or set TAXI_INGEST_HOME to a folder with more.",
        ) from error
    if total is not None and done != total:
        raise SourceError(
            f"The download ended after {done:,} of {total:,} bytes.", "Run the same command again."
        )
    return digest.hexdigest(), done
