"""One spelling for each http address (https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2)."""

import ipaddress
import re
import unicodedata
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx

from taxi_ingest.errors import UsageError

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
