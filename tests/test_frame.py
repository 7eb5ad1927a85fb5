"""What the Makefile promises to those who use the project from a checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT, free_port
from taxi_ingest import stack
from taxi_ingest.settings.environment import Settings


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the project's Makefile and its installation."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


def _make(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["make", "-C", folder, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_an_activated_environment_is_not_what_it_is_made_anew_from(checkout: Path) -> None:
    """`make` removes .venv to make it anew: its own Python would be gone then."""
    path = f"{checkout / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    shown = _make(checkout, "--no-print-directory", "--eval", "show: ; @echo '$(PYTHON)'", "show", PATH=path)
    python = Path(shown.strip())
    assert python.is_file()
    assert not python.is_relative_to(checkout / ".venv")
    assert not python.is_relative_to(sys.prefix)


def test_clean_stops_the_servers_that_only_the_removed_installation_could_stop(
    checkout: Path, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", prefect_port=free_port())
    stack.start_database(settings)
    _make(
        checkout,
        "clean",
        TAXI_INGEST_HOME=str(settings.home),
        TAXI_INGEST_PREFECT_PORT=str(settings.prefect_port),
    )
    assert not (checkout / ".venv").is_symlink()
    assert not stack.status(settings).database.running
