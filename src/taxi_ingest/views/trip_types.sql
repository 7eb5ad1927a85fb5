-- What trip_type means: how a green trip came about.
SELECT DISTINCT ON (trip_type)
    trip_type,
    hailed
FROM (VALUES {trip_type}) AS code (trip_type, hailed)
