"""Who is told of runs that fail: an automation of Prefect's for each schedule, which uses a block."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from taxi_ingest.errors import UsageError


@dataclass(frozen=True)
class Notification:
    """A block of Prefect's by which somebody may be told."""

    id: UUID
    name: str
    """`custom-webhook/my-hook`."""
    is_notification: bool


def find_notification(client: SyncPrefectClient, name: str) -> Notification:
    """The block by which somebody is told: one of Prefect's notification blocks, or a webhook.

    `name` is its name, with its type where several have that name. Raises UsageError where there is none.
    """
    answer = client.request("POST", "/block_documents/filter", json={"include_secrets": False}).json()
    blocks = [
        Notification(UUID(each["id"]), f"{each['block_type']['slug']}/{each['name']}", is_notification)
        for each in answer
        if (is_notification := "notify" in each["block_schema"]["capabilities"])
        or each["block_type"]["slug"] == "webhook"
    ]
    found = [block for block in blocks if name in (block.name, block.name.partition("/")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"Several blocks are called {name}.",
            f"Name one of {', '.join(sorted(block.name for block in found))}.",
        )
    there = ", ".join(sorted(block.name for block in blocks)) or "none yet"
    raise UsageError(
        f"There is no block {name} that can tell of failures.",
        f"Make one in the dashboard, under Blocks, such as Slack Webhook or Custom Webhook (there: {there}).",
    )


def tell_of_failures(
    client: SyncPrefectClient, deployment: UUID, name: str, block: Notification | None
) -> None:
    """Have Prefect tell by a block of each run that fails, and no more by the one that did."""
    for old in client.read_automations_by_name(_automation(name)):
        client.delete_automation(old.id)
    if block is None:
        return
    failed = EventTrigger.model_validate(
        {
            "expect": ["prefect.flow-run.Failed", "prefect.flow-run.Crashed"],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{deployment}",
            },
            "posture": Posture.Reactive,
            "threshold": 1,
            "within": timedelta(0),
        }
    )
    action = (
        SendNotification(block_document_id=block.id, subject=_SUBJECT, body=_BODY)
        if block.is_notification
        else CallWebhook(block_document_id=block.id, payload=_PAYLOAD)
    )
    client.create_automation(
        AutomationCore(
            name=_automation(name),
            description=f"Tells by {block.name}.",
            trigger=failed,
            actions=[action],
        )
    )


_SUBJECT = "taxi-ingest: {{ flow_run.name }}: {{ flow_run.state.name }}"
_BODY = "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
_PAYLOAD = """{
    "subject": {{ ("taxi-ingest: " ~ flow_run.name ~ ": " ~ flow_run.state.name) | tojson }},
    "body": {{ (flow_run.state.message ~ "\n" ~ (flow_run|ui_url)) | tojson }}
}"""


def _automation(name: str) -> str:
    return f"taxi-ingest: {name} failed"


def told_by(client: SyncPrefectClient, name: str) -> str | None:
    """The block (`custom-webhook/my-hook`) that tells of a deployment's failures; None if none does."""
    for automation in client.read_automations_by_name(_automation(name)):
        return automation.description.removeprefix("Tells by ").removesuffix(".")
    return None
