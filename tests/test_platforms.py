"""taxi-ingest installs, and keeps every value, on each platform that README names."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from helpers import ROOT

PLATFORMS = {
    "Linux on x86-64": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "Linux on ARM": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macOS on Apple silicon": {"sys_platform": "darwin", "platform_machine": "arm64"},
}


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"]]


def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line.removesuffix(" \\")) for line in lines if line and not line.startswith(" ")]


def applying(requirements: list[Requirement], name: str, platform: str) -> list[Requirement]:
    return [
        one
        for one in requirements
        if one.name == name and (one.marker is None or one.marker.evaluate(PLATFORMS[platform]))
    ]


def version(pinned: Requirement) -> str:
    (pin,) = pinned.specifier
    return pin.version


@pytest.mark.parametrize(
    ("platform", "release"),
    [("Linux on x86-64", "0.12"), ("Linux on ARM", "0.9"), ("macOS on Apple silicon", "0.12")],
)
def test_each_platform_gets_the_pgpq_that_has_a_wheel_for_it(platform: str, release: str) -> None:
    (asked,) = applying(wanted(), "pgpq", platform)
    (pinned,) = applying(locked(), "pgpq", platform)
    assert version(pinned).startswith(f"{release}.")
    assert version(pinned) in asked.specifier


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_pins_each_dependency_once_on_each_platform(platform: str) -> None:
    for requirement in wanted():
        for one in applying([requirement], requirement.name, platform):
            (pinned,) = applying(locked(), one.name, platform)
            assert version(pinned) in one.specifier


def test_the_lock_names_no_registry() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


@pytest.mark.slow
def test_values_stay_as_they_are_with_the_pgpq_of_linux_on_arm(tmp_path: Path) -> None:
    (arm,) = applying(locked(), "pgpq", "Linux on ARM")
    package = f"pgpq=={version(arm)}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), package]
    if subprocess.run(pip).returncode != 0:
        pytest.skip(f"{package} can't be fetched here")
    tests = [ROOT / "tests" / "test_values.py", "-k", "arrive or digits or cannot_hold"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses", "0", "--quiet", *tests],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
