"""Automations on a Prefect server: the event of a new dataset starts the retraining of its profile.

Each deployment of the retraining flow gets one, which passes the event's path and digest to the flow. An automation
belongs to people once it exists: a paused, renamed or changed one is left as it is. Its description has the digest of
the settings that it was made with, by which a newer version of the software knows that nobody has changed them.
"""

from typing import TYPE_CHECKING, Any

from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import Automation, AutomationCore

_FLOW = "retraining"
_MARK = "Settings of spinmeround: "


def keep_automations(client: "SyncPrefectClient") -> dict[str, str]:
    """Create or update the automation of each deployment of the retraining flow.

    Returns what was done by name: created, updated, kept, or paused for one that stays so. Raises ConfigError if the
    server has no such deployment.
    """
    deployments = _retraining_deployments(client)
    if not deployments:
        raise ConfigError(
            f"automations: expected deployments of the flow {_FLOW!r} on the server, found none; 'spinmeround serve' "
            "registers them"
        )
    existing = _all_automations(client)
    outcomes = {}
    for deployment in deployments:
        wanted = retraining_automation(deployment)
        found = [each for each in existing if _starts(each, deployment)]
        if not found:
            client.create_automation(wanted)
            outcomes[wanted.name] = "created"
        for each in found:
            outcomes[each.name] = _kept(client, each, wanted)
    return outcomes


def retraining_automation(deployment: "DeploymentResponse") -> "AutomationCore":
    """The automation that starts a deployment of the retraining flow on a new dataset of its run."""
    from prefect.automations import AutomationCore, EventTrigger, Posture, RunDeployment

    from spinmeround.flows.run.events import PUBLISHED, dataset_resource
    from spinmeround.flows.run.folder import Place, named_run

    profile = str(deployment.parameters["profile"]["name"])
    run = named_run(Place.model_validate(deployment.parameters.get("place", {})), profile).root
    resource = dataset_resource(profile, run)
    resource.pop("prefect.resource.name")
    automation = AutomationCore(
        name=f"{_FLOW} {deployment.name}",
        description="",
        trigger=EventTrigger(expect={PUBLISHED}, match=resource, posture=Posture.Reactive, threshold=1),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment.id,
                parameters={"dataset": _from_event("path"), "digest": _from_event("digest")},
            )
        ],
    )
    description = f"Trains on each new dataset in {run}, and promotes a better model. {_MARK}{_settings(automation)}"
    return automation.model_copy(update={"description": description})


def _from_event(field: str) -> dict[str, str]:
    """A parameter that the server fills in from the event."""
    return {"__prefect_kind": "jinja", "template": f"{{{{ event.payload.{field} }}}}"}


def _kept(client: "SyncPrefectClient", found: "Automation", wanted: "AutomationCore") -> str:
    """Update an automation that nobody has changed; returns what was done."""
    made_with = found.description.rpartition(_MARK)[2]
    outcome = "kept" if found.enabled else "paused"
    if made_with != _settings(found) or made_with == _settings(wanted):
        return outcome
    keep = {"name": found.name, "enabled": found.enabled, "tags": found.tags}
    client.update_automation(found.id, wanted.model_copy(update=keep))
    return "updated" if found.enabled else "updated, paused"


def _settings(automation: "AutomationCore") -> str:
    """A digest of what an automation waits for and does."""
    values: dict[str, Any] = automation.model_dump(mode="json", include={"trigger", "actions"})
    for name in ("after", "expect", "for_each"):  # sets, in any order
        if name in values["trigger"]:
            values["trigger"][name] = sorted(values["trigger"][name])
    return sha256_json(values)[:12]


def _starts(automation: "Automation", deployment: "DeploymentResponse") -> bool:
    """Whether an automation runs the deployment on the event of a dataset, under whatever name."""
    from spinmeround.flows.run.events import PUBLISHED

    runs = any(getattr(action, "deployment_id", None) == deployment.id for action in automation.actions)
    return runs and PUBLISHED in getattr(automation.trigger, "expect", ())


def _retraining_deployments(client: "SyncPrefectClient") -> "list[DeploymentResponse]":
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    named = FlowFilter(name=FlowFilterName(any_=[_FLOW]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(flow_filter=named, limit=200, offset=len(found)):
        found += page
    return sorted(found, key=lambda each: each.name)


def _all_automations(client: "SyncPrefectClient") -> "list[Automation]":
    found: list[Automation] = []
    while page := client.read_automations(limit=200, offset=len(found)):
        found += page
    return found
