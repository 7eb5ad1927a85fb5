"""Where a file comes from, as a value that can fetch it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from taxi_ingest.sources.cache import Cache
from taxi_ingest.sources.file import SourceFile, Validators

DEFAULT_TRIES = 5


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download has come; `total` is None where the server does not say."""

    bytes: int
    total: int | None


@dataclass(frozen=True)
class Found:
    """A file that is there."""

    bytes: int | None = None
    """Its length, where that is told."""


@dataclass(frozen=True)
class Source(ABC):
    """Where a file comes from: parsed once, it knows how to say "unchanged" and how to fetch itself.

    Each kind of source is a subclass in a module of its own. The login that one needs is never shown.
    """

    url: str
    """Its one address, however it was spelled, without login and fragment: what the ledger knows it by."""
    named_url: str
    """The same, but that links are not followed. Parsed again, it is this source; Prefect may store it."""
    name: str
    """The file's name, a hint for its month."""

    is_remote: ClassVar[bool] = False
    """Whether to fetch it takes a network."""

    @abstractmethod
    def fetch(
        self,
        folder: Path,
        cache: Cache,
        *,
        known: Validators | None = None,
        tries: int = DEFAULT_TRIES,
        on_progress: Callable[[DownloadProgress], None] = lambda _: None,
    ) -> SourceFile | None:
        """The file, whole, with its sha256; what is not this machine's own is put into `folder`.

        With the validators `known` from an earlier download the answer may be None: the file is the same
        still. A download goes through `cache`; one that fails is tried again, `tries` times in a row without
        getting any further. Raises SourceError where the file can't be had whole.
        """

    @abstractmethod
    def is_unchanged(self, sha256: str, validators: Validators) -> bool:
        """Whether the file surely is the one that had this sha256 and these validators.

        Raises SourceError where it can't be had.
        """

    @abstractmethod
    def is_changed(self, sha256: str, validators: Validators) -> bool:
        """Whether the file surely is another now; not where that can't be told. Raises SourceError."""

    @abstractmethod
    def find(self) -> Found | None:
        """What is known of the file before it is fetched; None where there is no such file.

        Nothing is known, too, where that can't be found out: fetching it says why.
        """

    def check(self) -> None:  # noqa: B027
        """Raise UsageError for what can be told to be in vain before anything is fetched."""
