-- Trips of for-hire vehicles: zones of both ends, duration.
SELECT
    part.load_id,
    load.month AS file_month,
    trip.dispatching_base_num,
    trip.affiliated_base_number,
    trip.pickup_datetime,
    trip.dropoff_datetime,
    extract(epoch FROM trip.dropoff_datetime - trip.pickup_datetime)::double precision / 60
        AS duration_minutes,
    trip.pickup_location_id,
    pickup.borough AS pickup_borough,
    pickup.zone AS pickup_zone,
    trip.dropoff_location_id,
    dropoff.borough AS dropoff_borough,
    dropoff.zone AS dropoff_zone,
    trip.sr_flag
FROM {fhv} AS trip
LEFT JOIN taxi_ingest.parts AS part ON part._load_id = trip._load_id
LEFT JOIN taxi_ingest.loads AS load ON load.load_id = part.load_id
LEFT JOIN {schema}.zones AS pickup ON pickup.location_id = trip.pickup_location_id
LEFT JOIN {schema}.zones AS dropoff ON dropoff.location_id = trip.dropoff_location_id
