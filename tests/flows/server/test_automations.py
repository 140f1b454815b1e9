"""Automations of the retraining: made once, updated by newer versions, and left alone when people have changed them."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.automations import AutomationCore
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation

from spinmeround.flows.server.automations import keep_automations, retraining_automation
from spinmeround.storage.errors import ConfigError


class Server:
    """Deployments and automations of a server, as JSON, behind the methods of Prefect's client."""

    def __init__(self, *deployments: DeploymentResponse) -> None:
        self.deployments, self.automations = list(deployments), dict[UUID, dict[str, Any]]()

    def read_deployments(self, *, flow_filter: Any, limit: int, offset: int) -> list[DeploymentResponse]:
        assert flow_filter.name.any_ == ["retraining"]
        return self.deployments[offset : offset + limit]

    def read_automations(self, *, limit: int, offset: int) -> list[Automation]:
        found = [Automation.model_validate({**values, "id": id}) for id, values in self.automations.items()]
        return found[offset : offset + limit]

    def create_automation(self, automation: AutomationCore) -> UUID:
        self.automations[id := uuid4()] = automation.model_dump(mode="json")
        return id

    def update_automation(self, automation_id: UUID, automation: AutomationCore) -> None:
        self.automations[automation_id] = automation.model_dump(mode="json")


def deployment(profile: str = "tiny", runs: str = "/runs") -> DeploymentResponse:
    """A deployment of the retraining flow."""
    parameters = {"profile": {"name": profile}, "place": {"runs": runs, "out": None, "store": None}}
    return DeploymentResponse(id=uuid4(), name=profile, flow_id=uuid4(), parameters=parameters)


def keep(server: Any) -> dict[str, str]:
    return keep_automations(server)


def test_an_automation_passes_the_path_and_digest_of_the_event() -> None:
    """It waits for a dataset of this profile in this run's folder alone."""
    found = retraining_automation(deployment())
    trigger, (action,) = found.trigger.model_dump(mode="json"), found.model_dump(mode="json")["actions"]
    assert trigger["expect"] == ["spinmeround.dataset.published"]
    assert trigger["match"] == {"prefect.resource.id": "spinmeround.dataset.tiny", "spinmeround.run": "/runs/tiny"}
    templates = {name: value["template"] for name, value in action["parameters"].items()}
    assert templates == {"dataset": "{{ event.payload.path }}", "digest": "{{ event.payload.digest }}"}


def test_each_deployment_gets_one_automation() -> None:
    """Another call changes nothing."""
    server = Server(deployment("tiny"), deployment("demo"))
    assert keep(server) == {"retraining demo": "created", "retraining tiny": "created"}
    made = {**server.automations}
    assert keep(server) == {"retraining demo": "kept", "retraining tiny": "kept"}
    assert server.automations == made


@pytest.mark.parametrize(
    ("change", "outcome"),
    [({"enabled": False}, "updated, paused"), ({"name": "mine"}, "updated"), ({"tags": ["night"]}, "updated")],
    ids=["paused", "renamed", "tagged"],
)
def test_what_people_set_survives_an_update(change: dict[str, Any], outcome: str) -> None:
    """A run that has moved updates the trigger, and nothing that a person has set."""
    server = Server(first := deployment())
    keep(server)
    (made,) = server.automations.values()
    made.update(change)
    server.deployments = [first.model_copy(update={"parameters": deployment(runs="/moved").parameters})]
    assert list(keep(server).values()) == [outcome]
    (found,) = server.automations.values()
    assert found["trigger"]["match"]["spinmeround.run"] == "/moved/tiny"
    assert {name: found[name] for name in change} == change


def test_a_changed_automation_is_left_alone() -> None:
    """Somebody has edited what it does: a newer version of the software does not undo that."""
    server = Server(first := deployment())
    keep(server)
    (made,) = server.automations.values()
    made["actions"][0]["parameters"]["digest"] = "0" * 64
    server.deployments = [first.model_copy(update={"parameters": deployment(runs="/moved").parameters})]
    assert keep(server) == {"retraining tiny": "kept"}
    assert made["trigger"]["match"]["spinmeround.run"] == "/runs/tiny"


def test_a_server_without_deployments() -> None:
    """The error names the command that registers them."""
    with pytest.raises(ConfigError, match=r"expected deployments of the flow 'retraining' .* 'spinmeround serve'"):
        keep(Server())


def test_other_automations_are_not_touched() -> None:
    """One that runs the same deployment on another event is a person's own."""
    server = Server(first := deployment())
    own = retraining_automation(first).model_dump(mode="json")
    own["trigger"]["expect"] = ["prefect.flow-run.Failed"]
    server.automations[uuid4()] = own
    before = {**own}
    assert keep(server) == {"retraining tiny": "created"}
    assert len(server.automations) == 2
    assert own == before
