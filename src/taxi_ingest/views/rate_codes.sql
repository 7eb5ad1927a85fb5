-- What ratecode_id means: the rate at the end of the trip.
SELECT DISTINCT ON (ratecode_id)
    ratecode_id,
    rate
FROM (VALUES {ratecode_id}) AS code (ratecode_id, rate)
