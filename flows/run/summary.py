"""What a run leaves to be read by people and programs: `summary.json`, and all earlier ones in `summaries/`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spinmeround.storage.errors import environment_errors

if TYPE_CHECKING:
    from spinmeround.flows.run.session import Session


def run_summary(session: "Session") -> dict[str, Any]:
    """The summary of a run; parts that this run did not touch are null.

    `heads` is `tasks.publish.Counts`: asked is dropped + quarantined + written + pending.
    `stages` {name: {made, reused, seconds}}, the seconds added up over workers.
    `dataset` {path, digest}, `training` {steps, loss_first, loss_last}, `evaluation` {model, baselines},
    `report` the path of the HTML file.
    """
    _, counts = session.census()
    return {
        "profile": session.profile.name,
        "folder": str(session.folder.root),
        "heads": asdict(counts),
        "stages": session.ledger.stages(),
        **{part: session.results.get(part) for part in ("dataset", "training", "evaluation", "report")},
        "parameters": session.profile.model_dump(mode="json"),
    }


def write_summary(session: "Session") -> dict[str, Any]:
    """Write the summary, and a copy that later runs leave alone; returns it."""
    summary = run_summary(session)
    data = (json.dumps(summary, indent=1) + "\n").encode()
    with environment_errors(session.folder.root):
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        session.folder.replace(session.folder.root / "summaries" / f"{stamp}.json", data)
        session.folder.replace(session.folder.summary, data)
    return summary
