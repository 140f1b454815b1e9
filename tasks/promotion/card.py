"""The card of a registered model: where it comes from and how well it does, as Markdown."""

import json
from dataclasses import asdict

from spinmeround.storage.artifacts import Manifest
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.params import EvaluationResult
from spinmeround.tasks.evaluation.table import metric_table, missing_lines
from spinmeround.tasks.markdown import markdown_table, values_table
from spinmeround.tasks.training.params import TrainingResult

_DATA = ("dataset", "latents")


def model_card(
    training: Manifest, result: TrainingResult, evaluated_on: HeadDataset, evaluation: EvaluationResult
) -> str:
    """The card of a training: its data, steps, software and terms, and its evaluation on the held-out heads."""
    attributes, phase = evaluated_on.attributes, training.params.get("phase")
    facts = {
        "training": f"`{training.stage}/{training.key}`",
        "steps": result.described,
        "dataset": f"`{training.inputs.get('dataset', 'none')}`",
        "latents": f"`{training.inputs.get('latents', 'none')}`",
        "begins with": ", ".join(f"`{name}/{key[:12]}`" for name, key in training.inputs.items() if name not in _DATA)
        or "the initial networks",
        "software": training.code_version,
        "machine": training.machine,
        "made": training.created,
        "evaluated on": f"`{evaluated_on.digest}`, {len(evaluation.heads)} held-out heads",
        "terms of the data": str(attributes.get("licence", "not stated")),
    }
    header, rows = metric_table(asdict(evaluation))
    lines = [
        values_table(facts),
        "Means over heads with 95% intervals; p of the paired test with the model:",
        markdown_table(header, rows),
        *(f"- {line}" for line in missing_lines(asdict(evaluation))),
        "Parameters of the phase:",
        f"```json\n{json.dumps(phase, indent=1, sort_keys=True, allow_nan=False)}\n```",
    ]
    return "\n\n".join(lines) + "\n"
