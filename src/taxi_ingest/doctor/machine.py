"""This machine: Python, the packages, folders and their disks."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from taxi_ingest.doctor.finding import Finding, failed, note, ok
from taxi_ingest.errors import TaxiIngestError, UsageError
from taxi_ingest.settings.environment import Settings

_LITTLE_ROOM_BYTES = 2_000_000_000
"""A month of TLC's largest dataset, downloaded and loaded, takes about as much."""

_PACKAGE = "taxi-ingest"


def examine_python() -> list[Finding]:
    """Python and ourselves, and whether the packages are those that we need."""
    found = f"{_PACKAGE} {version(_PACKAGE)}, Python {platform.python_version()}, {platform.platform()}"
    wrong = list(_wrong_packages())
    return [ok("program", found), *([failed("packages", _unfit(wrong))] if wrong else [_packages()])]


def _packages() -> Finding:
    shown = ("prefect", "prefect-sqlalchemy", "sqlalchemy", "psycopg2-binary", "pyarrow", "pandas", "typer")
    return ok("packages", ", ".join(f"{name} {version(name)}" for name in shown))


def _wrong_packages() -> Iterator[str]:
    """Each package that is missing, or of a version that we don't work with."""
    for text in requires(_PACKAGE) or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield f"{requirement.name} is {installed}, and not {requirement.specifier}"


def _unfit(wrong: list[str]) -> TaxiIngestError:
    return TaxiIngestError("; ".join(wrong), f"Install it anew: pip install --upgrade {_PACKAGE}")


def examine_folders(settings: Settings) -> list[Finding]:
    """Whether the folders can be written, and how much room there is."""
    folders = {
        "home": settings.home,
        "cache": settings.cache_dir,
        "temporary": Path(tempfile.gettempdir()),
    }
    return [_folder(name, path) for name, path in folders.items()]


def _folder(name: str, path: Path) -> Finding:
    subject = f"{name} folder"
    there = next(part for part in (path, *path.parents) if part.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "is no folder" if not there.is_dir() else "can't be written"
        return failed(subject, UsageError(f"{there} {reason}.", _FOLDER_HINT))
    free = shutil.disk_usage(there).free
    found = f"{path}, {free / 1e9:,.1f} GB free"
    if free < _LITTLE_ROOM_BYTES:
        return note(subject, found, "Free disk space: a large month takes 2 GB here while it is loaded.")
    return ok(subject, found)


_FOLDER_HINT = "Name a folder that you may write to: TAXI_INGEST_HOME, TAXI_INGEST_CACHE_DIR, TMPDIR."
