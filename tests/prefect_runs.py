"""What tests ask Prefect: which runs there are, and how they ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.states import Running
from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver
from psycopg2.extensions import parse_dsn

from taxi_ingest.flows.blocks import find_block
from taxi_ingest.load import Database


def id_of(flow_run_url: str | None) -> UUID:
    """The run whose page this is."""
    assert flow_run_url
    return UUID(flow_run_url.rpartition("/")[2])


def flow_run(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def flow_runs(**wanted: object) -> list[FlowRun]:
    """All runs, or those that a filter of Prefect's lets pass."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))


def running() -> list[FlowRun]:
    return flow_runs(state={"type": {"any_": ["RUNNING"]}})


def task_runs(*of: UUID) -> list[TaskRun]:
    """The tasks of runs; Prefect records them from events, some time after they happened."""
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter.model_validate({"id": {"any_": list(of)}})
        return client.read_task_runs(flow_run_filter=wanted) if of else []


@flow(name="ingest")
def _anything() -> None: ...


@contextmanager
def seeming_run(*tags: str) -> Iterator[UUID]:
    """A run that seems to go on, with these tags."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(_anything, tags=tags, state=Running()).id
        try:
            yield run
        finally:
            client.delete_flow_run(run)


def block(url: str, name: str) -> Database:
    """The same database by way of a block."""
    parts = parse_dsn(url)
    host = parts["host"]
    components = ConnectionComponents(
        driver=SyncDriver.POSTGRESQL_PSYCOPG2,
        username=parts["user"],
        password=parts.get("password"),
        host=None if host.startswith("/") else host,
        port=int(parts["port"]) if "port" in parts else None,
        database=parts["dbname"],
        query={"host": host} if host.startswith("/") else None,
    )
    SqlAlchemyConnector(connection_info=components).save(name, overwrite=True)
    found = find_block(name)
    assert found
    return found
