"""A database's address: a libpq URL or key=value string, and what of it may be shown."""

import re
from typing import Any
from urllib.parse import quote, urlencode

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from taxi_ingest.errors import DatabaseError


def parse_address(url: str) -> dict[str, Any]:
    """The parameters of a libpq URL or key=value string, secrets included; SQLAlchemy's
    `postgresql+driver:` serves too.

    Raises DatabaseError for what is neither, without repeating it: it may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if separator:
        url = f"{scheme.partition('+')[0]}://{rest}"
        _check_reads_as_meant(rest)
    try:
        parameters = dict(parse_dsn(url))
        # libpq's error repeats what stands there: a password, where host and @ were forgotten.
        for port in filter(None, parameters.get("port", "").split(",")):
            int(port)
    except (psycopg2.ProgrammingError, ValueError):
        raise DatabaseError(
            "The database's URL can't be read.", "Write postgresql://user@host:5432/database."
        ) from None
    return parameters


def _check_reads_as_meant(rest: str) -> None:
    """Refuse a URL whose password libpq would take for host, port or database, and tell in its errors."""
    if rest.count("@") > 1 or "@" in rest.partition("/")[2]:
        raise DatabaseError(
            "The database's URL can't be read: an @ or / in it stands where none can.",
            "In a user or password write %40 for @, %2F for /, %3A for : and %25 for %, or give the password"
            " by PGPASSWORD or ~/.pgpass.",
        )


def join_dsn(url: str, parts: dict[str, str], password: str | None) -> str:
    """A libpq key=value string of a URL and single parts, and a password unless the URL has one."""
    parameters = {**parse_address(url), **parts}
    if password:
        parameters.setdefault("password", password)
    return str(make_dsn(**parameters))


def without_secrets(url: str) -> dict[str, str]:
    """The parameters of a libpq URL or key=value string that may be shown."""
    return {name: value for name, value in parse_address(url).items() if not _is_secret(name, value)}


def secrets_of(url: str) -> set[str]:
    """The names of the parameters that may not be shown."""
    return {name for name, value in parse_address(url).items() if _is_secret(name, value)}


def _is_secret(name: str, value: str) -> bool:
    return name in _SECRETS or (name == "options" and _NAMES_A_SECRET.search(value) is not None)


_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)
"""Those that libpq itself marks as not to be shown
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS)."""

_NAMES_A_SECRET = re.compile("passw|secret|token|key|credential", re.IGNORECASE)
"""A setting of the user's own in `options` (`-c app.secret=…`)."""


def address_of(url: str) -> str:
    """A database's URL without its secrets, as psql takes it."""
    parameters = without_secrets(url)
    user, host, port = (parameters.pop(name, "") for name in ("user", "host", "port"))
    database = quote(parameters.pop("dbname", ""), safe="")
    if host.startswith("/"):
        parameters["host"], host = host, ""
    place = f"{quote(user, safe='')}@" if user else ""
    place += f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"postgresql://{place}/{database}{query}"
