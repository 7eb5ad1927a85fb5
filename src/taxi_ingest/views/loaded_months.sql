-- How many trips each loaded month has, from the ledger: no trip is read for it. A month is that of the file.
SELECT
    load.dataset,
    load.month,
    coalesce(holder.table_schema, load.table_schema) AS table_schema,
    coalesce(holder.table_name, load.table_name) AS table_name,
    count(*) AS files,
    sum(load.rows_loaded)::bigint AS trips,
    sum(load.rows_rejected)::bigint AS rejected_rows,
    max(load.finished_at) AS loaded_at
FROM taxi_ingest.loads AS load
LEFT JOIN (
    -- The table that has a load's partition now.
    SELECT
        partition.relname AS partition_name,
        namespace.nspname AS table_schema,
        parent.relname AS table_name
    FROM pg_inherits AS inherits
    JOIN pg_class AS partition ON partition.oid = inherits.inhrelid
    JOIN pg_class AS parent ON parent.oid = inherits.inhparent
    JOIN pg_namespace AS namespace ON namespace.oid = parent.relnamespace
    JOIN pg_namespace AS home ON home.oid = partition.relnamespace
    WHERE home.nspname = 'taxi_ingest' AND NOT inherits.inhdetachpending
) AS holder ON holder.partition_name = 'load_' || load.load_id
LEFT JOIN (
    -- A table that somebody else made, which has no partitions.
    SELECT namespace.nspname AS table_schema, relation.relname AS table_name
    FROM pg_class AS relation
    JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
    WHERE relation.relkind = 'r'
) AS plain ON plain.table_schema = load.table_schema AND plain.table_name = load.table_name
WHERE load.status = 'loaded'
  AND load.dataset IN ('yellow', 'green', 'fhv', 'fhvhv')
  AND (holder.table_name IS NOT NULL OR load.is_partition IS NOT TRUE AND plain.table_name IS NOT NULL)
GROUP BY 1, 2, 3, 4
