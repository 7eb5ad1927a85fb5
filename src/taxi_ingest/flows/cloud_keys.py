"""What a cloud gives its users as a key, read as what a block keeps.

What is no key is told by UnusableCredentials, which repeats nothing of it.
"""

import configparser
import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taxi_ingest.sources.bucket_logins import UnusableCredentials

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_PARTS = ("private_key", "client_email", "token_uri")
"""Without which the key of a service account is none."""


def read_google_key(path: str) -> dict[str, Any]:
    """The key of a service account, as Google's console gives it; `-` is standard input."""
    name = _name(path)
    try:
        key = json.loads(_text(path))
    except (ValueError, RecursionError):
        raise UnusableCredentials(f"{name} is no JSON, or not all of it") from None
    google_credentials(key, name)
    return dict(key)


def read_amazon_key(path: str) -> dict[str, str]:
    """An access key: the CSV of Amazon's console, or a file like ~/.aws/credentials; `-` is stdin."""
    text = _text(path)
    found = _of_csv(text) or _of_profile(text)
    if found is None:
        raise UnusableCredentials(f"{_name(path)} is no access key of Amazon's")
    for part, value in found.items():
        if not value:
            raise UnusableCredentials(f"{_name(path)} has no {part}")
    return found


def _name(path: str) -> str:
    return "the key on standard input" if path == "-" else f"the key file {path}"


def _text(path: str) -> str:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UnusableCredentials(f"{_name(path)} can't be read: {reason}") from None
    return text.lstrip("\ufeff")


def google_credentials(key: Any, what: str) -> Any:
    """What Google's own libraries take of the key of a service account."""
    from google.oauth2.service_account import Credentials

    if not isinstance(key, Mapping) or key.get("type") != "service_account":
        raise UnusableCredentials(f"{what} is no key of a service account")
    for part in _PARTS:
        if not isinstance(key.get(part), str) or not key[part]:
            raise UnusableCredentials(f"{what} has no {part}")
    try:
        return Credentials.from_service_account_info(key, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    except ValueError:
        raise UnusableCredentials(f"{what} has a private_key that is none, or not all of it") from None


def _of_csv(text: str) -> dict[str, str] | None:
    row = next(csv.DictReader(text.splitlines()), {})
    if "Secret access key" not in row:
        return None
    return _named(row.get("Access key ID"), row["Secret access key"])


def _of_profile(text: str) -> dict[str, str] | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        profile = parser[parser.sections()[0]]
    except (configparser.Error, IndexError):
        return None
    return _named(profile.get("aws_access_key_id"), profile.get("aws_secret_access_key"))


def _named(key_id: str | None, secret: str | None) -> dict[str, str]:
    return {"aws_access_key_id": key_id or "", "aws_secret_access_key": secret or ""}
