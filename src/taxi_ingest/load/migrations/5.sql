-- Which months a table has, and how a try ended, is found in a ledger of any size.

CREATE INDEX loads_month ON taxi_ingest.loads (dataset, month, load_id);
CREATE INDEX attempts_month ON taxi_ingest.attempts (dataset, month, attempt_id);

UPDATE taxi_ingest.ledger_version SET number = 5;
