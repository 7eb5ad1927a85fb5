-- The ledger also has the tries that failed.

CREATE TABLE taxi_ingest.attempts (
    attempt_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_schema   text NOT NULL,
    table_name     text NOT NULL,
    source         text NOT NULL,
    dataset        text,
    month          text,
    started_at     timestamptz NOT NULL,
    failed_at      timestamptz NOT NULL,
    exit_code      integer NOT NULL,
    message        text NOT NULL,
    flow_run_url   text,
    tool_version   text NOT NULL
);
COMMENT ON TABLE taxi_ingest.attempts IS 'taxi-ingest: one row for each try to load a file that failed';
COMMENT ON COLUMN taxi_ingest.attempts.source IS 'URL of the file, without credentials';
COMMENT ON COLUMN taxi_ingest.attempts.exit_code IS '3: the source, 4: the data, 5: the database';

UPDATE taxi_ingest.ledger_version SET number = 4;
