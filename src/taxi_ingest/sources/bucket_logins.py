"""What the environment says of who asks a cloud for a bucket, where obstore does not look for it itself.

Each is handed to obstore's store of that cloud; what it does look for is left to it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class UnusableCredentials(Exception):
    """A cloud's own library says so, or we do, and why."""


Options = Mapping[str, Any]
"""What obstore's store of a cloud is made with."""


def google_login(given: Options | None) -> Options:
    """For Google Cloud Storage: what is given, a key file, or what gcloud left; but an emulator before all.

    Raises UnusableCredentials.
    """
    if host := os.environ.get("STORAGE_EMULATOR_HOST"):
        # It asks for no token, but obstore does not write without one.
        return {"base_url": host if "://" in host else f"http://{host}", "bearer_token": "emulator"}
    if given is not None:
        return given
    if any(name in os.environ for name in _GOOGLE_OWN):
        return {}
    path = _google_file()
    if path and _google_kind(path) in ("service_account", "authorized_user"):
        # obstore signs a service account's requests itself: no token has to be fetched.
        return {"application_credentials": str(path)}
    return _google_default(path)


_GOOGLE_OWN = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
)
"""Variables of obstore's own, which it heeds itself."""


def _google_file() -> Path | None:
    """The file of Application Default Credentials, if there is one
    (https://cloud.google.com/docs/authentication/application-default-credentials)."""
    if named := os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return Path(named)
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser("~/.config/gcloud")  # noqa: PTH111
    path = Path(folder) / "application_default_credentials.json"
    return path if path.exists() else None


def _google_kind(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text())
        return str(found["type"])
    except OSError as error:
        raise UnusableCredentials(f"{path} can't be read, {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UnusableCredentials(f"{path} is no key file of Google's") from None


def _google_default(path: Path | None) -> Options:
    """What Google's own library finds: a workload's identity, or a machine's; else nobody."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from obstore.auth.google import GoogleCredentialProvider

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])
    except GoogleAuthError:
        if path:
            raise UnusableCredentials(f"{path} is of a kind that Google's library can't use") from None
        return {"skip_signature": True}
    return {"credential_provider": GoogleCredentialProvider(credentials)}


def amazon_login(given: Options | None) -> Options:
    """For S3: what is given, its keys, else what its own library finds. Raises UnusableCredentials."""
    if given is not None:
        return given
    if "AWS_ACCESS_KEY_ID" in os.environ or "AWS_SKIP_SIGNATURE" in os.environ:
        return {}
    return amazon_session_login()


def amazon_session_login(**session: Any) -> Options:
    """What Amazon's own library finds: a profile, a sign-on, a machine's role; else nobody."""
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        opened = boto3.Session(**session)
        found = opened.get_credentials()
    except BotoCoreError as error:
        raise UnusableCredentials(str(error).rstrip(".")) from None
    if found is None:
        region = {"region": opened.region_name} if opened.region_name else {}
        return {"skip_signature": True, **region}
    return {"credential_provider": Boto3CredentialProvider(opened)}


_AZURE_NAMES = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "BlobEndpoint": "endpoint",
    "SharedAccessSignature": "sas_key",
}
"""A part of a connection string -> what obstore calls it."""


def azure_login(given: Options | None) -> Options:
    """For Azure: what is given, a connection string, or the variables of its command line."""
    if given is not None:
        return given
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.partition("=")[::2] for part in text.split(";"))
    if parts.get("UseDevelopmentStorage") == "true":
        return {"use_emulator": True}
    usual = {
        "account_name": os.environ.get("AZURE_STORAGE_ACCOUNT"),
        "account_key": os.environ.get("AZURE_STORAGE_KEY"),
    }
    given = {name: parts.get(part) for part, name in _AZURE_NAMES.items()}
    return {name: value for name, value in {**usual, **given}.items() if value}
