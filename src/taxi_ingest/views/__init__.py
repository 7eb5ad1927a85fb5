"""Ready views and code tables on top of the loaded tables: an SQL file each, beside this one."""

from taxi_ingest.views.changes import Made, drop_views, make_views, refresh_views

__all__ = ["Made", "drop_views", "make_views", "refresh_views"]
