"""A month of TLC's catalogue -> its address: on TLC's site, on a mirror or in a folder."""

from collections.abc import Sequence
from datetime import date

from taxi_ingest import tlc
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import Source, logins_of, parse_source


def month_address(dataset: str, month: str, settings: Settings | None = None) -> str:
    """The address of a dataset's month (`2024-01`), as `ingest` takes it; a login in `tlc_url` is left out.

    Under TLC's own address all months are Parquet; a mirror is asked which format it has. Raises UsageError
    for what is no dataset or none of its months, SourceError where a mirror on another machine is no URL.
    """
    settings = settings or Settings()
    return _first_that_exists(_addresses(dataset, month, settings), settings)


def month_sources(dataset: str, month: str, settings: Settings) -> list[Source]:
    """Where a dataset's month may lie, the likeliest first; nobody is asked. Raises as `month_address`."""
    return [parse_source(address, logins_of(settings)) for address in _addresses(dataset, month, settings)]


def _addresses(dataset: str, month: str, settings: Settings) -> Sequence[str]:
    found = tlc.trips_named(dataset)
    base = _base(found, settings).replace("{month}", month)
    addresses = tlc.addresses(found, month, base, date.today())
    return addresses[:1] if settings.tlc_url == tlc.TLC_URL else addresses


def zones_address(settings: Settings) -> str:
    """The address of the taxi zone lookup."""
    if settings.tlc_url == tlc.TLC_URL:
        return tlc.ZONES_URL
    base = _base(tlc.dataset_named("zones"), settings)
    return _first_that_exists([f"{base}/{name}" for name in tlc.ZONES_FILES], settings)


def shapes_address(settings: Settings) -> str | None:
    """The address of the zones' outlines; None where a mirror has none."""
    if settings.tlc_url == tlc.TLC_URL:
        return tlc.SHAPES_URL
    base = _base(tlc.dataset_named("zones"), settings)
    sources = [parse_source(f"{base}/{name}", logins_of(settings)) for name in tlc.SHAPES_FILES]
    return next((source.named_url for source in sources if source.find()), None)


def _base(dataset: tlc.Dataset, settings: Settings) -> str:
    return settings.tlc_url.rstrip("/").replace("{dataset}", dataset.name)


def _first_that_exists(addresses: Sequence[str], settings: Settings) -> str:
    """The first address under which a file lies; the very first one if there is none, or no choice."""
    sources = [parse_source(address, logins_of(settings)) for address in addresses]
    only = len(sources) == 1
    return next((source for source in sources if only or source.find()), sources[0]).named_url
