-- What hvfhs_license_num means: the app by which the trip was ordered.
SELECT DISTINCT ON (hvfhs_license_num)
    hvfhs_license_num,
    app
FROM (VALUES {hvfhs_license_num}) AS code (hvfhs_license_num, number, app)
