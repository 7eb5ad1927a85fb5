"""The user whom Postgres runs as: ourselves, or `pgserver` if we are root, whom Postgres refuses.

That account gets its own data and nothing else: no folder of ours lets it in, and as root nothing is
written, given away or removed through a link that it may have planted.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from taxi_ingest.stack.residents import environment

_NAME = "pgserver"
_PROGRAMS = Path("/var/lib/taxi-ingest")
_ADMINISTRATORS_PATH = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"


def account() -> pwd.struct_passwd | None:
    """The other user if we are root, made if need be; None if we run Postgres as ourselves."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(_NAME)
    # Cron's PATH, for one, does not lead there.
    useradd = shutil.which("useradd", path=_ADMINISTRATORS_PATH) or "useradd"
    command = [useradd, "--system", "--user-group", "--no-create-home", _NAME]
    subprocess.run(command, check=True, capture_output=True)
    return pwd.getpwnam(_NAME)


def server_name() -> str | None:
    """The name of the user whom Postgres runs as; None for ourselves where we have no name."""
    if os.geteuid() == 0:
        return _NAME
    with suppress(KeyError):
        return pwd.getpwuid(os.geteuid()).pw_name
    return None


def server_owner() -> tuple[int, int]:
    """The user and group that Postgres's files belong to."""
    other = account()
    return (other.pw_uid, other.pw_gid) if other else (os.geteuid(), os.getegid())


def as_account(folder: Path = Path("/")) -> dict[str, Any]:
    """Arguments for subprocess: as the right user, and with nothing of ours that it could keep.

    The process gets into `folder` though its user may not pass the folders above: we go there before
    we become that user.
    """
    arguments: dict[str, Any] = {"cwd": folder, "env": environment(), "umask": 0o077}
    if other := account():
        arguments |= {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    return arguments


@contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """A file descriptor of a folder that is no link, for what is to be done in this folder and no other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def give_to_account(path: Path) -> None:
    """Make the user whom Postgres runs as the owner of a file, or of a folder, and the only one let in.

    Raises PermissionError if it belongs to somebody else.
    """
    owner = server_owner()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid not in {os.geteuid(), owner[0]}:
            raise PermissionError(f"{path} belongs to someone else")
        if found.st_uid != owner[0]:
            os.fchown(descriptor, *owner)
        os.fchmod(descriptor, 0o700 if stat.S_ISDIR(found.st_mode) else 0o600)
    finally:
        os.close(descriptor)


def runnable(programs: Path) -> Path:
    """A folder of programs as the user whom Postgres runs as can run them: a copy if it can't get there."""
    if os.geteuid() != 0 or _open_to_all(programs / "bin" / "postgres"):
        return programs
    made = (programs / "bin" / "postgres").stat()
    version = hashlib.sha256(f"{programs} {made.st_size} {made.st_mtime_ns}".encode()).hexdigest()[:16]
    copy = _PROGRAMS / f"{programs.name}-{version}"
    if not copy.exists():
        _PROGRAMS.mkdir(parents=True, exist_ok=True)
        _PROGRAMS.chmod(0o755)
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(programs, unfinished, symlinks=True)
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        unfinished.rename(copy)
    return copy


def unused_programs() -> list[Path]:
    """The copies of programs that `runnable` has made, but for those that run."""
    if os.geteuid() != 0 or not _PROGRAMS.is_dir():
        return []
    running = {found.info["exe"] or "" for found in psutil.process_iter(["exe"])}
    return [copy for copy in _PROGRAMS.iterdir() if not any(exe.startswith(f"{copy}/") for exe in running)]


def _open_to_all(program: Path) -> bool:
    """Whether anyone may run a program, and pass the folders above it."""
    passable = all(folder.stat().st_mode & stat.S_IXOTH for folder in program.resolve().parents)
    return passable and program.stat().st_mode & 0o005 == 0o005
