"""The summary of a run for people and programs: `summary.json`, with all earlier ones in `summaries/`."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import RunFolder
from spinmeround.storage.errors import environment_errors
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.dataset.publish import Counts

PARTS = ("dataset", "training", "evaluation", "ablation", "promotion", "reconstruction", "report")
"""Results that flows add to a run, in the order of the summary."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a summary is made of."""

    profile: Profile
    folder: RunFolder
    counts: Counts
    stages: Mapping[str, Mapping[str, Any]]
    """{stage: {made, reused, seconds}}"""
    results: Mapping[str, Any]
    """Results of the flows, by part."""
    error: str | None = None
    """Why the run failed, in one line."""


def run_summary(run: RunResult) -> dict[str, Any]:
    """The summary of a run. Parts that the run did not compute are null; an earlier summary may have them.

    `heads` is `tasks.dataset.publish.Counts`: asked = dropped + quarantined + written + pending.
    `stages` is {name: {made, reused, seconds}}, with the seconds summed over all workers.
    `dataset` is {path, digest}, `training` {stage, key, steps, loss_first, loss_last, pipeline} of the last phase, with
    all phases in `phases`, `evaluation` the key and the fields of `EvaluationResult`, `ablation` the key, the
    folder of the figure and the fields of `AblationResult`, `promotion` the fields of `flows.promotion.Promotion`,
    `reconstruction` the key, the folder and the fields of its scores, and `report` the path of the HTML file. `error`
    is why the run failed, null for one that did not.
    """
    return {
        "profile": run.profile.name,
        "folder": str(run.folder.root),
        "heads": asdict(run.counts),
        "stages": run.stages,
        **{part: run.results.get(part) for part in PARTS},
        "error": run.error,
        "parameters": run.profile.model_dump(mode="json"),
    }


written: ContextVar[list[dict[str, Any]] | None] = ContextVar("written", default=None)
"""A list to which each summary is added that is written in the context, for the command that runs a flow."""


def write_summary(run: RunResult, *, part: bool = False) -> dict[str, Any]:
    """Write the summary and a dated copy that later runs do not replace; returns it.

    That of a run of a `part`, such as one stage, is only the dated copy if the folder has a summary.
    """
    summary = run_summary(run)
    data = (json_text(summary, "summary") + "\n").encode()
    with environment_errors(run.folder.root):
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        run.folder.replace(run.folder.root / "summaries" / f"{stamp}.json", data)
        if not part or not run.folder.summary.exists():
            run.folder.replace(run.folder.summary, data)
    if (found := written.get()) is not None:
        found.append(summary)
    return summary
