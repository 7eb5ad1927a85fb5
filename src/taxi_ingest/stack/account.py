"""The user whom Postgres runs as: ourselves, or `pgserver` if we are root, whom Postgres refuses."""

import os
import pwd
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from taxi_ingest.stack.residents import environment

_NAME = "pgserver"


def account() -> pwd.struct_passwd | None:
    """The other user if we are root, made if need be; None if we run Postgres as ourselves."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(_NAME)
    command = ["useradd", "--system", "--user-group", "--no-create-home", _NAME]
    subprocess.run(command, check=True, capture_output=True)
    return pwd.getpwnam(_NAME)


def as_account() -> dict[str, Any]:
    """Arguments for subprocess: as the right user, and with nothing of ours that it could keep."""
    arguments: dict[str, Any] = {"cwd": "/", "env": environment(), "umask": 0o077}
    if other := account():
        arguments |= {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    return arguments


def give_to_account(path: Path) -> None:
    """Make the other user the owner, if there is one."""
    if other := account():
        os.chown(path, other.pw_uid, other.pw_gid)


def is_ours(folder: Path) -> bool:
    """Whether a folder belongs to us or to the other user."""
    other = account()
    return folder.stat().st_uid in {os.geteuid(), other.pw_uid if other else os.geteuid()}


def let_through(path: Path) -> None:
    """Let the other user pass the folders above a path, but not list them."""
    for folder in path.parents:
        _add_mode(folder, stat.S_IXOTH)


def let_read(folder: Path) -> None:
    """Let the other user read a folder and what is in it, and run its programs."""
    let_through(folder)
    for path in [folder, *folder.rglob("*")]:
        runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        _add_mode(path, stat.S_IROTH | (stat.S_IXOTH if runs else 0))


def _add_mode(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)
