-- A load that was copied over several connections has as many partitions.

CREATE TABLE taxi_ingest.parts (
    _load_id integer PRIMARY KEY,
    load_id  integer NOT NULL REFERENCES taxi_ingest.loads
);
CREATE INDEX parts_load ON taxi_ingest.parts (load_id);
COMMENT ON TABLE taxi_ingest.parts IS 'taxi-ingest: which load the rows with a _load_id are of';
COMMENT ON COLUMN taxi_ingest.parts._load_id IS 'its partition is taxi_ingest.load_<_load_id>; the first has the load''s number';

INSERT INTO taxi_ingest.parts SELECT load_id, load_id FROM taxi_ingest.loads WHERE is_partition IS NOT FALSE;

UPDATE taxi_ingest.ledger_version SET number = 7;
