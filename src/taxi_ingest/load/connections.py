"""Over how many connections a file is loaded."""

from taxi_ingest.load.space import table_bytes
from taxi_ingest.settings.job import Job, usual_connections
from taxi_ingest.sources import SourceFile
from taxi_ingest.transform import Stream

_BYTES_PER_CONNECTION = 8 << 20
"""Of the table: with less to do, a further connection costs more than it spares
(docs/scale.md has the figures)."""


def connections_for(job: Job, stream: Stream, file: SourceFile, beside: int) -> int:
    """As many as were asked for, or as pay for a file of this size on this machine.

    `beside`: how many files are loaded at once here; together they use no more than the cores bear.
    """
    share = max(1, usual_connections() // beside)
    if job.connections is not None:
        return job.connections if beside == 1 else min(job.connections, share)
    return min(share, 1 + table_bytes(stream, file) // _BYTES_PER_CONNECTION)
