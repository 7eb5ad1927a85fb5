-- Loads can be undone, and say what they replaced and what was noted; the ledger knows its version.

CREATE TABLE taxi_ingest.ledger_version (number integer NOT NULL);
COMMENT ON TABLE taxi_ingest.ledger_version IS 'taxi-ingest: which of its migrations this ledger has';
INSERT INTO taxi_ingest.ledger_version VALUES (2);

ALTER TABLE taxi_ingest.loads
    ADD COLUMN replaces integer REFERENCES taxi_ingest.loads,
    ADD COLUMN notes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN ended_at timestamptz,
    ADD COLUMN is_partition boolean,
    DROP CONSTRAINT loads_status_check,
    ADD CONSTRAINT loads_status_check
        CHECK (status IN ('loading', 'loaded', 'replaced', 'undone', 'dropped'));
COMMENT ON COLUMN taxi_ingest.loads.status IS
    'loaded: its rows are in the table; replaced by a later load, undone, or dropped with its table by someone';
COMMENT ON COLUMN taxi_ingest.loads.replaces IS 'the load whose rows it replaced';
COMMENT ON COLUMN taxi_ingest.loads.is_partition IS 'whether it has a partition of its own; null before version 2';
COMMENT ON COLUMN taxi_ingest.loads.ended_at IS 'when its rows left the table';
