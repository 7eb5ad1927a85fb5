"""From a server into the cache: resumed where it was cut, tried again where that may help, checked."""

import base64
import binascii
import email.utils
import hashlib
import logging
import random
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from taxi_ingest.errors import SourceError
from taxi_ingest.sources.cache import Entry, Validators, Version, storing
from taxi_ingest.sources.source import DownloadProgress, SourceFile, look_at

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 300
_ANEW = "Run the same command again: it goes on where this one ended."

_STATUS_HINTS = {
    401: "Give the login as TAXI_INGEST_SOURCE_LOGIN=https://user:password@host, or in ~/.netrc.",
    403: "TLC's site answers 403 to months that are not published yet, and when it is asked too often.",
    404: "Check the address; TLC publishes a month about two months later.",
    407: "Give the proxy's login in http_proxy or https_proxy.",
}
_PASSING_STATUSES = frozenset({408, 429})
_FILE_STATUSES = frozenset({200, 203, 206})
"""The answers that are a file (https://www.rfc-editor.org/rfc/rfc9110#name-successful-2xx)."""

_logger = logging.getLogger(__name__)


class PassingError(SourceError):
    """A failure that may be over when the same is tried again."""

    def __init__(self, message: str, hint: str, after_seconds: float | None = None) -> None:
        super().__init__(message, hint)
        self.after_seconds = after_seconds
        """How long the server asks to wait."""


@dataclass(frozen=True)
class Downloader:
    """What brings one URL into its entry of the cache, however its server is asked."""

    url: str
    name: str
    ask: Callable[[dict[str, str]], AbstractContextManager[httpx.Response]]
    """The answer, its body not yet read, to a GET with these headers."""
    entry: Entry
    known: Validators
    """Those of a version that need not be downloaded."""
    on_progress: Callable[[DownloadProgress], None]
    is_damaged: Callable[[httpx.Response, Path, bytes], bool]
    """Whether a file, its sha256 known, is not the one that the answer has checksums of."""

    def run(self, tries: int) -> SourceFile | None:
        """The file, whole, in the cache; None if the server says that it is still the `known` one.

        `tries`: how often in a row it may fail without getting any further. Raises SourceError.
        """
        failures, furthest = 0, 0
        while True:
            try:
                with storing(self.entry.folder):
                    return self._try()
            except PassingError as error:
                reached = _length(self.entry.partial)
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                delay = _delay(failures, error.after_seconds)
                if delay > _LONGEST_DELAY_SECONDS:
                    raise SourceError(str(error), f"Its server asks to wait {delay:,.0f} s first.") from error
                if failures >= tries:
                    raise
                _logger.warning("%s Trying again in %.1f s.", error, delay)
                time.sleep(delay)

    def _try(self) -> SourceFile | None:
        cached = self._cached()
        held = (cached and cached.validators) or self.known
        with self.ask({**held.unless_same(), **self._rest()}) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED and held:
                return None if held == self.known else cached
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.entry.drop(self.entry.partial)
                raise PassingError(f"{self.url} has become shorter.", _ANEW)
            check_status(self.url, response)
            return self._save(response)

    def _cached(self) -> SourceFile | None:
        """The whole file that is in the cache, if it still is what was downloaded."""
        version = self.entry.version(self.entry.content)
        if version is None:
            return None
        file = look_at(self.entry.content, self.url, self.name, version.validators)
        if file.sha256 != version.sha256:
            self.entry.drop(self.entry.content)
            return None
        self.entry.describe(self.entry.content, version)
        return file

    def _rest(self) -> dict[str, str]:
        """The headers that ask for the rest of a partial file, if it is still of the same version."""
        version = self.entry.version(self.entry.partial)
        if version is None or version.strong is None:
            return {}
        return {"Range": f"bytes={_length(self.entry.partial)}-", "If-Range": version.strong}

    def _save(self, response: httpx.Response) -> SourceFile:
        """Write the body behind what is there, or anew; check its length and its checksum."""
        begun = self._begin(response)
        digest, done = digest_of(self.entry.partial), _length(self.entry.partial)
        with self.entry.append() as file:
            # As it comes in: httpx would keep back, and on a cut lose, what doesn't fill a larger block.
            for block in response.iter_raw():
                digest.update(block)
                file.write(block)
                done += len(block)
                self.on_progress(DownloadProgress(done, begun.total))
        if begun.total is not None and done != begun.total:
            raise PassingError(f"The download ended after {done:,} of {begun.total:,} bytes.", _ANEW)
        self._check(response, digest.digest())
        self.entry.complete(Version(self.url, begun.validators, done, digest.hexdigest()))
        path = self.entry.content
        modified_ns = path.stat().st_mtime_ns
        return SourceFile(self.url, self.name, path, done, digest.hexdigest(), modified_ns, begun.validators)

    def _begin(self, response: httpx.Response) -> Version:
        """The version that the answer belongs to; a partial file that it does not continue is dropped."""
        begun = self.entry.version(self.entry.partial)
        now = _version(self.url, response)
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            if begun and _continues(response, now, begun, _length(self.entry.partial)):
                return begun
            self.entry.drop(self.entry.partial)
            raise PassingError(f"{self.url} answers with another part than asked for.", _ANEW)
        self.entry.drop(self.entry.partial)
        self.entry.describe(self.entry.partial, now)
        return now

    def _check(self, response: httpx.Response, sha256: bytes) -> None:
        """Compare the file with the checksums that came with it. Raises PassingError."""
        if self.is_damaged(response, self.entry.partial, sha256):
            self.entry.drop(self.entry.partial)
            raise PassingError(f"{self.url} was damaged on its way: its checksum is another.", _ANEW)


def _version(url: str, response: httpx.Response) -> Version:
    """The version of the file that a server answers with."""
    etag, modified = _header(response, "ETag"), _header(response, "Last-Modified")
    length = _header(response, "Content-Length")
    return Version(
        url,
        Validators(etag, modified),
        int(length) if length and re.fullmatch("[0-9]{1,18}", length) else None,
        strong=_strong(etag, modified, _header(response, "Date")),
    )


def _strong(etag: str | None, modified: str | None, date: str | None) -> str | None:
    """The validator that holds for every single byte, as resuming needs it.

    A date is one only where there is no tag, and the file was not changed just now, as it may be again
    within the same second (https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.2).
    """
    if etag:
        return None if etag.startswith("W/") else etag
    changed, sent = _date_of(modified), _date_of(date)
    return modified if changed is not None and sent is not None and sent - changed >= 60 else None


def _continues(response: httpx.Response, now: Version, begun: Version, length: int) -> bool:
    """Whether a 206 is the rest, from `length` on, of the version that was begun.

    Not every server heeds If-Range: the validator that was sent must come back, and none may differ.
    """
    first, total = _range(response)
    pairs = (
        (now.validators.etag, begun.validators.etag),
        (now.validators.last_modified, begun.validators.last_modified),
        (total, begun.total),
    )
    return (
        begun.strong is not None
        and begun.strong in (now.validators.etag, now.validators.last_modified)
        and first == length
        and not any(one != other for one, other in pairs if one is not None and other is not None)
    )


def differs_from_headers(response: httpx.Response, file: Path, sha256: bytes) -> bool:
    """Whether a file has other checksums than an answer's headers say."""
    md5 = _decoded(response.headers.get("Content-MD5"), 16)
    if md5 and response.status_code == httpx.codes.OK:
        return md5 != digest_of(file, "md5").digest()
    return _sha256(response) not in (None, sha256)


def _sha256(response: httpx.Response) -> bytes | None:
    """The whole file's sha256 as its server gives it (RFC 9530; S3's own header), if it does."""
    for name in ("Repr-Digest", "Digest"):
        if found := re.search(r"sha-256=:?([A-Za-z0-9+/]+=*)", response.headers.get(name, ""), re.IGNORECASE):
            return _decoded(found[1], 32)
    if response.headers.get("x-amz-checksum-type") == "FULL_OBJECT":
        return _decoded(response.headers.get("x-amz-checksum-sha256"), 32)
    return None


def _decoded(checksum: str | None, length: int) -> bytes | None:
    """A checksum's bytes; None where it is none."""
    try:
        decoded = base64.b64decode(checksum or "", validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == length else None


def _range(response: httpx.Response) -> tuple[int, int | None]:
    """First byte and whole length by a Content-Range; -1 where there is none."""
    found = re.fullmatch(
        r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", response.headers.get("Content-Range", "")
    )
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _delay(failures: int, asked_seconds: float | None) -> float:
    """Seconds to wait: doubled each time, spread so that many clients don't come back at once."""
    if asked_seconds is not None:
        return asked_seconds
    return _FIRST_DELAY_SECONDS * 2.0 ** (failures - 1) * random.uniform(1, 2)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def digest_of(path: Path, algorithm: str = "sha256") -> "hashlib._Hash":
    """That of a file, of none as of an empty one."""
    if not path.exists():
        return hashlib.new(algorithm)
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm)


def check_status(url: str, response: httpx.Response) -> None:
    """Raise PassingError or SourceError for an answer that is no file."""
    status = response.status_code
    if status in _FILE_STATUSES:
        return
    message = f"{url} answers {status} {response.reason_phrase}".rstrip() + "."
    hint = _STATUS_HINTS.get(status, "Try again later.")
    if status in _PASSING_STATUSES or response.is_server_error:
        raise PassingError(message, hint, _retry_after(response.headers.get("Retry-After")))
    raise SourceError(message, hint)


def _header(response: httpx.Response, name: str) -> str | None:
    """A header that may be sent back: None for one that is not there, or not printable ASCII."""
    value: str = response.headers.get(name, "")
    return value if value.isascii() and value.isprintable() and value else None


def _retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After asks for, given as such or as a date; None for what is neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    if (date := _date_of(value)) is None:
        return None
    return max(0.0, date - time.time())


def _date_of(value: str | None) -> float | None:
    """An HTTP date, in seconds since 1970; None for what is none."""
    try:
        return email.utils.parsedate_to_datetime(value or "").timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
