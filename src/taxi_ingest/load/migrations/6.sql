-- By which outlines a load's coordinates have become zones.

ALTER TABLE taxi_ingest.loads ADD COLUMN assigned_by integer;
COMMENT ON COLUMN taxi_ingest.loads.assigned_by IS
    'load of the outlines by which assigned_pickup_zone and assigned_dropoff_zone were found';

UPDATE taxi_ingest.ledger_version SET number = 6;
