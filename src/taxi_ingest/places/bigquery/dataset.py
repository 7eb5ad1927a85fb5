"""A dataset of BigQuery's as it is asked: load jobs, and what else costs nothing. No query, no DML.

What is asked beside load jobs: the metadata of tables and jobs, rows as they lie (`tabledata.list`), and that
a partition be deleted (https://cloud.google.com/bigquery/pricing#free).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from taxi_ingest.errors import BusyError
from taxi_ingest.places.bigquery.failures import told_as_ours

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.bigquery import Client, LoadJob, LoadJobConfig, SchemaField, Table, TableReference

_LOOK_SECONDS = 10.0
"""How long a look is tried again where it can't be had; the one who asks tries again, too."""
_REQUEST_SECONDS = 60.0


@dataclass(frozen=True)
class Dataset:
    """One dataset, over an open client."""

    client: "Client"
    name: str
    location: str | None

    def table(self, name: str) -> "Table | None":
        """What is known of a table, or of a partition (`t$202401`); None where there is none."""
        from google.api_core.exceptions import NotFound

        try:
            return self.client.get_table(self.reference(name), **_look())
        except NotFound:
            return None

    def make(self, name: str, columns: "Sequence[SchemaField]", clustered_by: str | None) -> None:
        """Make a table that is partitioned by the month of ingestion, unless it is there."""
        from google.cloud.bigquery import Table, TimePartitioning

        table = Table(self.reference(name), schema=columns)
        table.time_partitioning = TimePartitioning(type_="MONTH")
        table.clustering_fields = [clustered_by] if clustered_by else None
        self.client.create_table(table, exists_ok=True, **_look())

    def months(self, table: str) -> set[str]:
        """Those that a table has a partition of; none where there is no table."""
        from google.api_core.exceptions import NotFound

        try:
            ids = self.client.list_partitions(self.reference(table), **_look())
        except NotFound:
            return set()
        return {f"{id[:4]}-{id[4:]}" for id in ids if id.isdigit()}

    def rows(self, table: str, schema: "Sequence[SchemaField]", limit: int | None = None) -> list[Any]:
        """The rows of a table as they lie, or the first of them; none where there is no table."""
        from google.api_core.exceptions import NotFound

        try:
            found = self.client.list_rows(
                self.reference(table), selected_fields=schema, max_results=limit, **_look()
            )
            return list(found)
        except NotFound:
            return []

    def drop(self, name: str) -> None:
        """Delete a partition (`t$202401`), if there is one."""
        self.client.delete_table(self.reference(name), not_found_ok=True, **_look())

    def job(self, job_id: str) -> "LoadJob | None":
        """A job of the project's; None where there never was one of that name."""
        from google.api_core.exceptions import NotFound

        try:
            return cast("LoadJob", self.client.get_job(job_id, location=self.location, **_look()))
        except NotFound:
            return None

    def begin(self, file: IO[bytes], table: str, job_id: str, config: "LoadJobConfig") -> "LoadJob":
        """Upload a file and have it loaded; where another has begun this very job, look it up."""
        from google.api_core.exceptions import Conflict, NotFound
        from google.api_core.retry import Retry, if_exception_type

        try:
            return self.client.load_table_from_file(
                file,
                self.reference(table),
                rewind=True,
                job_id=job_id,
                location=self.location,
                job_config=config,
                timeout=_REQUEST_SECONDS,
            )
        except Conflict:
            # It may take a moment until a job is found (https://github.com/googleapis/python-bigquery/issues/2134).
            retry = Retry(if_exception_type(NotFound), timeout=_LOOK_SECONDS)
            return cast("LoadJob", self.client.get_job(job_id, location=self.location, retry=retry))

    def append(self, row: dict[str, Any], table: str, job_id: str, schema: "Sequence[SchemaField]") -> bool:
        """Add a row to a table, made where it is missing; False where there is a job of that name."""
        from google.api_core.exceptions import Conflict
        from google.cloud.bigquery import LoadJobConfig

        config = LoadJobConfig(schema=schema, write_disposition="WRITE_APPEND")
        try:
            self.client.load_table_from_json(
                [row],
                self.reference(table),
                job_id=job_id,
                location=self.location,
                job_config=config,
                timeout=_REQUEST_SECONDS,
            ).result()
        except Conflict:
            return False
        return True

    def reference(self, table: str) -> "TableReference":
        """A table, or a partition, by its name."""
        from google.cloud.bigquery import DatasetReference

        return DatasetReference(self.client.project, self.name).table(table)


def settle(job: "LoadJob", wait: bool) -> None:
    """Wait for the end of a job, whatever it is. Raises BusyError where we are not to `wait`."""
    from google.api_core.exceptions import GoogleAPICallError

    if not wait and not job.done(**_look()):
        raise BusyError("Another run has BigQuery load the same file.")
    try:
        job.result()
    except GoogleAPICallError:
        if job.state != "DONE":
            raise


@contextmanager
def open_dataset(project: str, name: str, credentials: "Credentials | None") -> Iterator[Dataset]:
    """A dataset that is there. What Google's library raises, here and while it is open, is raised as ours."""
    missing = f"Look at both names in --to; the dataset is made by: bq mk --dataset {project}:{name}"
    with told_as_ours(f"{project}.{name}", missing):
        from google.cloud.bigquery import Client, DatasetReference

        client = Client(project, credentials=credentials or _usual_credentials())
        try:
            found = client.get_dataset(DatasetReference(project, name), **_look())
            yield Dataset(client, name, found.location)
        finally:
            client.close()  # type: ignore[no-untyped-call]


def _usual_credentials() -> "Credentials | None":
    """None stands for what Google's library finds; an emulator asks for none."""
    from google.auth.credentials import AnonymousCredentials

    if "BIGQUERY_EMULATOR_HOST" not in os.environ:
        return None
    return AnonymousCredentials()  # type: ignore[no-untyped-call]


def _look() -> Mapping[str, Any]:
    """How long to ask, again and again where that may help."""
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    return {"retry": DEFAULT_RETRY.with_timeout(_LOOK_SECONDS), "timeout": _REQUEST_SECONDS}
