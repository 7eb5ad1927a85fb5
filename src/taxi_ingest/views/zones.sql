-- The taxi zones: what pickup_location_id and dropoff_location_id refer to, and where they lie.
SELECT
    zone.location_id,
    zone.borough,
    zone.zone,
    zone.service_zone,
    shape.longitude,
    shape.latitude,
    shape.geojson,
    shape.wkt
FROM {zones} AS zone
LEFT JOIN {zone_shapes} AS shape ON shape.location_id = zone.location_id
