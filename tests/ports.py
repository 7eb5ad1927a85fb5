"""Ports for servers that are started later, by others: no second one is told the same."""

import random
import socket

_PORTS = range(20_000, 32_768)
"""None of those that systems choose from, for a connection or for a server that takes any."""
_locks: list[socket.socket] = []


def free_port() -> int:
    """A port that nobody listens at, and that no other test is given while this process lives.

    The UDP port of its number, by which nothing here speaks, is the lock.
    """
    while True:
        port = random.choice(_PORTS)
        lock = socket.socket(type=socket.SOCK_DGRAM)
        try:
            lock.bind(("", port))
            socket.create_server(("", port)).close()
        except OSError:
            lock.close()
        else:
            _locks.append(lock)
            return port
