"""PostGIS, where a database has it: the zones' outlines as geometry, too."""

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from taxi_ingest.load.table import Target
from taxi_ingest.transform import Plan

_SCHEMA = """
SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'postgis'
"""


def add_geometry(cursor: Cursor, target: Target, plan: Plan) -> None:
    """Give a new table a column `geometry`, which Postgres itself keeps equal to the outline's text.

    Nothing happens where there is no PostGIS, or the table has no outlines.
    """
    text = next((column.name for column in plan.loaded if column.snake == "wkt"), None)
    cursor.execute(_SCHEMA)
    extension = cursor.fetchone()
    if text is None or extension is None:
        return
    cursor.execute(
        sql.SQL(
            "ALTER TABLE {table} ADD COLUMN geometry {schema}.geometry(MultiPolygon, 4326)"
            " GENERATED ALWAYS AS ({schema}.st_geomfromtext({text}, 4326)) STORED"
        ).format(table=target.sql, schema=sql.Identifier(extension[0]), text=sql.Identifier(text))
    )
