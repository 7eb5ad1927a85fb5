-- What vendor_name means, which yellow files of 2009 to 2014 have in the place of vendor_id.
SELECT DISTINCT ON (name.vendor_name)
    name.vendor_name,
    name.vendor_id,
    coalesce(vendor.vendor, name.meaning) AS vendor
FROM (VALUES {vendor_name}) AS name (vendor_name, vendor_id, meaning)
LEFT JOIN {schema}.vendors AS vendor ON vendor.vendor_id = name.vendor_id
