"""http addresses, each in one spelling, and the logins for their hosts, which are for nobody's eyes.

The spelling is that of https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx
from pydantic import SecretStr

from taxi_ingest.errors import UsageError
from taxi_ingest.settings.environment import LOGIN_FORM, BucketLogin, Settings
from taxi_ingest.tlc import TLC_URL

HINT = "Check --url."

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = r"A-Za-z0-9._~\-"
_ODD = {
    "path": re.compile(rf"%([0-9A-Fa-f]{{2}})|[^{_UNRESERVED}!$&'()*+,;=:@/]"),
    "query": re.compile(rf"%([0-9A-Fa-f]{{2}})|[^{_UNRESERVED}!$&'()*+,;=:@/?]"),
}
"""What may be spelled in other ways."""

_LOGIN_HINT = (
    "In a URL's login write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, or keep it in ~/.netrc; "
    "an @ of the path is written %40."
)


def scheme_of(text: str) -> str:
    """The scheme that an address begins with, in lower case; empty for a plain path."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else ""


def http_url(text: str) -> str:
    """The one spelling of an http URL, without login and fragment.

    Raises UsageError for one that can't be read, and never repeats a login.
    """
    if found := re.search("[\x00-\x1f\x7f]", text):
        raise UsageError(f"The URL has a control character in it ({found[0]!r}).", HINT)
    parts = _split(text)
    _check_login(text)
    _, mark, query = text.partition("#")[0].partition("?")
    path = _without_dots(_normal(parts.path, "path")) or "/"
    return f"{parts.scheme}://{_host(parts)}{_port(parts)}{path}{mark}{_normal(query, 'query')}"


def userinfo_in(text: str) -> str:
    """The `user:password` of an http URL as it stands there, which must not travel with it; else empty.

    Raises UsageError for an http URL that can't be read.
    """
    if scheme_of(text.strip()) not in _DEFAULT_PORTS:
        return ""
    return _split(text.strip()).netloc.rpartition("@")[0]


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL in its one spelling."""
    return "/".join(url.split("/")[:3])


def file_name(url: str) -> str:
    """The last part of the path of a URL in its one spelling."""
    return unquote(url.partition("?")[0].rpartition("/")[2], errors="backslashreplace") or "download"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        # Its message would repeat what may be a part of a password.
        raise UsageError("The URL can't be read: its host or port is none.", _LOGIN_HINT) from None
    return parts


def _check_login(url: str) -> None:
    """Refuse a URL in which an @ stands where it may end a login that was cut by a special character."""
    authority, *rest = re.split("[/?#]", url.partition("://")[2], maxsplit=1)
    host, colon, port = authority.rpartition("@")[2].partition(":")
    sure = "." in host or host == "localhost"
    if "@" in "".join(rest) and colon and not (port.isdigit() and sure):
        raise UsageError("The URL seems to have a login in it that can't be told from its host.", _LOGIN_HINT)


def _host(parts: SplitResult) -> str:
    name = parts.hostname or ""
    if ":" in name:
        return f"[{_ip6(name)}]"
    name = unicodedata.normalize("NFKC", unquote(name).lower())
    try:
        ascii_name = httpx.URL(f"http://{name}").raw_host.decode().rstrip(".")
    except httpx.InvalidURL:
        raise UsageError("The URL can't be read: it has no proper host.", _LOGIN_HINT) from None
    labels = ascii_name.split(".")
    if len(ascii_name) > 253 or not all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels):
        raise UsageError("The URL can't be read: it has no proper host.", _LOGIN_HINT)
    return ascii_name


def _ip6(name: str) -> str:
    address, mark, zone = name.partition("%")
    try:
        return ipaddress.IPv6Address(address).compressed + mark + zone
    except ValueError:
        raise UsageError("The URL can't be read: its host is no IPv6 address.", _LOGIN_HINT) from None


def _port(parts: SplitResult) -> str:
    return "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"


def _normal(text: str, part: str) -> str:
    def spelled(match: re.Match[str]) -> str:
        if match[1] is None:
            return quote(match[0].encode(errors="surrogateescape"), safe="")
        character = chr(int(match[1], 16))
        return character if re.fullmatch(f"[{_UNRESERVED}]", character) else f"%{match[1].upper()}"

    return _ODD[part].sub(spelled, text)


def _without_dots(path: str) -> str:
    """A path without `.` and `..` (https://www.rfc-editor.org/rfc/rfc3986#section-5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            # The first, empty one is the slash in front.
            del kept[max(len(kept) - 1, 1) :]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


@dataclass(frozen=True)
class Login:
    """A user and a password, neither shown nor stored."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    def __reduce__(self) -> NoReturn:
        # Prefect stores what it pickles.
        raise TypeError("A login is not to be pickled.")


@dataclass(frozen=True)
class Logins:
    """Which login a source gets, by the scheme, host and port of its address."""

    by_origin: Mapping[str, Login] = field(default_factory=dict)
    bare: Login | None = None
    """For whatever host is asked, but for TLC's own site, which asks nobody for a login."""
    bucket: BucketLogin | None = None
    """For a cloud's buckets."""

    def login_for(self, url: str) -> Login | None:
        """The login for an http URL in its one spelling."""
        origin = origin_of(url)
        return self.by_origin.get(origin, None if origin == origin_of(TLC_URL) else self.bare)


NO_LOGINS = Logins()


def logins_of(settings: Settings) -> Logins:
    """Those in `source_login`, and the one that may stand in `tlc_url`.

    Raises UsageError where the former names no proper host.
    """
    text = settings.source_login.get_secret_value() if settings.source_login else ""
    of_mirror: dict[str, Login] = {}
    with suppress(UsageError):  # which is for those to be told who ask the mirror for a month
        of_mirror = _by_origin(settings.tlc_url)
    if text and not text.lower().startswith(("http://", "https://")):
        user, _, password = text.partition(":")
        return Logins(of_mirror, Login(user, password), settings.bucket_login)
    try:
        return Logins({**of_mirror, **_by_origin(*text.split())}, bucket=settings.bucket_login)
    except UsageError:
        raise UsageError(
            f"TAXI_INGEST_SOURCE_LOGIN is wrong: {LOGIN_FORM}.",
            ".env.example explains each setting.",
        ) from None


def _by_origin(*urls: str) -> dict[str, Login]:
    found = {url: login_in(url) for url in urls}
    return {origin_of(http_url(url)): login for url, login in found.items() if login}


def login_in(url: str) -> Login | None:
    """The login in an http URL, if there is one. Raises UsageError for an http URL that can't be read."""
    user, colon, password = userinfo_in(url).partition(":")
    return Login(unquote(user), unquote(password)) if user or colon else None


def with_login_in(url: str, settings: Settings) -> Settings:
    """The same settings with the login of an http URL, which a flow must not have in its parameters.

    Those for other hosts stay; one for whatever host is asked does not.
    """
    login = login_in(url)
    if login is None:
        return settings
    userinfo = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}"
    text = origin_of(http_url(url)).replace("://", f"://{userinfo}@", 1)
    others = settings.source_login.get_secret_value() if settings.source_login else ""
    if others.lower().startswith(("http://", "https://")):
        text = f"{others} {text}"
    return settings.model_copy(update={"source_login": SecretStr(text)})
