SELECT '<meta charset="utf-8"><title>Friday evenings in 2021</title><ol>';
SELECT format('<li>%s to %s: %s trips', pickup_zone, dropoff_zone, trips) FROM friday_pairs ORDER BY rank;
SELECT '</ol>';
-- The part of the city that has the ten pairs; an outline as well-known text becomes a path of SVG.
SELECT format('<svg viewBox="%s %s %s %s" width="100%%" stroke-linecap="round" font-size="3">',
    (min(longitude) - 0.04) * 758, -(max(latitude) + 0.02) * 1000,
    (max(longitude) - min(longitude) + 0.08) * 758, (max(latitude) - min(latitude) + 0.04) * 1000)
FROM taxi_zones_shapes JOIN friday_pairs ON "LocationID" IN (pickup, dropoff);
SELECT format('<path transform="scale(758 -1000)" fill="%s" stroke="white" stroke-width="0.0003" d="M%sZ">'
    '<title>%s</title></path>', CASE WHEN "LocationID" IN (SELECT pickup FROM friday_pairs
        UNION SELECT dropoff FROM friday_pairs) THEN '#fd8' ELSE '#ddd' END,
    regexp_replace(trim(wkt, 'MULTIPOLYGON ()'), '\)[(), ]+', 'ZM', 'g'), "Zone")
FROM taxi_zones_shapes;
SELECT format('<path stroke="#c00" stroke-opacity="0.6" stroke-width="%s" d="M%s %sL%s %s"><title>%s</title></path>'
    '<text x="%s" y="%s">%s</text>', 2.5 * trips / max(trips) OVER (),
    a.longitude * 758, a.latitude * -1000, b.longitude * 758, b.latitude * -1000,
    format('%s to %s: %s trips', pickup_zone, dropoff_zone, trips),
    (a.longitude * 0.7 + b.longitude * 0.3) * 758, (a.latitude * 0.7 + b.latitude * 0.3) * -1000, rank)
FROM friday_pairs
JOIN taxi_zones_shapes a ON a."LocationID" = pickup
JOIN taxi_zones_shapes b ON b."LocationID" = dropoff;
SELECT '</svg>';
