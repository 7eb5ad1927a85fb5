"""A lake: Parquet of one schema for all eras, one object a month, in a folder or a bucket."""

from pathlib import Path

from taxi_ingest.places.lake.lake import Lake
from taxi_ingest.places.lake.objects import Bucket, Folder
from taxi_ingest.settings.environment import BucketLogin
from taxi_ingest.sources.buckets import check_installed, parse_bucket_url

__all__ = ["Lake", "lake_at", "lake_in"]


def lake_at(folder: Path) -> Lake:
    """The lake in a folder."""
    return Lake(Folder(folder))


def lake_in(url: str, login: BucketLogin | None = None) -> Lake:
    """The lake in a bucket, below the prefix of its URL, opened with a login or the usual credentials.

    Raises UsageError for what is no such URL, and where the extra for buckets isn't installed.
    """
    root = parse_bucket_url(url, "prefix")
    check_installed()
    return Lake(Bucket(root, login))
