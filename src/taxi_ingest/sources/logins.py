"""Logins for http sources: each for its own host, and for nobody's eyes."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import quote, unquote

from pydantic import SecretStr

from taxi_ingest.errors import UsageError
from taxi_ingest.settings import LOGIN_FORM, Settings
from taxi_ingest.sources.address import http_url, origin_of, userinfo_in
from taxi_ingest.tlc import TLC_URL


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
        return Logins(of_mirror, Login(user, password))
    try:
        return Logins({**of_mirror, **_by_origin(*text.split())})
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
    """The same settings with the login of an http URL, which a flow must not have in its parameters."""
    login = login_in(url)
    if login is None:
        return settings
    userinfo = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}"
    text = origin_of(http_url(url)).replace("://", f"://{userinfo}@", 1)
    return settings.model_copy(update={"source_login": SecretStr(text)})
