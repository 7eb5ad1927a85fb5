"""Addresses of sources: one spelling for each, and the logins that must not travel with them."""

import ipaddress
import os
import re
import stat
import unicodedata
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

import httpx

from taxi_ingest.errors import SourceError, UsageError, without_login

STDIN = "-"
"""As a source: standard input."""

_PIPE = "pipe:"
"""What can be read only once has no address but its content: `pipe:` and the content's sha256."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = r"A-Za-z0-9._~\-"
_ODD = {
    "path": re.compile(rf"%([0-9A-Fa-f]{{2}})|[^{_UNRESERVED}!$&'()*+,;=:@/]"),
    "query": re.compile(rf"%([0-9A-Fa-f]{{2}})|[^{_UNRESERVED}!$&'()*+,;=:@/?]"),
}
"""What may be spelled in other ways, by https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2."""

_HINT = "Check --url."
_LOGIN_HINT = (
    "In a URL's login write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, or keep it in ~/.netrc; "
    "an @ of the path is written %40."
)


def canonical_url(source: str) -> str:
    """The one address under which the ledger knows a source, however it is spelled.

    A path, and a file:// URL, becomes the absolute file:// URL of the file behind all links. An http URL
    has no login and no fragment, and is spelled as RFC 3986 (6.2.2) says. Raises UsageError for other
    schemes and for what can't be read, and never repeats a login; SourceError for another machine's file.
    """
    return _canonical(source, os.path.realpath)


def named_url(source: str) -> str:
    """The same, but that links are not followed: a link's own name may say what the file is."""
    return _canonical(source, _in_real_folder)


def pipe_url(sha256: str) -> str:
    """The address of what was read from a pipe."""
    return f"{_PIPE}{sha256}"


def is_pipe(source: str) -> bool:
    """Whether a source is standard input or another pipe, which can be read only once."""
    url = named_url(source)
    return url == pipe_url(STDIN) or (url.startswith("file:") and stat.S_ISFIFO(_mode(_path_in(url))))


def login_of(source: str) -> str | None:
    """The `user:password` in an http URL, decoded, which must not travel with it."""
    source = source.strip()
    if _scheme(source) not in _DEFAULT_PORTS:
        return None
    return unquote(_split(source).netloc.rpartition("@")[0]) or None


def file_name(url: str) -> str:
    """The last part of a canonical URL's path."""
    path = url.partition("?")[0] if url.startswith("http") else url
    return unquote(path.rpartition("/")[2], errors="backslashreplace") or "download"


def local_path(url: str) -> Path | None:
    """The path behind a canonical file:// URL; None for one of http."""
    return Path(_path_in(url)) if url.startswith("file:") else None


def _canonical(source: str, resolve: Callable[[str], str]) -> str:
    if "\0" in source:
        raise UsageError("An address can't hold a NUL character.", _HINT)
    scheme = _scheme(source.strip())
    if scheme in _DEFAULT_PORTS:
        return _http_url(source.strip())
    if scheme == "file":
        return _file_url(_path_of_file_url(source.strip()), resolve)
    if source == STDIN:
        return pipe_url(STDIN)
    if os.path.lexists(source):
        return _file_url(source, resolve)
    if source.startswith(_PIPE):
        return source
    _check_is_path(source, scheme)
    # Unlike pathlib's, this leaves a name like ~tilde.csv alone if there is no such user.
    return _file_url(os.path.expanduser(source.strip()), resolve)  # noqa: PTH111


def _scheme(source: str) -> str:
    found = _SCHEME.match(source)
    return found[1].lower() if found else ""


def _check_is_path(source: str, scheme: str) -> None:
    if not source.strip():
        raise UsageError("The file's address is empty.", _HINT)
    if re.match(r"[A-Za-z]:[\\/]", source):
        raise UsageError(
            f"{source} is a path of Windows.", "Write it as this system does; in WSL, C: is /mnt/c."
        )
    if scheme and (len(scheme) > 1 or "://" in source):
        raise UsageError(
            f"A source can't be {scheme}://, and there is no file of that name.",
            "Give --url a path or an http, https or file URL.",
        )


def _file_url(path: str, resolve: Callable[[str], str]) -> str:
    try:
        resolved = resolve(path)
    except OSError as error:
        raise SourceError(
            f"The current folder can't be used: {error.strerror}.", "Go to one that exists."
        ) from None
    if not os.path.lexists(resolved):
        # What /dev/fd/63 or /dev/stdin links to has no path of its own.
        resolved = os.path.abspath(path)  # noqa: PTH100
    return f"file:///{quote(os.fsencode(resolved).lstrip(b'/'), safe='/~')}"


def _in_real_folder(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name) if name.strip(".") else os.path.realpath(path)  # noqa: PTH118


def _path_of_file_url(url: str) -> str:
    """The path in a file URL of any spelling: `file:/x`, `file://localhost/x`, `FILE:///x`."""
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise SourceError(
                f"{without_login(url)} is on another machine ({without_login('://' + host)[3:]}).",
                "Write file:///path, or use http.",
            )
        rest = slash + path
    literal = _decoded(rest)
    return literal if os.path.lexists(literal) else _decoded(re.split("[?#]", rest, maxsplit=1)[0])


def _path_in(canonical: str) -> str:
    return _decoded(canonical.removeprefix("file://"))


def _decoded(path: str) -> str:
    name = unquote_to_bytes(path.encode(errors="surrogateescape"))
    if b"\0" in name:
        raise UsageError("An address can't hold a NUL character.", _HINT)
    return os.fsdecode(name)


def _mode(path: str) -> int:
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def _http_url(url: str) -> str:
    if found := re.search("[\x00-\x1f\x7f]", url):
        raise UsageError(f"The URL has a control character in it ({found[0]!r}).", _HINT)
    parts = _split(url)
    _check_login(url)
    _, mark, query = url.partition("#")[0].partition("?")
    path = _without_dots(_normal(parts.path, "path")) or "/"
    return f"{parts.scheme}://{_host(parts)}{_port(parts)}{path}{mark}{_normal(query, 'query')}"


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
