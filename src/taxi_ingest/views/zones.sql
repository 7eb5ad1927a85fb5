-- The taxi zones: what pickup_location_id and dropoff_location_id refer to.
SELECT
    location_id,
    borough,
    zone,
    service_zone,
    longitude,
    latitude,
    geojson,
    wkt
FROM {zones} AS zone
