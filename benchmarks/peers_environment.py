"""The peers' environment: what peers.txt pins, apart from ours."""

import subprocess
import sys
from pathlib import Path

_WANTED = Path(__file__).with_name("peers.txt")


def make_peers(folder: Path) -> Path:
    """Install the peers into `folder`, unless that has been done; return its Python.

    What can't be installed is left out: its contender then fails, and the table says so.
    """
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.exists() and done.read_bytes() == _WANTED.read_bytes():
        return python
    print("Installing the peers …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    if _install(python, "-r", str(_WANTED)):
        done.write_bytes(_WANTED.read_bytes())
        return python
    # One that can't be had takes none of the others with it; the next run tries them all again.
    for pin in pins():
        _install(python, pin)
    return python


def pins() -> list[str]:
    """`name==version` of each."""
    lines = _WANTED.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _install(python: Path, *what: str) -> bool:
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--quiet",
        "--disable-pip-version-check",
        *what,
    ]
    return subprocess.run(command, check=False).returncode == 0
