"""Where each setting comes from: the environment, a `.env` file or the default."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dotenv import dotenv_values
from pydantic import SecretStr

from taxi_ingest.errors import nearest, without_login
from taxi_ingest.settings.environment import Settings

PREFIX = "TAXI_INGEST_"

_FILE = str(Settings.model_config["env_file"])


@dataclass(frozen=True)
class SettingOrigin:
    """A setting: its variable, its value as it may be shown, and who has set it."""

    variable: str
    shown: str
    origin: str
    """`environment`, `.env` or `default`."""


def setting_origins(settings: Settings) -> list[SettingOrigin]:
    """All settings, in the order of the class. Of a secret only that it is set is shown."""
    given = _given()
    return [
        SettingOrigin(variable, _shown(getattr(settings, name)), given.get(variable, "default"))
        for name in Settings.model_fields
        for variable in [f"{PREFIX}{name}".upper()]
    ]


def unknown_variables() -> Iterator[tuple[str, str]]:
    """Each variable that is named like a setting and is none, and the setting it may mean, or nothing."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for variable in sorted(_given().keys() - known):
        yield variable, nearest(variable, known) or ""


def _given() -> dict[str, str]:
    """Who has set each variable: the environment wins, and what is empty is not set."""
    return {
        **dict.fromkeys(_ours(dotenv_values(_FILE).items()), _FILE),
        **dict.fromkeys(_ours(os.environ.items()), "environment"),
    }


def _ours(variables: Iterable[tuple[str, str | None]]) -> list[str]:
    return [name.upper() for name, value in variables if name.upper().startswith(PREFIX) and value]


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(set)"
    return "(not set)" if value is None else without_login(str(value))
