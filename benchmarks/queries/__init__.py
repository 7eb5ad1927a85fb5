"""Ten questions to a year of trips: our views against plain tables, one with an index, and DuckDB."""
