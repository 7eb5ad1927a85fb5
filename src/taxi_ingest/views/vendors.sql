-- What vendor_id means: who provided the record.
SELECT DISTINCT ON (vendor_id)
    vendor_id,
    vendor
FROM (VALUES {vendor_id}) AS code (vendor_id, vendor)
