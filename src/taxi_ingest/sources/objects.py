"""Sources that are objects in buckets: gs://, s3:// and az://, over obstore.

A store is asked as a server of http is, so that what brings a file from one brings it from the other.
"""

import fnmatch
import glob
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.settings.environment import BucketLogin
from taxi_ingest.sources.address import Logins
from taxi_ingest.sources.buckets import (
    BucketAddress,
    BucketFailure,
    check_installed,
    keys_below,
    open_bucket,
    options_for,
    parse_bucket_url,
    told,
)
from taxi_ingest.sources.download import PassingError, digest_of
from taxi_ingest.sources.google_checksum import differs_from_google
from taxi_ingest.sources.local import DATA_NAME
from taxi_ingest.sources.remote import Remote
from taxi_ingest.sources.source import Found, Source

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_BLOCK_BYTES = 1 << 18
_VERSION = "X-Version"
_MD5 = re.compile('"([0-9a-f]{32})"')


def parse_object(text: str, logins: Logins) -> Source:
    """What a gs://, s3:// or az:// address names. Raises UsageError where it names no object."""
    address = parse_bucket_url(text)
    if not address.name:
        raise UsageError(f"{address.url} is no file, but a folder of a bucket.", "Name a file in it.")
    return Object(address.url, address.url, address.name, address, logins.bucket)


def objects_at(text: str, logins: Logins) -> list[str]:
    """The objects that a folder or a pattern (`gs://taxi/*.parquet`) names; any other address is its own.

    Of a folder those that are called like a CSV or Parquet file. Raises SourceError for one that has none,
    and where the bucket can't be listed; UsageError for a pattern that matches none.
    """
    address = parse_bucket_url(text)
    if address.name and not (glob.has_magic(address.key) and parse_object(text, logins).find() is None):
        return [text]
    folder = re.split(r"[*?\[]", address.key, maxsplit=1)[0].rpartition("/")[0]
    keys = keys_below(replace(address, key=folder), logins.bucket)
    found = [key for key in keys if _is_meant(key, address.key)]
    if not found and address.name:
        raise UsageError(f"No object matches {address.url}.", "Check the pattern; keys are case-sensitive.")
    if not found:
        raise SourceError(
            f"The folder {address.url} has no CSV or Parquet files in it.", "Check the address."
        )
    return sorted(replace(address, key=key).url for key in found)


def _is_meant(key: str, pattern: str) -> bool:
    """Whether a key lies right in a folder and is called like data, or matches a pattern part by part."""
    folder, _, name = key.rpartition("/")
    if not pattern or pattern.endswith("/"):
        return folder == pattern.rstrip("/") and DATA_NAME.search(name) is not None
    parts, patterns = key.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


class _Missing(SourceError):
    """There is no such object."""


class _BeyondEnd(SourceError):
    """An object is shorter than the part of it that was asked for."""


@dataclass(frozen=True)
class Object(Remote):
    """An object in a bucket."""

    address: BucketAddress
    login: BucketLogin | None = field(default=None, repr=False, compare=False)

    def ask(self, headers: dict[str, str]) -> AbstractContextManager[httpx.Response]:
        """What a server of http would answer; raised is what the store refuses or has not."""
        check_installed()
        from obstore.exceptions import NotModifiedError, PreconditionError

        try:
            return nullcontext(self._get(_options(headers)))
        except NotModifiedError:
            return nullcontext(httpx.Response(httpx.codes.NOT_MODIFIED))
        except PreconditionError:
            # It is another object now, of which a server that heeds If-Range sends all.
            return nullcontext(self._get({}))
        except _BeyondEnd:
            return nullcontext(httpx.Response(httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE))

    def _get(self, options: "GetOptions") -> httpx.Response:
        import obstore

        with told(self.address, _error):
            store = open_bucket(self.address, self.login, tries=1)
            found = obstore.get(store, self.address.key, options=options)
        whole = found.range == (0, found.meta["size"])
        status = httpx.codes.OK if whole else httpx.codes.PARTIAL_CONTENT
        return httpx.Response(status, headers=_headers(found), content=self._blocks(found))

    def _blocks(self, found: "GetResult") -> Iterator[bytes]:
        with told(self.address, _error):
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)

    def check(self) -> None:
        """Raise UsageError where the extra isn't installed."""
        check_installed()

    def find(self) -> Found | None:
        """Whether the bucket has it, and its length."""
        try:
            # HEAD would not tell a bucket that is missing from an object; this body is not waited for.
            with self.ask({}) as response:
                return Found(int(response.headers["Content-Length"]))
        except _Missing:
            return None
        except SourceError:
            # Fetching it meets the same difficulty, tries again, and says what it is.
            return Found()

    def checked_by(self) -> Callable[[httpx.Response, Path, bytes], bool]:
        """By its ETag, which is its MD5 where it was uploaded in one part; with Google else by its CRC32C.

        With S3 that of an object encrypted by KMS only looks like one: what comes twice alike is whole.
        """
        came: set[bytes] = set()

        def is_damaged(response: httpx.Response, file: Path, sha256: bytes) -> bool:
            etag = _MD5.fullmatch(response.headers.get("ETag", ""))
            if etag is None:
                return self._differs_from_google(file, response.headers.get(_VERSION))
            if etag[1] == digest_of(file, "md5").hexdigest() or sha256 in came:
                return False
            came.add(sha256)
            return True

        return is_damaged

    def _differs_from_google(self, file: Path, version: str | None) -> bool:
        if self.address.scheme != "gs" or version is None:
            return False
        given = options_for(self.address, self.login)
        return differs_from_google(file, self.address.bucket, self.address.key, version, given)


def _options(headers: dict[str, str]) -> "GetOptions":
    """Headers of http, as obstore is told them."""
    options: GetOptions = {}
    if etag := headers.get("If-None-Match"):
        options["if_none_match"] = etag
    if etag := headers.get("If-Range"):
        options["if_match"] = etag
    if wanted := re.fullmatch("bytes=([0-9]+)-([0-9]*)", headers.get("Range", "")):
        start = int(wanted[1])
        options["range"] = (start, int(wanted[2]) + 1) if wanted[2] else {"offset": start}
    return options


def _headers(found: "GetResult") -> dict[str, str]:
    """What is known of an object, as headers of http."""
    meta, (start, end) = found.meta, found.range
    return {
        "Content-Length": str(end - start),
        "Content-Range": f"bytes {start}-{end - 1}/{meta['size']}",
        "Last-Modified": format_datetime(meta["last_modified"], usegmt=True),
        **({"ETag": meta["e_tag"]} if meta["e_tag"] else {}),
        **({_VERSION: meta["version"]} if meta["version"] else {}),
    }


def _error(why: BucketFailure) -> SourceError:
    if why.is_missing:
        return _Missing(why.message, why.hint)
    if why.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _BeyondEnd(why.message, why.hint)
    return (PassingError if why.can_pass else SourceError)(why.message, why.hint)
