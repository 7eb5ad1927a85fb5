-- Which months a table has, how a try ended, and which tables there are, is found in a ledger of any size.

CREATE INDEX loads_month ON taxi_ingest.loads (dataset, month, table_schema, table_name, load_id);
CREATE INDEX attempts_month ON taxi_ingest.attempts (dataset, month, table_schema, table_name, attempt_id);
CREATE INDEX loads_plain ON taxi_ingest.loads (dataset, table_schema, table_name)
    WHERE status = 'loaded' AND is_partition IS NOT TRUE AND month IS NOT NULL;

UPDATE taxi_ingest.ledger_version SET number = 5;
