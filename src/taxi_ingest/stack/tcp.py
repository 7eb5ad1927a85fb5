"""The embedded Postgres for programs that want host, port, user and password: which port, and the password.

Both lie in the home folder, which as root is ours and not the database's account's. That Postgres listens
at all is what nobody has by default: without a port it is reached by its socket only.
"""

from dataclasses import dataclass
from pathlib import Path

from taxi_ingest.errors import DatabaseError, UsageError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack.ports import holder, is_taken
from taxi_ingest.stack.residents import (
    ServiceStatus,
    home_folder,
    make_secret,
    private_folder,
    read_secret,
    read_unfollowed,
    write_private,
)


@dataclass(frozen=True)
class Ways:
    """What other programs are told of the database. Without its password, each is asked for it."""

    psql: str
    sqlalchemy: str
    jdbc: str | None
    """None without a port: Java knows no Unix socket."""
    password: str | None = None


def wanted_port(settings: Settings) -> int | None:
    """The port that Postgres is to have at its next start; None for none."""
    if settings.postgres_port:
        return settings.postgres_port
    try:
        return int(read_unfollowed(_port_file(settings)))
    except (OSError, ValueError):
        return None


def keep_port(settings: Settings, port: int | None) -> None:
    """Remember the port, or with None that there is to be none, for all starts to come.

    Raises UsageError where the environment sets another.
    """
    if settings.postgres_port not in (None, port):
        raise UsageError(
            f"TAXI_INGEST_POSTGRES_PORT sets the port {settings.postgres_port}, which goes first.",
            "Change it there, in the environment or in .env.",
        )
    private_folder(home_folder(settings), DatabaseError)
    if port is None:
        _port_file(settings).unlink(missing_ok=True)
    else:
        write_private(_port_file(settings), f"{port}\n")


def check_free(port: int) -> None:
    """Raise DatabaseError, which names who has the port, where it is taken."""
    if is_taken(port):
        raise DatabaseError(
            f"Port {port} of 127.0.0.1, where the local database is to listen, is taken by {holder(port)}.",
            "End that, choose another by `taxi-ingest up --port N`, or none by `taxi-ingest up --no-port`"
            " (TAXI_INGEST_POSTGRES_PORT, where that is set).",
        )


def password(settings: Settings) -> str | None:
    """The password of whoever comes by the port; None where there is none yet."""
    return read_secret(_password_file(settings))


def kept_password(settings: Settings) -> str:
    """The same, made where there is none."""
    return password(settings) or make_secret(_password_file(settings))


def ways(settings: Settings, database: ServiceStatus, with_password: bool) -> Ways:
    """What other programs are told of the database: its port, or else its socket."""
    if database.port is None:
        address = database.address
        return Ways(f"psql '{address}'", address.replace("postgresql:", "postgresql+psycopg2:", 1), None)
    place = f"127.0.0.1:{database.port}/ny_taxi"
    secret = password(settings) if with_password else None
    in_url, in_query = (f":{secret}", f"&password={secret}") if secret else ("", "")
    return Ways(
        # Not in psql's URL, which the list of processes would show.
        f"{f'PGPASSWORD={secret} ' if secret else ''}psql postgresql://postgres@{place}",
        f"postgresql+psycopg2://postgres{in_url}@{place}",
        f"jdbc:postgresql://{place}?user=postgres{in_query}",
        secret,
    )


def _port_file(settings: Settings) -> Path:
    return home_folder(settings) / "postgres.port"


def _password_file(settings: Settings) -> Path:
    return home_folder(settings) / "postgres.password"
