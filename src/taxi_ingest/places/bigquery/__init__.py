"""BigQuery: a table's months as its partitions, filled by load jobs alone."""

from taxi_ingest.places.bigquery.warehouse import BigQuery, parse_address

__all__ = ["BigQuery", "parse_address"]
