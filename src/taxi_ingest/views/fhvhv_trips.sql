-- Trips by the apps (Uber, Lyft, Via, Juno): the app's name, zones of both ends, waiting, duration and speed.
SELECT
    part.load_id,
    load.month AS file_month,
    trip.hvfhs_license_num,
    coalesce(app.app, trip.hvfhs_license_num) AS app,
    trip.dispatching_base_num,
    trip.originating_base_num,
    trip.request_datetime,
    trip.on_scene_datetime,
    trip.pickup_datetime,
    trip.dropoff_datetime,
    extract(epoch FROM trip.pickup_datetime - trip.request_datetime)::double precision / 60
        AS waiting_minutes,
    extract(epoch FROM trip.dropoff_datetime - trip.pickup_datetime)::double precision / 60
        AS duration_minutes,
    trip.trip_miles,
    trip.trip_time,
    CASE WHEN trip.dropoff_datetime > trip.pickup_datetime THEN
        trip.trip_miles * 3600
            / extract(epoch FROM trip.dropoff_datetime - trip.pickup_datetime)::double precision
    END AS average_mph,
    trip.pickup_location_id,
    pickup.borough AS pickup_borough,
    pickup.zone AS pickup_zone,
    trip.dropoff_location_id,
    dropoff.borough AS dropoff_borough,
    dropoff.zone AS dropoff_zone,
    trip.base_passenger_fare,
    trip.tolls,
    trip.bcf,
    trip.sales_tax,
    trip.congestion_surcharge,
    trip.airport_fee,
    trip.cbd_congestion_fee,
    trip.tips,
    trip.driver_pay,
    trip.shared_request_flag,
    trip.shared_match_flag,
    trip.access_a_ride_flag,
    trip.wav_request_flag,
    trip.wav_match_flag,
    trip.sr_flag
FROM {fhvhv} AS trip
LEFT JOIN taxi_ingest.parts AS part ON part._load_id = trip._load_id
LEFT JOIN taxi_ingest.loads AS load ON load.load_id = part.load_id
LEFT JOIN {schema}.apps AS app ON app.hvfhs_license_num = trip.hvfhs_license_num
LEFT JOIN {schema}.zones AS pickup ON pickup.location_id = trip.pickup_location_id
LEFT JOIN {schema}.zones AS dropoff ON dropoff.location_id = trip.dropoff_location_id
