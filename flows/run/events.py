"""The event of a new dataset, on which a server starts what people want to follow, for instance a retraining.

It is sent once for each digest of a run folder. What nobody receives is lost, and never fails a build.
"""

from contextlib import suppress
from pathlib import Path

from prefect.events import emit_event

from spinmeround.tasks.dataset.publish import Published

PUBLISHED = "spinmeround.dataset.published"
"""Name of the event."""
RUN_LABEL = "spinmeround.run"
"""Label of the event's resource: the run's folder."""


def dataset_resource(profile: str, run: Path) -> dict[str, str]:
    """The resource of the event: the dataset of a profile, in the folder of a run."""
    return {
        "prefect.resource.id": f"spinmeround.dataset.{profile}",
        "prefect.resource.name": profile,
        RUN_LABEL: str(run),
    }


def announce_dataset(profile: str, run: Path, found: Published) -> None:
    """Send the event, with the dataset's path and digest, and the URL of its copy in an object store, if any."""
    payload = {"path": str(found.path), "digest": found.digest, "profile": profile, "url": found.url or ""}
    with suppress(Exception):
        emit_event(PUBLISHED, resource=dataset_resource(profile, run), payload=payload)
