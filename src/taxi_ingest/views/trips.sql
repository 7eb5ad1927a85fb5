-- Yellow and green trips as one: codes spelled out, zones of both ends, duration and speed.
SELECT
    trip.dataset,
    part.load_id,
    load.month AS file_month,
    trip.vendor_id,
    coalesce(vendor.vendor, vendor_name.vendor, trip.vendor_name) AS vendor,
    trip.pickup_datetime,
    trip.dropoff_datetime,
    extract(epoch FROM trip.dropoff_datetime - trip.pickup_datetime)::double precision / 60
        AS duration_minutes,
    trip.passenger_count,
    trip.trip_distance,
    CASE WHEN trip.dropoff_datetime > trip.pickup_datetime THEN
        trip.trip_distance * 3600
            / extract(epoch FROM trip.dropoff_datetime - trip.pickup_datetime)::double precision
    END AS average_mph,
    trip.ratecode_id,
    rate_code.rate,
    trip.store_and_fwd_flag,
    trip.pickup_location_id,
    pickup.borough AS pickup_borough,
    pickup.zone AS pickup_zone,
    trip.dropoff_location_id,
    dropoff.borough AS dropoff_borough,
    dropoff.zone AS dropoff_zone,
    trip.payment_type,
    coalesce(payment_type.payment, trip.payment_type_name) AS payment,
    trip.fare_amount,
    trip.extra,
    trip.mta_tax,
    trip.tip_amount,
    trip.tolls_amount,
    trip.ehail_fee,
    trip.improvement_surcharge,
    trip.congestion_surcharge,
    trip.airport_fee,
    trip.cbd_congestion_fee,
    trip.total_amount,
    trip.trip_type,
    trip_type.hailed,
    trip.pickup_longitude,
    trip.pickup_latitude,
    trip.dropoff_longitude,
    trip.dropoff_latitude
FROM (
    SELECT
        'yellow' AS dataset,
        yellow._load_id,
        coalesce(yellow.vendor_id, CASE yellow.vendor_name {vendor_name_numbers} END) AS vendor_id,
        yellow.vendor_name,
        yellow.pickup_datetime,
        yellow.dropoff_datetime,
        yellow.passenger_count,
        yellow.trip_distance,
        yellow.ratecode_id,
        yellow.store_and_fwd_flag,
        yellow.pickup_location_id,
        yellow.dropoff_location_id,
        coalesce(yellow.payment_type, CASE yellow.payment_type_name {payment_type_name_numbers} END)
            AS payment_type,
        yellow.payment_type_name,
        yellow.fare_amount,
        yellow.extra,
        yellow.mta_tax,
        yellow.tip_amount,
        yellow.tolls_amount,
        NULL::double precision AS ehail_fee,
        yellow.improvement_surcharge,
        yellow.congestion_surcharge,
        yellow.airport_fee,
        yellow.cbd_congestion_fee,
        yellow.total_amount,
        NULL::smallint AS trip_type,
        yellow.pickup_longitude,
        yellow.pickup_latitude,
        yellow.dropoff_longitude,
        yellow.dropoff_latitude
    FROM {yellow} AS yellow
    UNION ALL
    SELECT
        'green',
        green._load_id,
        green.vendor_id,
        NULL,
        green.pickup_datetime,
        green.dropoff_datetime,
        green.passenger_count,
        green.trip_distance,
        green.ratecode_id,
        green.store_and_fwd_flag,
        green.pickup_location_id,
        green.dropoff_location_id,
        green.payment_type,
        NULL,
        green.fare_amount,
        green.extra,
        green.mta_tax,
        green.tip_amount,
        green.tolls_amount,
        green.ehail_fee,
        green.improvement_surcharge,
        green.congestion_surcharge,
        NULL,
        green.cbd_congestion_fee,
        green.total_amount,
        green.trip_type,
        green.pickup_longitude,
        green.pickup_latitude,
        green.dropoff_longitude,
        green.dropoff_latitude
    FROM {green} AS green
) AS trip
LEFT JOIN taxi_ingest.parts AS part ON part._load_id = trip._load_id
LEFT JOIN taxi_ingest.loads AS load ON load.load_id = part.load_id
LEFT JOIN {schema}.vendors AS vendor ON vendor.vendor_id = trip.vendor_id
LEFT JOIN {schema}.vendor_names AS vendor_name ON vendor_name.vendor_name = trip.vendor_name
LEFT JOIN {schema}.rate_codes AS rate_code ON rate_code.ratecode_id = trip.ratecode_id
LEFT JOIN {schema}.payment_types AS payment_type ON payment_type.payment_type = trip.payment_type
LEFT JOIN {schema}.trip_types AS trip_type ON trip_type.trip_type = trip.trip_type
LEFT JOIN {schema}.zones AS pickup ON pickup.location_id = trip.pickup_location_id
LEFT JOIN {schema}.zones AS dropoff ON dropoff.location_id = trip.dropoff_location_id
