"""What runs in Prefect: the flow `ingest`, which API it runs against, its blocks, what becomes of runs.

Nothing outside imports Prefect; this file does not either, for the sake of those who must do without.
"""
