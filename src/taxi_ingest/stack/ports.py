"""Who has a port of 127.0.0.1."""

import socket
from contextlib import suppress

import psutil


def is_taken(port: int) -> bool:
    """Whether anybody listens on it."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listens(found: psutil.Process, port: int) -> bool:
    """Whether it is this process that has it."""
    try:
        sockets = found.net_connections("tcp4")
    except psutil.Error:
        return False
    own = ("127.0.0.1", port)
    return any(each.status == psutil.CONN_LISTEN and tuple(each.laddr) == own for each in sockets)


def holder(port: int) -> str:
    """Who listens on it, as far as we may know: `postgres (process 7)`, else `another program`."""
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and tuple(each.laddr)[1] == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (process {each.pid})"
    return "another program"
