"""Settings, for all loads: `TAXI_INGEST_*` from the environment or a `.env` file in the current folder.

What each load may be told otherwise, such as its chunk size, stands in job.py with its default: that is read
for `--help` too, which need not wait a quarter of a second for pydantic.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn, Self

from platformdirs import user_cache_path, user_data_path
from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from taxi_ingest.tlc import TLC_URL

LOGIN_FORM = "write https://user:password@host, special characters percent-encoded"
"""What to do about a `source_login` that is none."""

DOWNLOAD_TRIES = 5
"""How often in a row a download may fail without getting any further, unless told."""

_HTTP = ("http://", "https://")
_URL_WITH_LOGIN = re.compile(r"https?://[^\s/?#]+@[^\s/?#@]", re.IGNORECASE)


def _whole(path: Path) -> Path:
    """An absolute path, `~` resolved."""
    whole = os.path.expanduser(path)  # noqa: PTH111
    if whole.startswith("~"):
        raise ValueError("there is no home folder: set HOME, or this to an absolute path")
    try:
        return Path(os.path.abspath(whole))  # noqa: PTH100
    except OSError as error:
        raise ValueError(f"the current folder can't be used ({error.strerror})") from None


def _usual(path_of: Callable[[str], Path]) -> Path:
    try:
        return path_of("taxi-ingest")
    except RuntimeError:
        # There is neither HOME nor an entry for us in the password file.
        return Path("~")


Folder = Annotated[Path, AfterValidator(_whole)]


@dataclass(frozen=True)
class BucketLogin:
    """What opens the buckets of one cloud instead of what the environment has; neither shown nor stored."""

    scheme: str
    """That of the cloud's addresses: gs, s3 or az."""
    options: Mapping[str, Any] = field(repr=False)
    """What obstore's store of this cloud is made with."""

    def __reduce__(self) -> NoReturn:
        # Prefect stores what it pickles.
        raise TypeError("A login is not to be pickled.")


class Settings(BaseSettings):
    """What can be set once instead of on every command line; .env.example explains each.

    A setting of the environment wins over the same one in `.env`.
    """

    model_config = SettingsConfigDict(
        env_prefix="TAXI_INGEST_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    database_url: SecretStr | None = None
    """Where to load: a libpq URL (`postgresql://user@host/database`). A password in it stays secret."""

    source_login: SecretStr | None = None
    """For http sources that ask for one: `https://user:password@host`, several separated by blanks, each
    for its own host. A bare `user:password` is for the host that the command line names."""

    tlc_url: str = TLC_URL
    """Where TLC's files lie: an address (http, https, file, gs, s3, az), or a folder. `{dataset}` in it
    stands for the dataset's name, `{month}` for the month."""

    home: Folder = Field(default_factory=lambda: _usual(user_data_path))
    """The folder of the local stack: the embedded Postgres, Prefect's SQLite, logs."""

    cache_dir: Folder = Field(default_factory=lambda: _usual(user_cache_path))
    """The folder of downloads, which are kept until `TAXI_INGEST_CACHE_GB` are full."""

    cache_gb: float = Field(default=10, ge=0, le=1e9, allow_inf_nan=False)
    """How many GB (10^9 bytes) of downloads are kept; those not used for longest go first."""

    download_tries: int = Field(default=DOWNLOAD_TRIES, ge=1)
    """How often in a row a download may fail without getting any further."""

    prefect_port: int = Field(default=4200, ge=1, le=65535)
    """The port on 127.0.0.1 of the local Prefect server."""

    postgres_port: int | None = Field(default=None, ge=1024, le=65535)
    """The port on 127.0.0.1 of the embedded Postgres, for programs that can't use its socket; without it, the
    one that `up --port` has set, if any."""

    _bucket_login: BucketLogin | None = PrivateAttr(default=None)

    @property
    def bucket_login(self) -> BucketLogin | None:
        """What a block of Prefect's opens buckets with. It is never set, but handed on with the settings."""
        return self._bucket_login

    def with_bucket_login(self, login: BucketLogin) -> Self:
        """The same settings with it."""
        copy = self.model_copy()
        copy._bucket_login = login
        return copy

    @property
    def cache_bytes(self) -> int:
        """How many bytes of downloads are kept."""
        return int(self.cache_gb * 1_000_000_000)

    @field_validator("source_login")
    @classmethod
    def _check_login(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if text.lower().startswith(_HTTP) and not all(map(_URL_WITH_LOGIN.match, text.split())):
            raise ValueError(LOGIN_FORM)
        return value
