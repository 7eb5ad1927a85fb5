"""Where the files of TLC's catalogue lie: on its site, on a mirror or in a folder."""

from datetime import date

from taxi_ingest import tlc
from taxi_ingest.settings import Settings
from taxi_ingest.sources import first_that_exists, login_of


def month_address(settings: Settings, dataset: str, month: str) -> tuple[str, str]:
    """The address of a dataset's month, and the table that it goes to if no other is named.

    Under TLC's own address all months are Parquet; a mirror is asked which format it has.
    """
    found = tlc.dataset_named(dataset)
    addresses = tlc.addresses(found, month, settings.tlc_url, date.today())
    if settings.tlc_url == tlc.TLC_URL:
        return addresses[0], found.table
    return first_that_exists(addresses, _login(settings)), found.table


def zones_address(settings: Settings) -> tuple[str, str]:
    """The address of the taxi zone lookup, and its table."""
    table = tlc.dataset_named("zones").table
    if settings.tlc_url == tlc.TLC_URL:
        return tlc.ZONES_URL, table
    addresses = [f"{settings.tlc_url.rstrip('/')}/{name}" for name in tlc.ZONES_FILES]
    return first_that_exists(addresses, _login(settings)), table


def _login(settings: Settings) -> tuple[str, str] | None:
    """The mirror's login, which may stand in its address."""
    return settings.with_login(login_of(settings.tlc_url)).login_for(settings.tlc_url)
