"""A TCP proxy before Postgres that cuts and stalls connections on demand."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

from psycopg2.extensions import parse_dsn

from taxi_ingest.load.database import join_dsn

_COMMIT = b"Q\0\0\0\x0bCOMMIT\0"
"""The message that asks for a commit (https://www.postgresql.org/docs/current/protocol-message-formats.html)."""


@dataclass
class Fault:
    """What happens to a connection, once."""

    after_bytes: int | None = None
    """To the server: where it is cut, or stalled."""
    stall_seconds: float = 0
    at_commit: str | None = None
    """`unsent`: cut before the COMMIT gets to the server; `sent`: right after it does; `answered`: when its
    answer comes, which is lost."""


@dataclass
class Proxy:
    """Where it listens, and the faults to come."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    done: list[Fault] = field(default_factory=list)
    """The faults that have happened."""

    def fault(self, **what: object) -> None:
        self.faults.append(Fault(**what))  # type: ignore[arg-type]

    def happens(self, fault: Fault) -> None:
        self.faults.remove(fault)
        self.done.append(fault)


@contextmanager
def proxy_before(database_url: str) -> Iterator[Proxy]:
    """A proxy before the Postgres of a libpq URL, on TCP."""
    listener = socket.create_server(("127.0.0.1", 0))
    parts = {**parse_dsn(database_url), "host": "127.0.0.1", "port": str(listener.getsockname()[1])}
    proxy = Proxy(join_dsn("", parts, None))
    Thread(target=_accept, args=(listener, proxy, parse_dsn(database_url)), daemon=True).start()
    try:
        yield proxy
    finally:
        listener.close()


def _accept(listener: socket.socket, proxy: Proxy, server: dict[str, str]) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            Thread(target=_serve, args=(client, proxy, server), daemon=True).start()


def _serve(client: socket.socket, proxy: Proxy, parts: dict[str, str]) -> None:
    try:
        server = _connect(parts)
    except OSError:
        client.close()
        return
    lost = Lost()
    back = Thread(target=_send_back, args=(server, client, lost), daemon=True)
    back.start()
    with suppress(OSError):
        _send_on(client, server, proxy, lost)
    for end in (client, server):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    back.join()
    client.close()
    server.close()


@dataclass
class Lost:
    """Whether answers of the server are held back from now on, and whether one has come."""

    holds: bool = False
    has: bool = False


def _connect(parts: dict[str, str]) -> socket.socket:
    if parts["host"].startswith("/"):
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{parts['host']}/.s.PGSQL.{parts['port']}")
        return server
    return socket.create_connection((parts["host"], int(parts["port"])))


def _send_on(client: socket.socket, server: socket.socket, proxy: Proxy, lost: Lost) -> None:
    sent, recent = 0, b""
    while block := client.recv(65536):
        fault = proxy.faults[0] if proxy.faults else Fault()
        recent = (recent + block)[-len(block) - len(_COMMIT) :]
        if fault.after_bytes is not None and sent + len(block) > fault.after_bytes:
            proxy.happens(fault)
            if not fault.stall_seconds:
                server.sendall(block[: fault.after_bytes - sent])
                return
            time.sleep(fault.stall_seconds)
        if fault.at_commit and _COMMIT in recent:
            proxy.happens(fault)
            lost.holds = True
            if fault.at_commit != "unsent":
                server.sendall(block)
            while fault.at_commit == "answered" and not lost.has:
                time.sleep(0.005)
            return
        server.sendall(block)
        sent += len(block)


def _send_back(server: socket.socket, client: socket.socket, lost: Lost) -> None:
    with suppress(OSError):
        while block := server.recv(65536):
            if lost.holds:
                lost.has = True
            else:
                client.sendall(block)
    # Also where the server was killed, and its end of the connection reset.
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
