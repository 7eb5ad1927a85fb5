"""What sources have in common that are downloaded: all of them speak http, or answer as it does."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from taxi_ingest.settings.environment import DOWNLOAD_TRIES
from taxi_ingest.sources.cache import Cache, DiskFull, Validators, linked, storing
from taxi_ingest.sources.download import Downloader, check_status, differs_from_headers
from taxi_ingest.sources.source import DownloadProgress, Source, SourceFile


@dataclass(frozen=True)
class Remote(Source):
    """A file that lies elsewhere, and is asked for by the headers of http."""

    is_remote = True

    @abstractmethod
    def ask(self, headers: dict[str, str]) -> AbstractContextManager[httpx.Response]:
        """The answer, its body not yet read, to a GET with these headers.

        Raises PassingError where connecting or reading breaks off, SourceError where it is hopeless.
        """

    def checked_by(self) -> Callable[[httpx.Response, Path, bytes], bool]:
        """What one download is checked by; see `Downloader.is_damaged`."""
        return differs_from_headers

    def fetch(
        self,
        folder: Path,
        cache: Cache,
        *,
        known: Validators | None = None,
        tries: int = DOWNLOAD_TRIES,
        on_progress: Callable[[DownloadProgress], None] = lambda _: None,
    ) -> SourceFile | None:
        """The file, downloaded into `cache` and linked into `folder`.

        On a full disk the other downloads that the cache keeps make room.
        """

        def downloaded() -> SourceFile | None:
            with cache.entry(self.url) as entry:
                downloader = Downloader(
                    self.url,
                    self.name,
                    self.ask,
                    entry,
                    known or Validators(),
                    on_progress,
                    self.checked_by(),
                )
                found = downloader.run(tries)
                with storing(folder):
                    return found and replace(found, path=linked(found.path, folder, self.name))

        try:
            file = downloaded()
        except DiskFull:
            if not cache.make_room(keep=self.url):
                raise
            file = downloaded()
        cache.trim()
        return file

    def is_unchanged(self, sha256: str, validators: Validators) -> bool:
        """Whether its server says that it is still this version; one round trip."""
        del sha256
        return self._answer_unless_same(validators) == httpx.codes.NOT_MODIFIED

    def is_changed(self, sha256: str, validators: Validators) -> bool:
        """Whether its server says that it is another version; one round trip."""
        del sha256
        return self._answer_unless_same(validators) == httpx.codes.OK

    def _answer_unless_same(self, validators: Validators) -> int | None:
        """The status of the answer to a conditional request; None where there is no condition."""
        if not validators:
            return None
        with self.ask(validators.unless_same()) as response:
            return response.status_code

    def peek(self, length: int) -> bytes:
        """The first bytes of what its server sends."""
        with self.ask({"Range": f"bytes=0-{length - 1}"}) as response:
            check_status(self.url, response)
            return next(response.iter_bytes(length), b"")
