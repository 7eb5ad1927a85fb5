-- Yellow and green trips by the hour and the zone of their pickup.
SELECT
    trip.hour,
    trip.dataset,
    trip.pickup_location_id,
    zone.borough AS pickup_borough,
    zone.zone AS pickup_zone,
    trip.trips,
    trip.passengers,
    trip.trip_distance,
    trip.average_minutes,
    trip.total_amount
FROM (
    SELECT
        date_trunc('hour', pickup_datetime) AS hour,
        dataset,
        pickup_location_id,
        count(*) AS trips,
        sum(passenger_count)::bigint AS passengers,
        sum(trip_distance) AS trip_distance,
        avg(duration_minutes) AS average_minutes,
        sum(total_amount) AS total_amount
    FROM {schema}.trips
    GROUP BY 1, 2, 3
) AS trip
LEFT JOIN {schema}.zones AS zone ON zone.location_id = trip.pickup_location_id
