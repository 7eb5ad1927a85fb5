"""Sources of http and https, and saying clearly what went wrong with a request."""

import logging
import netrc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from taxi_ingest.errors import SourceError
from taxi_ingest.sources.address import Login, Logins, file_name, http_url, login_in
from taxi_ingest.sources.download import PassingError
from taxi_ingest.sources.remote import Remote
from taxi_ingest.sources.source import Found, Source

_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60
_MOST_REDIRECTS = 10
_NOT_THERE = (httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND, httpx.codes.GONE)
_PROXY_HINT = "Check the variables http_proxy, https_proxy, all_proxy and no_proxy."

_logger = logging.getLogger(__name__)


def parse_http(text: str, logins: Logins) -> Source:
    """What an http or https URL names. Its login is the one that stands in it, else that of `logins`.

    Raises UsageError for a URL that can't be read.
    """
    url = http_url(text)
    return Http(url, url, file_name(url), login_in(text) or logins.login_for(url))


@dataclass(frozen=True)
class Http(Remote):
    """A file on a server of http or https."""

    login: Login | None = field(default=None, repr=False, compare=False)

    def ask(self, headers: dict[str, str]) -> AbstractContextManager[httpx.Response]:
        """The answer to a GET with these headers."""
        return _request(self.url, self.login, headers)

    def find(self) -> Found | None:
        """Whether its server has it, and what it says of its length."""
        try:
            # Not every server knows HEAD; the body of this answer is not waited for.
            with self.ask({}) as response:
                if response.status_code in _NOT_THERE:
                    return None
                length = response.headers.get("Content-Length", "")
                return Found(int(length) if response.is_success and length.isdecimal() else None)
        except SourceError:
            # Fetching it meets the same difficulty, tries again, and says what it is.
            return Found()


@contextmanager
def _request(url: str, login: Login | None, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """The answer to a GET with these headers, its body not yet read.

    `login`, else the one that ~/.netrc has for this host, goes to this host alone: httpx takes it off
    where a redirect leads to another host, another port or out of https. A proxy that the environment
    names is used. Raises PassingError where connecting or reading breaks off, SourceError where it is
    hopeless.
    """
    # The file's own bytes are wanted: no compression on the way that would hide its length.
    headers = {"Accept-Encoding": "identity", **headers}
    auth = httpx.BasicAuth(login.user, login.password) if login else _netrc()
    try:
        with _client() as client, client.stream("GET", url, headers=headers, auth=auth) as response:
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


def _netrc() -> httpx.Auth | None:
    """The logins in ~/.netrc, or in the file that NETRC names, each for its host."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")  # noqa: PTH111
    if not Path(path).is_file():
        return None
    try:
        return httpx.NetRCAuth(path)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError) as error:
        reason = "it is no netrc file" if isinstance(error, ValueError) else error
        _logger.warning("%s is not used: %s.", path, reason)
        return None
