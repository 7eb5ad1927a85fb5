"""A lake: Parquet of one schema for all eras, one object a month, in a folder or a bucket."""

from taxi_ingest.places.lake.lake import Lake

__all__ = ["Lake"]
