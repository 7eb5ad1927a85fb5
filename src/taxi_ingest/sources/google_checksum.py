"""CRC32C, the one checksum that Google has of an object that was composed of others.

obstore doesn't tell it; Google's own library does, which takes a second to import: it is asked only for such
an object (https://cloud.google.com/storage/docs/data-validation).
"""

import base64
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_ingest.sources.bucket_logins import Options

if TYPE_CHECKING:
    from google.cloud.storage import Client

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60

_logger = logging.getLogger(__name__)


def differs_from_google(file: Path, bucket: str, key: str, version: str, given: Options | None) -> bool:
    """Whether a file is not what Google has as this version of an object.

    `given`: the login, else the usual one. Where Google does not answer, a warning says so.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        with _client(given) as client:
            about = client.bucket(bucket).get_blob(key, generation=int(version), timeout=_TIMEOUT_SECONDS)
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        _logger.warning("The checksum of %s was not told (%s); it has its length.", key, type(error).__name__)
        return False
    return about is not None and base64.b64decode(about.crc32c) != _crc32c(file)


def _client(given: Options | None) -> "Client":
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud.storage import Client

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return Client.create_anonymous_client()
    if given and "service_account_key" in given:
        return Client.from_service_account_info(json.loads(given["service_account_key"]))
    try:
        credentials, project = google.auth.default()
    except DefaultCredentialsError:
        return Client.create_anonymous_client()
    # It is of no consequence for reading, but one must be named.
    return Client(project or "none", credentials)


def _crc32c(path: Path) -> bytes:
    from google_crc32c import extend, value

    checksum = value(b"")
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = extend(checksum, block)
    # As Google spells it: big-endian.
    return int(checksum).to_bytes(4)
