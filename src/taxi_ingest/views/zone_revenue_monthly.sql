-- What yellow and green trips took in by month and pickup zone (the course's fct_monthly_zone_revenue).
SELECT
    trip.month,
    trip.dataset,
    trip.pickup_location_id,
    zone.borough AS pickup_borough,
    zone.zone AS pickup_zone,
    trip.trips,
    trip.fare_amount,
    trip.extra,
    trip.mta_tax,
    trip.tip_amount,
    trip.tolls_amount,
    trip.ehail_fee,
    trip.improvement_surcharge,
    trip.total_amount,
    trip.average_passengers,
    trip.average_distance
FROM (
    SELECT
        date_trunc('month', pickup_datetime)::date AS month,
        dataset,
        pickup_location_id,
        count(*) AS trips,
        sum(fare_amount) AS fare_amount,
        sum(extra) AS extra,
        sum(mta_tax) AS mta_tax,
        sum(tip_amount) AS tip_amount,
        sum(tolls_amount) AS tolls_amount,
        sum(ehail_fee) AS ehail_fee,
        sum(improvement_surcharge) AS improvement_surcharge,
        sum(total_amount) AS total_amount,
        avg(passenger_count)::double precision AS average_passengers,
        avg(trip_distance) AS average_distance
    FROM {schema}.trips
    GROUP BY 1, 2, 3
) AS trip
LEFT JOIN {schema}.zones AS zone ON zone.location_id = trip.pickup_location_id
