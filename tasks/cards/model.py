"""The model card: the `README.md` of a trained pipeline in the format of the Hugging Face hub.

The metrics of the evaluation are in its header as `model-index`, which the hub shows, and as a table with intervals.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spinmeround.models.metrics.definitions import METRICS, metric_of, p_value_text
from spinmeround.tasks.cards.parts import (
    UNKNOWN,
    UsedPart,
    generator_part,
    hub_licence,
    network_part,
    part_rows,
    recognition_part,
)
from spinmeround.tasks.cards.people import ethics
from spinmeround.tasks.markdown import markdown_table

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CONDITIONS = {
    "both": "an identity embedding and 1 or 3 posed views, either of them, or neither",
    "identity": "an identity embedding alone",
    "image": "1 or 3 posed views alone",
}


_NOT_SHOWN = ("initial", "launch", "tensorboard", "wandb")
"""Fields of `train` that are among the parts, or that name places and accounts."""


@dataclass(frozen=True, kw_only=True)
class TrainedPhase:
    """One training of the chain: its phase, the key of its artifact, and its result."""

    phase: str
    key: str
    steps: int
    loss_last: float | None


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a trained model.

    `train` and `encode` are the sections of the profile, `dataset` the attributes of the dataset that it was trained on
    and `digest` its digest; `evaluation` has the fields of an `EvaluationResult` and `evaluate` the section of the
    profile. None is what is not known or not done.
    """

    name: str
    phases: tuple[TrainedPhase, ...]
    code_version: str
    train: Mapping[str, Any]
    encode: Mapping[str, Any]
    autoencoder: str = UNKNOWN
    """Fingerprint of the autoencoder."""
    dataset: Mapping[str, Any] | None = None
    digest: str | None = None
    evaluation: Mapping[str, Any] | None = None
    evaluation_digest: str | None = None
    """Digest of the dataset that the model was evaluated on."""
    evaluate: Mapping[str, Any] | None = None

    @property
    def parts(self) -> tuple[UsedPart, ...]:
        """The parts that the model is made from."""
        initial = self.train["initial"]
        unet = initial["unet"]
        encoder = network_part("initial text encoder", initial["text_encoder"], "multiview")
        if initial["text_encoder"] == "random" and unet != "random":
            encoder = network_part("initial text encoder", unet, "multiview")
        return (
            network_part("initial UNet", unet, "multiview"),
            encoder,
            network_part("autoencoder", self.encode["autoencoder"], "autoencoder", self.autoencoder),
            *((generator_part(self.dataset), recognition_part(self.dataset)) if self.dataset is not None else ()),
            *((UsedPart(role="pictures of faces", name="an external set"),) if self.has_faces else ()),
        )

    @property
    def has_faces(self) -> bool:
        """Whether the phase adapt was trained on pictures of faces from elsewhere."""
        adapt = self.train["adapt"]
        return bool(adapt["steps"]) and adapt["faces"]["source"] != "heads"

    @property
    def licence(self) -> dict[str, str]:
        """The header's fields of the licence: this software's if all parts have it, else a reference to the parts."""
        known = self.dataset is not None and all(part.free for part in self.parts)
        stated = hub_licence(str(self.dataset.get("licence"))) if self.dataset is not None else {}
        if known and stated.get("license") in ("cc0-1.0", "apache-2.0"):
            return {"license": "apache-2.0"}
        return {"license": "other", "license_name": "terms-of-the-parts", "license_link": "README.md"}


_OF_FACES = """
The phase adapt was also trained on pictures of faces from elsewhere. Who they show, and whether these people agreed, is
unknown.
"""


def model_card(facts: ModelFacts) -> str:
    """`README.md` of a pipeline: a YAML header, then a page. Raises ValueError if the header is not the hub's."""
    from huggingface_hub import ModelCard, ModelCardData

    bases = [part.repository for part in facts.parts if part.role == "initial UNet" and part.repository]
    results = _eval_results(facts)
    data = ModelCardData(
        model_name=f"SpinMeRound, {facts.name}",
        library_name="diffusers",
        pipeline_tag="image-to-3d",
        tags=["multi-view", "faces", "normals", "novel-view-synthesis", "spinmeround"],
        eval_results=results or None,
        base_model=bases[0] if bases else None,
        metrics=sorted({each.metric_type for each in results}) or None,
        **facts.licence,  # type: ignore[arg-type]
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_page(facts)}").content)


def _eval_results(facts: ModelFacts) -> list["EvalResult"]:
    from huggingface_hub import EvalResult

    if facts.evaluation is None:
        return []
    found, digest = facts.evaluation, facts.evaluation_digest
    intervals = found["intervals"].get("model", {})
    results = []
    for name in METRICS:
        value = found["model"].get(name)
        if value is None:
            continue
        interval = intervals.get(name, {})
        known = interval.get("low") is not None
        results.append(
            EvalResult(
                task_type="image-to-3d",
                task_name="novel views of held-out heads",
                dataset_type=f"spinmeround-{(digest or UNKNOWN)[:12]}",
                dataset_name=f"{_generator_name(facts)} heads",
                dataset_split=str((facts.evaluate or {}).get("split", UNKNOWN)),
                dataset_revision=digest,
                metric_type=name,
                metric_name=metric_of(name).label,
                metric_value=float(value),
                metric_args={
                    "heads": len(found["heads"]),
                    **({"interval_95": [float(interval["low"]), float(interval["high"])]} if known else {}),
                },
            )
        )
    return results


def _page(facts: ModelFacts) -> str:
    conditioned = CONDITIONS.get(str(facts.train.get("conditioned_on")), UNKNOWN)
    return f"""# SpinMeRound, {facts.name}

A multiview latent diffusion model that generates pictures{" and normal maps" if _has_normals(facts) else ""} of a
head from any cameras, given {conditioned}.

## Intended use

Research on novel views of heads. It is not meant for making pictures of real people without their consent, nor for
recognising people or deciding anything about them.

```python
from spinmeround import SpinMeRoundPipeline

pipeline = SpinMeRoundPipeline.from_pretrained("PATH")
```

## Licences of the parts

{part_rows(facts.parts)}

The terms of the parts extend to the model as far as they say so. Unknown is what the training does not record.

## How it was made

{_made(facts)}

## Metrics

{_metrics(facts)}

## Limits

{_limits(facts)}

## People in the pictures

{ethics(facts.dataset)}
{_OF_FACES if facts.has_faces else ""}"""


def _made(facts: ModelFacts) -> str:
    phases = [(each.phase, each.steps, _loss(each), f"`{each.key}`") for each in facts.phases]
    parameters = {name: value for name, value in facts.train.items() if name not in _NOT_SHOWN}
    parameters["adapt"] = {name: value for name, value in facts.train["adapt"].items() if name != "faces"}
    shown = {"train": parameters, "normals_frame": facts.encode.get("normals_frame")}
    return f"""- profile: {facts.name}
- version of the software: {facts.code_version or UNKNOWN}
- digest of the dataset: {f"`{facts.digest}`" if facts.digest else UNKNOWN}
- generator of the dataset: {_generator_name(facts)}

{markdown_table(("phase", "steps", "last loss", "key"), phases)}

```json
{json.dumps(shown, indent=1, sort_keys=True, allow_nan=False)}
```"""


def _metrics(facts: ModelFacts) -> str:
    if facts.evaluation is None:
        return "Unknown: the model has not been evaluated."
    found = facts.evaluation
    others = {**found["baselines"], **found["methods"]}
    header = ["metric", "model", *(name.replace("_", " ") for name in others)]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for name in METRICS:
        values = {"model": found["model"].get(name), **{other: theirs.get(name) for other, theirs in others.items()}}
        if all(value is None for value in values.values()):
            continue
        arrow = "higher is better" if metric_of(name).higher_is_better else "lower is better"
        cells = [_cell(found, prediction, name, value) for prediction, value in values.items()]
        lines.append(f"| {' | '.join([f'{metric_of(name).label} ({metric_of(name).unit}, {arrow})', *cells])} |")
    missing = [f"- {metric_of(name).label}: unknown, {reason}" for name, reason in found["missing"].items()]
    about = (
        f"Means over {len(found['heads'])} heads of the dataset `{facts.evaluation_digest or UNKNOWN}`, with 95% "
        "bootstrap intervals over heads, and p-values of paired permutation tests with the model."
    )
    return "\n".join([about, "", *lines, *(["", *missing] if missing else [])])


def _cell(found: Mapping[str, Any], prediction: str, metric: str, value: float | None) -> str:
    if value is None:
        return UNKNOWN
    spread = found["intervals"].get(prediction, {}).get(metric) or {}
    tested = found["comparisons"].get(prediction, {}).get(metric) or {}
    known = (spread["low"], spread["high"]) if spread.get("low") is not None else None
    about = [metric_of(metric).interval_text(known), p_value_text(tested.get("p_value"))]
    text = ", ".join(filter(None, about))
    return metric_of(metric).text(value) + (f" ({text})" if text else "")


def _limits(facts: ModelFacts) -> str:
    side = facts.train["unet"]["sample_size"]
    faces = " and on pictures of faces" if facts.has_faces else ""
    lines = [
        f"It generates {facts.train['unet']['views']} views at a time, from latents of {side} x {side}.",
        f"It was trained on {_generator_name(facts)} heads{faces}; how it does on others is unknown.",
        "Views that the input does not show are invented; they are no record of how a person looks.",
    ]
    if (identities := (facts.evaluation or {}).get("identities") or {}) and identities["heads"]:
        heads = identities["heads"]
        nearer = sum(head["nearest_similarity"] > head["own"] for head in heads)
        lines.append(
            f"Generated held-out heads that are nearer to a training head than to the true head, by the cosine of "
            f"identity embeddings: {nearer} of {len(heads)}."
        )
    else:
        lines.append("Whether it repeats heads of its training set is unknown.")
    return "\n".join(f"- {line}" for line in lines)


def _loss(phase: TrainedPhase) -> str:
    return UNKNOWN if phase.loss_last is None else f"{phase.loss_last:.4g}"


def _has_normals(facts: ModelFacts) -> bool:
    return bool(facts.train["unet"].get("normals", True))


def _generator_name(facts: ModelFacts) -> str:
    return str(((facts.dataset or {}).get("generator") or {}).get("name", UNKNOWN))
