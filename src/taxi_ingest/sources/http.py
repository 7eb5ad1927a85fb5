"""One HTTP request, and saying clearly what went wrong with it."""

import email.utils
import logging
import netrc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from taxi_ingest.errors import SourceError

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60
_MOST_REDIRECTS = 10

_STATUS_HINTS = {
    401: "Give the login as TAXI_INGEST_SOURCE_LOGIN=https://user:password@host, or in ~/.netrc.",
    403: "TLC's site answers 403 to months that are not published yet, and when it is asked too often.",
    404: "Check the address; TLC publishes a month about two months later.",
    407: "Give the proxy's login in http_proxy or https_proxy.",
}
_PASSING_STATUSES = frozenset({408, 429})
_FILE_STATUSES = frozenset({200, 203, 206})
"""The answers that are a file (https://www.rfc-editor.org/rfc/rfc9110#name-successful-2xx)."""

Login = tuple[str, str]

_logger = logging.getLogger(__name__)


class PassingError(SourceError):
    """A failure that may be over when the same is tried again."""

    def __init__(self, message: str, hint: str, after_seconds: float | None = None) -> None:
        super().__init__(message, hint)
        self.after_seconds = after_seconds
        """How long the server asks to wait."""


@contextmanager
def request(url: str, login: Login | None, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer to a GET of a canonical URL, its body not yet read.

    `login`, else the one that ~/.netrc has for this host, goes to this host alone: httpx takes it off
    where a redirect leads to another host, another port or out of https. A proxy that the environment
    names is used. Raises PassingError where connecting or reading breaks off, SourceError where it is
    hopeless.
    """
    # The file's own bytes are wanted: no compression on the way that would hide its length.
    headers = {"Accept-Encoding": "identity", **headers}
    login = login or _netrc_login(urlsplit(url).hostname or "")
    try:
        with _client() as client, client.stream("GET", url, headers=headers, auth=login) as response:
            yield response
    except httpx.UnsupportedProtocol as error:
        raise SourceError(f"{url} redirects to an address that is not http.", "Check the address.") from error
    except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise SourceError(f"{url} can't be followed: {error}.", "Check the address.") from error
    except httpx.ProxyError as error:
        raise PassingError(f"The proxy refuses {url}: {error}.", _PROXY_HINT) from error
    except httpx.ConnectError as error:
        raise PassingError(
            f"{error.request.url.host or url} can't be reached: {error}.",
            "Check the address, your network and, if you need one, the proxy.",
        ) from error
    except httpx.HTTPError as error:
        raise PassingError(
            f"The download of {url} broke off: {error or type(error).__name__}.",
            "Run the same command again: it goes on where this one ended.",
        ) from error


_PROXY_HINT = "Check the variables http_proxy, https_proxy, all_proxy and no_proxy."


def _client() -> httpx.Client:
    timeout = httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)
    try:
        return httpx.Client(follow_redirects=True, max_redirects=_MOST_REDIRECTS, timeout=timeout)
    except OSError as error:
        raise SourceError(
            f"The certificates for https can't be read: {error.strerror}.",
            "Check SSL_CERT_FILE and SSL_CERT_DIR, or unset them.",
        ) from error
    except (ValueError, ImportError, httpx.InvalidURL):
        # The message might repeat the proxy's password.
        raise SourceError("The proxy that the environment names can't be used.", _PROXY_HINT) from None


def _netrc_login(host: str) -> Login | None:
    """The login that ~/.netrc, or the file that NETRC names, has for a host."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")  # noqa: PTH111
    if not Path(path).is_file():
        return None
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        reason = "it is no netrc file" if isinstance(error, ValueError) else error
        _logger.warning("%s is not used: %s.", path, reason)
        return None
    return (found[0], found[2] or "") if found else None


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


def header(response: httpx.Response, name: str) -> str | None:
    """A header that may be sent back: None for one that is not there, or not printable ASCII."""
    value: str = response.headers.get(name, "")
    return value if value.isascii() and value.isprintable() and value else None


def _retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After asks for, given as such or as a date; None for what is neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    if (date := date_of(value)) is None:
        return None
    return max(0.0, date - time.time())


def date_of(value: str | None) -> float | None:
    """An HTTP date, in seconds since 1970; None for what is none."""
    try:
        return email.utils.parsedate_to_datetime(value or "").timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
