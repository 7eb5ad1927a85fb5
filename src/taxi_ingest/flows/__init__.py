"""What runs in Prefect: the flow `ingest`, which API it runs against, its blocks, what becomes of runs.

Nothing outside imports Prefect; this file does not either, as `marks` serves those who must do without.
"""
