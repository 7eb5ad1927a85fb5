-- A load is loaded until it is replaced or undone. Whether someone has dropped or detached its rows is
-- looked up when it is asked for: what was detached can be attached again, and counts as loaded then.

DROP INDEX taxi_ingest.loads_once;
DROP INDEX taxi_ingest.loads_content;
CREATE INDEX loads_source ON taxi_ingest.loads (source) WHERE status = 'loaded';
CREATE INDEX loads_content ON taxi_ingest.loads (sha256) WHERE status = 'loaded';

UPDATE taxi_ingest.loads SET status = 'loaded', ended_at = NULL
WHERE status = 'dropped' AND to_regclass('taxi_ingest.load_' || load_id) IS NOT NULL;

COMMENT ON COLUMN taxi_ingest.loads.status IS
    'loaded, replaced by a later load, or undone; `taxi-ingest loads` also tells whose rows someone has dropped';

UPDATE taxi_ingest.ledger_version SET number = 3;
