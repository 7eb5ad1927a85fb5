"""Settings: `TAXI_INGEST_*` from the environment or a `.env` file in the current folder."""

from pathlib import Path

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from taxi_ingest.tlc import TLC_URL

DEFAULT_BLOCK = "postgres-connector"
"""The Prefect block whose database is used, if there is one and no other is named."""


class Settings(BaseSettings):
    """What can be set once instead of on every command line; .env.example explains each.

    A setting of the environment wins over the same one in `.env`.
    """

    model_config = SettingsConfigDict(env_prefix="TAXI_INGEST_", env_file=".env", extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    """Where to load: a libpq URL (`postgresql://user@host/database`). A password in it stays secret."""

    source_login: SecretStr | None = None
    """`user:password` for http sources that ask for one."""

    tlc_url: str = TLC_URL
    """Where TLC's files lie: an http(s) or file:// address, or a folder."""

    home: Path = Field(default_factory=lambda: user_data_path("taxi-ingest"))
    """The folder of the local stack: the embedded Postgres, Prefect's SQLite, logs."""

    cache_dir: Path = Field(default_factory=lambda: user_cache_path("taxi-ingest"))
    """The folder of downloads, which are kept until `cache_gb` are full."""

    cache_gb: float = Field(default=10, ge=0)
    """How many GB (10^9 bytes) of downloads are kept; those not used for longest go first."""

    download_tries: int = Field(default=5, ge=1)
    """How often in a row a download may fail without getting any further."""

    prefect_port: int = Field(default=4200, ge=1, le=65535)
    """The port on 127.0.0.1 of the local Prefect server."""

    @property
    def cache_bytes(self) -> int:
        """How many bytes of downloads are kept."""
        return int(self.cache_gb * 1_000_000_000)

    @property
    def login(self) -> tuple[str, str] | None:
        """User and password for http sources."""
        if self.source_login is None:
            return None
        user, _, password = self.source_login.get_secret_value().partition(":")
        return user, password
