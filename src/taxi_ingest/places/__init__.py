"""Where tables are: Postgres, and what else files are loaded into, each behind one small protocol."""

from taxi_ingest.places.choice import choose_place, is_postgres, place_at
from taxi_ingest.places.place import Place
from taxi_ingest.places.postgres import Postgres

__all__ = ["Place", "Postgres", "choose_place", "is_postgres", "place_at"]
