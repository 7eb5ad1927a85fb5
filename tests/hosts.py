"""Other hosts for workers: network namespaces, from which this host is reached at an address of our own."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

HERE = "198.18.0.1"
"""This host, for the others; of the addresses that are set apart for tests (RFC 2544)."""
NETWORK = "198.18.0.0/24"


@contextmanager
def other_hosts(number: int) -> Iterator[list["Host"]]:
    """So many namespaces; the test is skipped where they are not permitted."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and iproute2")
    with ExitStack() as lasting:
        yield [lasting.enter_context(_host(each)) for each in range(number)]


class Host:
    """A namespace, and the address that it has."""

    def __init__(self, number: int) -> None:
        self.name = f"ti-{os.getpid()}-{number}"
        self.address = f"198.18.0.{10 + number}"

    @property
    def inside(self) -> Sequence[str]:
        """What a command begins with that is to run there."""
        return ("ip", "netns", "exec", self.name)


@contextmanager
def _host(number: int) -> Iterator[Host]:
    host = Host(number)
    if subprocess.run(["ip", "netns", "add", host.name], capture_output=True).returncode != 0:
        pytest.skip("network namespaces are not permitted here")
    try:
        _connect(host)
        yield host
    finally:
        # The pair of interfaces goes with it.
        _ip("netns", "del", host.name)


def _connect(host: Host) -> None:
    _ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _ip("address", "add", HERE, "peer", host.address, "dev", host.name)
    _ip("link", "set", host.name, "up")
    _ip("-n", host.name, "address", "add", host.address, "peer", HERE, "dev", "eth0")
    _ip("-n", host.name, "link", "set", "eth0", "up")
    _ip("-n", host.name, "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
