"""Any era's batches -> the dataset's canonical columns, and the rows that don't fit.

`plan` decides once, from a file's header, what happens to each column. A `Stream` is that decision
with the file: small, lazy and re-iterable, it travels between tasks in place of rows.
"""

from taxi_ingest.transform.ahead import worked_ahead
from taxi_ingest.transform.plan import Plan, PlannedColumn, plan
from taxi_ingest.transform.stream import CanonicalBatch, Misjudged, Step, Stream, load_step, open_stream
from taxi_ingest.transform.types import Store

__all__ = [
    "CanonicalBatch",
    "Misjudged",
    "Plan",
    "PlannedColumn",
    "Step",
    "Store",
    "Stream",
    "load_step",
    "open_stream",
    "plan",
    "worked_ahead",
]
