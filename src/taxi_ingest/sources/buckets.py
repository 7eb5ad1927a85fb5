"""Buckets: what a gs://, s3:// or az:// address names, opened with the usual credentials or with given ones.

What speaks to them is obstore, of the extra `taxi-ingest[gcp]`, which is imported only when one is opened.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxi_ingest.errors import SourceError, TaxiIngestError, UsageError
from taxi_ingest.settings.environment import BucketLogin
from taxi_ingest.sources.bucket_logins import (
    Options,
    UnusableCredentials,
    amazon_login,
    azure_login,
    google_login,
)

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

    BucketStore = GCSStore | S3Store | AzureStore

INSTALL = "pip install 'taxi-ingest[gcp]'"

_TRIES = 5
_CLIENT: Mapping[str, Any] = {
    "connect_timeout": "10s",
    "read_timeout": "60s",
    # Of a whole request with its body; obstore's own are 30 s, which a large object takes longer than.
    "timeout": "1day",
    # Only an endpoint that somebody has set is ever a plain one.
    "allow_http": True,
}

_ADDRESS = re.compile(r"(?i:(?P<scheme>[a-z0-9]+))://(?P<bucket>[^/]*)(/(?P<key>.*))?", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,221}")
_UNSAYABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and the halves of characters that stand for bytes which are not UTF-8."""


@dataclass(frozen=True)
class BucketAddress:
    """An object in a bucket, or all those whose keys begin alike."""

    scheme: str
    """gs, s3 or az."""
    bucket: str
    key: str
    """As the cloud's own tools spell it, nothing percent-encoded; empty for the whole bucket."""

    @property
    def url(self) -> str:
        """Its one spelling."""
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]


@dataclass(frozen=True)
class BucketFailure:
    """Why something can't be had from a bucket, or put into it."""

    message: str
    hint: str
    can_pass: bool = False
    """Whether the same may succeed a moment later."""
    is_missing: bool = False
    """Whether there is no such object, but nothing is wrong else."""
    status: int | None = None
    """Of the store's answer, if it was one (https://www.rfc-editor.org/rfc/rfc9110#name-status-codes)."""


@dataclass(frozen=True)
class _Cloud:
    """One of the three, as its users know it."""

    name: str
    bucket: str
    """What is called a bucket there."""
    store: str
    """The class of obstore's."""
    login: Callable[[Options | None], Options]
    """What is given, else what the environment says that obstore does not look for itself."""
    hint: str
    """Where credentials come from."""


def is_bucket_url(text: str) -> bool:
    """Whether an address names a bucket, or what is in one."""
    found = _ADDRESS.match(text.strip())
    return found is not None and found["scheme"].lower() in _CLOUDS


def parse_bucket_url(text: str, what: str = "key") -> BucketAddress:
    """What a gs://, s3:// or az:// address names: the `key` of an object, or the `prefix` of many.

    Raises UsageError, and never repeats a login.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None or not _BUCKET.fullmatch(found["bucket"]):
        scheme = found["scheme"].lower() if found else "s3"
        raise UsageError(
            f"The address has no proper bucket behind {scheme}://.",
            f"Write {scheme}://{_CLOUDS[scheme].bucket}/{what}; logins don't belong there.",
        )
    key = found["key"] or ""
    parts = key.removesuffix("/").split("/") if key else []
    if _UNSAYABLE.search(key) or {"", ".", ".."} & set(parts):
        raise UsageError(
            f"The {what} {key!r} has a part that can't be asked for.",
            "Check the address: no // in it, no dots alone, no control characters.",
        )
    return BucketAddress(found["scheme"].lower(), found["bucket"], key)


def check_installed() -> None:
    """Raise UsageError where the extra isn't installed that opens buckets."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise UsageError("gs://, s3:// and az:// need an extra that isn't installed.", INSTALL) from None


def options_for(address: BucketAddress, login: BucketLogin | None) -> Options | None:
    """What a login has for a bucket; None where it is another cloud's."""
    return login.options if login and login.scheme == address.scheme else None


def open_bucket(
    address: BucketAddress, login: BucketLogin | None = None, tries: int = _TRIES
) -> "BucketStore":
    """obstore's store of the bucket, of whose objects the keys are those of addresses.

    Without a login for its cloud it has the usual credentials of the environment, also an emulator's
    address. `tries`: how often each request is made where trying again may help.

    It belongs, as what is done with the store, inside `told`: it raises UnusableCredentials.
    """
    from obstore import exceptions, store

    cloud, given = _CLOUDS[address.scheme], options_for(address, login)
    how = {"client_options": _CLIENT, "retry_config": {"max_retries": tries - 1}, **cloud.login(given)}
    try:
        opened: BucketStore = getattr(store, cloud.store)(address.bucket, **how)
    except exceptions.BaseError:
        # Its message may repeat what stands in a key file.
        raise UnusableCredentials from None
    return opened


def keys_below(
    address: BucketAddress,
    login: BucketLogin | None = None,
    refused: type[TaxiIngestError] = SourceError,
) -> Iterator[str]:
    """The keys of all objects in a folder of a bucket, and in those below it; asked for as they are needed.

    Raises UsageError where the extra isn't installed, `refused` where the bucket can't be listed.
    """
    with told(address, lambda why: refused(why.message, why.hint)):
        store = open_bucket(address, login)
        import obstore

        for several in obstore.list(store, address.key.rstrip("/") or None):
            yield from (about["path"] for about in several)


@contextmanager
def told(address: BucketAddress, error_for: Callable[[BucketFailure], TaxiIngestError]) -> Iterator[None]:
    """Raise our own error for what a store raises inside, but for an answer to a condition.

    Those are NotModifiedError, PreconditionError and AlreadyExistsError. No message of the store's own is
    repeated or chained: it may hold a signed address. Raises UsageError where the extra isn't installed.
    """
    check_installed()
    from obstore import exceptions

    try:
        yield
    except (exceptions.NotModifiedError, exceptions.PreconditionError, exceptions.AlreadyExistsError):
        raise
    except (exceptions.BaseError, FileNotFoundError, UnusableCredentials) as error:
        raise error_for(_failure(address, error)) from None


@dataclass(frozen=True)
class _Reason:
    """What is told where a store's message has this in it."""

    pattern: str
    message: str
    hint: str
    can_pass: bool = False
    is_missing: bool = False


_REGION_HINT = "Set AWS_REGION to the bucket's region{region}."
_UNUSABLE = _Reason(
    "token request|credential|Signature|Unauthenticated",
    "The credentials for {cloud} can't be used{detail}.",
    "{login}",
)
_REASONS = (
    _Reason(
        "NoSuchBucket|ContainerNotFound|bucket does not exist",
        "There is no {kind} {bucket}.",
        "Check the address.",
    ),
    _Reason(
        r"ExpiredToken|TokenRefreshRequired|invalid_grant|expired|Expired",
        "The credentials for {cloud} have expired.",
        "{login}",
    ),
    _Reason(
        "InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|InvalidToken|invalid_client"
        "|status code: 401",
        "{cloud} does not accept the credentials.",
        "{login}",
    ),
    _Reason(
        "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|status code: 301"
        "|redirect without LOCATION",
        "The bucket {bucket} is in another region.",
        _REGION_HINT,
    ),
    _Reason(
        "status code: 403",
        "{cloud} denies access to {url} (403).",
        "These credentials need a right on it; some stores answer the same for what isn't there. {login}",
    ),
    _Reason(
        "status code: 404|not found",
        "There is no object {url}.",
        "Check the address; keys are case-sensitive.",
        is_missing=True,
    ),
    _Reason(
        "error sending request",
        "{cloud} can't be reached for {url}.",
        "Check your network, the proxy and, for an emulator, its address.",
        can_pass=True,
    ),
    _UNUSABLE,
    _Reason(
        r"status code: (408|429|5\d\d)",
        "{cloud} answers {status} for {url}.",
        "Try again later.",
        can_pass=True,
    ),
    _Reason(
        "status code",
        "{cloud} answers {status} for {url}.",
        "Check the address.",
    ),
    _Reason(
        "",
        "What {cloud} was asked for {url} broke off.",
        "Run the same command again.",
        can_pass=True,
    ),
)
"""The first that fits is told."""


def _failure(address: BucketAddress, error: Exception) -> BucketFailure:
    # What stands behind the first paragraph repeats it for programmers of the store; and a key that is
    # called "expired" is no reason.
    text = f"{type(error).__name__} {str(error).partition('Debug source:')[0]}"
    text = re.sub(rf"https?://\S+|(location|path) {re.escape(address.key)}", "", text)
    unusable = isinstance(error, UnusableCredentials)
    reason = _UNUSABLE if unusable else next(row for row in _REASONS if re.search(row.pattern, text))
    status = re.search(r"status code: (\d{3})", text)
    region = re.search("<Region>([a-z0-9-]+)</Region>", text)
    cloud = _CLOUDS[address.scheme]
    words = {
        "cloud": cloud.name,
        "kind": cloud.bucket,
        "bucket": address.bucket,
        "url": address.url,
        "login": cloud.hint,
        "status": status[1] if status else "",
        "region": f", {region[1]}" if region else "",
        "detail": f": {error}" if unusable and error.args else "",
    }
    return BucketFailure(
        reason.message.format(**words),
        reason.hint.format(**words),
        reason.can_pass,
        reason.is_missing,
        int(status[1]) if status else None,
    )


_CLOUDS = {
    "gs": _Cloud(
        "Google Cloud Storage",
        "bucket",
        "GCSStore",
        google_login,
        "Set GOOGLE_APPLICATION_CREDENTIALS to a key file, or `gcloud auth application-default login`.",
    ),
    "s3": _Cloud(
        "S3",
        "bucket",
        "S3Store",
        amazon_login,
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    ),
    "az": _Cloud(
        "Azure",
        "container",
        "AzureStore",
        azure_login,
        "Set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY.",
    ),
}
"""By an address's scheme."""
