-- The ten pairs of zones with the most trips on a Friday evening in 2021, as a list and on a map: one page of HTML.
-- It reads the views `trips` and `zones` (taxi-ingest zones && taxi-ingest views); change its first query to ask another question.
\set ON_ERROR_STOP on
CREATE TEMP TABLE pairs AS
SELECT row_number() OVER (ORDER BY count(*) DESC, pickup_zone, dropoff_zone) AS rank, count(*) AS trips,
    pickup_location_id AS pickup, pickup_zone, dropoff_location_id AS dropoff, dropoff_zone
FROM trips
WHERE pickup_datetime >= '2021-01-01' AND pickup_datetime < '2022-01-01'
    AND extract(isodow FROM pickup_datetime) = 5 AND extract(hour FROM pickup_datetime) >= 18
    AND pickup_location_id < 264 AND dropoff_location_id < 264  -- 264 and 265 are no zones
GROUP BY 3, 4, 5, 6 ORDER BY rank LIMIT 10;

SELECT '<meta charset="utf-8"><title>Friday evenings in 2021</title><ol>';
SELECT format('<li>%s to %s: %s trips', pickup_zone, dropoff_zone, trips) FROM pairs ORDER BY rank;
SELECT '</ol>';
SELECT '<p>There are no such trips: taxi-ingest backfill yellow 2021' WHERE NOT EXISTS (SELECT FROM pairs);
SELECT '<p>The zones have no outlines: taxi-ingest zones' WHERE NOT EXISTS (SELECT FROM zones WHERE wkt IS NOT NULL);

-- The part of the city that has the ten pairs; an outline as well-known text becomes a path of SVG.
SELECT format('<svg viewBox="%s %s %s %s" width="100%%" stroke-linecap="round" font-size="3">',
    (min(longitude) - 0.04) * 758, -(max(latitude) + 0.02) * 1000,
    (max(longitude) - min(longitude) + 0.08) * 758, (max(latitude) - min(latitude) + 0.04) * 1000)
FROM zones JOIN pairs ON location_id IN (pickup, dropoff);

SELECT format('<path transform="scale(758 -1000)" fill="%s" stroke="white" stroke-width="0.0003" d="M%sZ">'
    '<title>%s</title></path>', CASE WHEN location_id IN (SELECT pickup FROM pairs UNION SELECT dropoff FROM pairs)
        THEN '#fd8' ELSE '#ddd' END, regexp_replace(trim(wkt, 'MULTIPOLYGON ()'), '\)[(), ]+', 'ZM', 'g'), zone)
FROM zones WHERE wkt IS NOT NULL;

SELECT format('<path stroke="#c00" stroke-opacity="0.6" stroke-width="%s" d="M%s %sL%s %s"><title>%s</title></path>'
    '<text x="%s" y="%s">%s</text>', 2.5 * trips / max(trips) OVER (),
    a.longitude * 758, a.latitude * -1000, b.longitude * 758, b.latitude * -1000,
    format('%s to %s: %s trips', pickup_zone, dropoff_zone, trips),
    (a.longitude * 0.7 + b.longitude * 0.3) * 758, (a.latitude * 0.7 + b.latitude * 0.3) * -1000, rank)
FROM pairs
JOIN zones a ON a.location_id = pickup
JOIN zones b ON b.location_id = dropoff;
SELECT '</svg>';
