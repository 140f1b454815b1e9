"""Registration of deployments again, which keeps what people have set in the UI.

Prefect sends all fields of a deployment when it is registered, also an empty list of schedules, and the server replaces
what it has. Here schedules, pauses, limits, descriptions and tags are sent once, when a deployment is new. Parameters
are sent again, since a newer version has other defaults, unless a person has changed them: the version of a deployment
has the digest of the parameters that it was registered with.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spinmeround import __version__
from spinmeround.storage.hashing import sha256_json

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment

SET_ONCE = frozenset({"schedules", "paused", "concurrency_limit", "concurrency_options", "description", "tags"})
"""Fields that belong to people as soon as the deployment exists."""

_MARK = "+parameters."


def versioned(parameters: dict[str, Any]) -> str:
    """The version of a deployment that is registered with these parameters, which are JSON values.

    Pass it to `flow.to_deployment`: without a version of its own, a deployment gets that of the commit in a checkout.
    """
    return f"{__version__}{_MARK}{sha256_json(parameters)[:12]}"


def keep_changes(deployments: "Sequence[RunnerDeployment]", client: "SyncPrefectClient") -> None:
    """Prepare deployments with a version by `versioned`, so that registering them leaves what people have changed."""
    from prefect.exceptions import ObjectNotFound

    for deployment in deployments:
        deployment.model_fields_set.difference_update(SET_ONCE)
        try:
            found = client.read_deployment_by_name(deployment.full_name)
        except ObjectNotFound:
            continue
        _, marked, registered = (found.version or "").partition(_MARK)
        if marked and registered != versioned(found.parameters).partition(_MARK)[2]:
            deployment.model_fields_set.difference_update({"parameters", "version"})
