"""A port is free when its server starts, however long after it was chosen."""

import socket
import subprocess
import sys
from pathlib import Path

from ports import free_port

_ASKS = "import ports; print(*(ports.free_port() for _ in range(300)), flush=True); input()"


def test_no_port_is_given_twice_by_whichever_process() -> None:
    command, pipe = [sys.executable, "-c", _ASKS], subprocess.PIPE
    asking = [
        subprocess.Popen(command, cwd=Path(__file__).parent, stdin=pipe, stdout=pipe, text=True)
        for _ in range(2)
    ]
    given = [port for each in asking if each.stdout for port in each.stdout.readline().split()]
    for each in asking:
        each.communicate("\n")
    assert len(given) == len(set(given)) == 600


def test_a_server_can_listen_at_a_port_and_no_connection_takes_it() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", 0)) as other:
        assert port < other.getsockname()[1]
