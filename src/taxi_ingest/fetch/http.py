"""One HTTP request, and saying clearly what went wrong with it."""

import email.utils
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from taxi_ingest.errors import SourceError

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60
_MOST_REDIRECTS = 10

_STATUS_HINTS = {
    401: "Give the right login as TAXI_INGEST_SOURCE_LOGIN=user:password.",
    403: "TLC's site answers 403 to months that are not published yet, and when it is asked too often.",
    404: "Check the address; TLC publishes a month about two months later.",
}
_PASSING_STATUSES = frozenset({408, 429})

Login = tuple[str, str]


class PassingError(SourceError):
    """A failure that may be over when the same is tried again."""

    def __init__(self, message: str, hint: str, after_seconds: float | None = None) -> None:
        super().__init__(message, hint)
        self.after_seconds = after_seconds
        """How long the server asks to wait."""


@contextmanager
def request(url: str, login: Login | None, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer to a GET, its body not yet read.

    Raises PassingError where connecting or reading breaks off, SourceError where it is hopeless.
    """
    # The file's own bytes are wanted: no compression on the way that would hide its length.
    headers = {"Accept-Encoding": "identity", **headers}
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
    try:
        with (
            httpx.Client(follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=timeout) as client,
            client.stream("GET", url, headers=headers, auth=login) as response,
        ):
            yield response
    except httpx.UnsupportedProtocol as error:
        raise SourceError(f"{url} redirects to an address that is not http.", "Check the address.") from error
    except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise SourceError(f"{url} can't be followed: {error}.", "Check the address.") from error
    except httpx.ConnectError as error:
        raise PassingError(
            f"{urlsplit(url).hostname} can't be reached: {error}.", "Check the address and your network."
        ) from error
    except httpx.HTTPError as error:
        raise PassingError(
            f"The download of {url} broke off: {error or type(error).__name__}.",
            "Run the same command again: it goes on where this one ended.",
        ) from error


def check_status(url: str, response: httpx.Response) -> None:
    """Raise PassingError or SourceError for an answer that is no file."""
    if response.is_success:
        return
    status = response.status_code
    message = f"{url} answers {status} {response.reason_phrase}".rstrip() + "."
    hint = _STATUS_HINTS.get(status, "Try again later.")
    if status in _PASSING_STATUSES or response.is_server_error:
        raise PassingError(message, hint, _retry_after(response.headers.get("Retry-After")))
    raise SourceError(message, hint)


def _retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After asks for, given as such or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
