"""Prefect deployments of our flows: found in the installed package, carried out by a work pool's workers."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from taxi_ingest.errors import UsageError
from taxi_ingest.flows.pulse import HEARTBEAT_SECONDS
from taxi_ingest.tlc import MONTH_PATTERN, datasets

TAG = "taxi-ingest"
"""What each of our deployments, and so each of its runs, is tagged with."""

PROCESS = ProcessWorker.type
"""The type of a work pool whose workers start processes on their own host."""

USUAL_POOL = "taxi-ingest"
"""The work pool of schedules that name none; `schedule serve` is its worker."""


def deploy(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    name: str,
    pool: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    schedules: Sequence[DeploymentScheduleCreate] = (),
    tags: Sequence[str] = (),
    description: str | None = None,
) -> UUID:
    """Make a deployment of one of our flows, or bring it up to date; returns its id.

    Workers import the flow from the installed package: it needs no storage.
    """
    return client.create_deployment(
        client.create_flow_from_name(flow.name),
        name,
        entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
        work_pool_name=pool,
        parameters=dict(parameters or {}),
        schedules=list(schedules),
        tags=[TAG, *tags],
        description=description,
        parameter_openapi_schema=_schema(flow),
        enforce_parameter_schema=True,
        pull_steps=[],
        # Whoever listens gives up a run that is silent: by default each tells of itself every three minutes.
        job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}},
    )


def _schema(flow: Flow[..., Any]) -> dict[str, Any]:
    """The flow's parameters as the dashboard asks for them, and Prefect checks them."""
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    properties = schema["properties"]
    if "dataset" in properties:
        properties["dataset"]["enum"] = [one.name for one in datasets() if one.kind == "trips"]
    if "month" in properties:
        text = {"type": "string", "pattern": f"^{MONTH_PATTERN}$"}
        nullable = {"anyOf": [text, {"type": "null"}]}
        properties["month"] |= nullable if "anyOf" in properties["month"] else text
    return schema


def find_pool(client: SyncPrefectClient, name: str) -> WorkPool:
    """The work pool of a name. Raises UsageError where there is none, or it is paused."""
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        raise UsageError(
            f"Prefect has no work pool {name}.",
            f"`prefect work-pool create {name} --type process` makes one, `prefect work-pool ls` lists them.",
        ) from None
    if pool.is_paused:
        raise UsageError(f"The work pool {name} is paused.", f"`prefect work-pool resume {name}` ends that.")
    return pool


def make_process_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a work pool for processes, unless it is there."""
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=name, type=PROCESS, base_job_template=template))
