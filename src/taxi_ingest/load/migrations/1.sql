-- The ledger of taxi-ingest 0.1.0.

CREATE SCHEMA taxi_ingest;

CREATE TABLE taxi_ingest.loads (
    load_id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_schema   text NOT NULL,
    table_name     text NOT NULL,
    source         text NOT NULL,
    status         text NOT NULL CHECK (status IN ('loading', 'loaded', 'replaced')),
    sha256         text NOT NULL,
    bytes          bigint NOT NULL,
    etag           text,
    last_modified  text,
    dataset        text,
    month          text,
    rows_read      bigint,
    rows_loaded    bigint,
    rows_rejected  bigint,
    known_rows     bigint,
    verdict        text,
    quality        jsonb,
    names          text NOT NULL,
    columns        jsonb,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    flow_run_url   text,
    tool_version   text NOT NULL
);
COMMENT ON TABLE taxi_ingest.loads IS 'taxi-ingest: one row for each file that was loaded';
COMMENT ON COLUMN taxi_ingest.loads.source IS 'URL of the file, without credentials';
COMMENT ON COLUMN taxi_ingest.loads.columns IS 'name in the table -> name in the file';
COMMENT ON COLUMN taxi_ingest.loads.quality IS 'how many loaded rows are odd, by kind';
COMMENT ON COLUMN taxi_ingest.loads.verdict IS 'rows_read against known_rows';

-- A file is loaded into a table once at a time.
CREATE UNIQUE INDEX loads_once
    ON taxi_ingest.loads (table_schema, table_name, source) WHERE status = 'loaded';
CREATE INDEX loads_content
    ON taxi_ingest.loads (table_schema, table_name, sha256) WHERE status = 'loaded';

CREATE TABLE taxi_ingest.rejects (
    load_id      integer NOT NULL REFERENCES taxi_ingest.loads,
    number       bigint NOT NULL,
    column_name  text,
    reason       text NOT NULL,
    raw          text NOT NULL
);
CREATE INDEX rejects_load ON taxi_ingest.rejects (load_id);
COMMENT ON TABLE taxi_ingest.rejects IS 'taxi-ingest: rows that could not be represented, whole';
COMMENT ON COLUMN taxi_ingest.rejects.number IS 'line of a CSV (the header is 1), row of a Parquet file';
