"""The marks by which a flow run's process is found again.

A run carries both from the moment that it is created, as it may be killed in the next: a tag, by which
Prefect can look for it, names the machine and the user; its flow's version, which lists of runs do not show,
names the process. Nothing here imports Prefect.
"""

import hashlib
import os
import re
import socket
from pathlib import Path

import psutil

_MARK = re.compile(r"process:(?P<boot>\w+)/(?P<pid>\d+)/(?P<began>\d+)", re.ASCII)
_HOST_NAMESPACE = "pid:[4026531836]"
"""The machine's own namespace of process numbers, no container's (PROC_PID_INIT_INO in Linux' proc_ns.h)."""


def is_dead(flow_version: str | None) -> bool:
    """Whether the process that the version of a run of this machine names is gone."""
    mark = _MARK.fullmatch(flow_version or "")
    return mark is not None and not _lives(mark)


def _lives(mark: re.Match[str]) -> bool:
    began = _began(int(mark["pid"])) if mark["boot"] == _boot() else None
    # A tick, or a second where the system tells no ticks: no number comes round as fast as that.
    return began is not None and abs(began - int(mark["began"])) <= 1


def process_mark(pid: int) -> str:
    """The flow's version of a run that this process of ours is."""
    return f"process:{_boot()}/{pid}/{_began(pid) or 0:.0f}"


def machine_tag() -> str:
    """This machine and user; in a container this boot and namespace, as images share names and ids."""
    namespace = _link("/proc/self/ns/pid")
    identity = _text("/etc/machine-id") if namespace in ("", _HOST_NAMESPACE) else ""
    identity = identity or f"{namespace} {_boot()}"
    return f"machine:{os.getuid()}@{socket.gethostname()}/{_digest(identity)}"


def _boot() -> str:
    """Which start of the machine this is; the same for all where the system does not tell."""
    return _digest(_text("/proc/sys/kernel/random/boot_id"))


def _began(pid: int) -> float | None:
    """When a process began, None if it is gone or waits, dead, for its parent.

    On Linux in ticks since the machine started (proc_pid_stat(5), field 22): its time of creation is
    reckoned from the clock, and moves with it. Elsewhere in seconds since 1970.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _created(pid)
    return None if fields[0] in (b"Z", b"X") else float(fields[19])


def _created(pid: int) -> float | None:
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except psutil.Error:
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
