-- Yellow and green trips by the day of their pickup.
SELECT
    pickup_datetime::date AS day,
    dataset,
    count(*) AS trips,
    sum(passenger_count)::bigint AS passengers,
    sum(trip_distance) AS trip_distance,
    avg(duration_minutes) AS average_minutes,
    sum(fare_amount) AS fare_amount,
    sum(tip_amount) AS tip_amount,
    sum(tolls_amount) AS tolls_amount,
    sum(total_amount) AS total_amount
FROM {schema}.trips
GROUP BY 1, 2
