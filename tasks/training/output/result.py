"""The result of a training, and its artifact.

`pipeline/`, the averaged weights as a diffusers pipeline, or, of `adapt`, `networks/unet` and `networks/text_encoder`;
`history.json`, the mean loss over every `record_every` steps; `metrics.jsonl`, as
`tasks.training.observation.metrics` describes it; `samples/`, its contact sheets, if any; `averages/`, as
`tasks.training.optimisation.snapshots` does;
`training.json` {steps, loss_first, loss_last, skipped}, where the losses are means over the first and the last tenth of
the steps that were taken, and `skipped` has the reason of each step that was not, by its number from 1;
`state/step-…`, the last checkpoint, from which more steps continue.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.errors import SpinMeRoundError, as_config_error, environment_errors
from spinmeround.storage.files import owned_folder, rename_folder
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.heads.autoencoder import load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.observation.history import LossHistory, first_and_last, loss_records
from spinmeround.tasks.training.optimisation.snapshots import AVERAGES, average_of_length
from spinmeround.tasks.training.params import SAMPLES, TrainingResult, TrainParams
from spinmeround.tasks.training.params.averages import AverageParams
from spinmeround.tasks.training.params.phases import PhaseName
from spinmeround.tasks.weights.networks import NetworkClass, load_network


def write_networks(networks: Networks, params: TrainParams, encode: EncodeParams, out: Path) -> Path | None:
    """Write networks to the folder `out`, as a pipeline if their UNet has several views; returns its folder."""
    if not isinstance(networks.unet, MultiviewUNet):
        networks.unet.save_pretrained(out / "networks" / "unet")
        networks.prompt_encoder.text_encoder.save_pretrained(out / "networks" / "text_encoder")
        return None
    as_pipeline(networks, params, encode).save_pretrained(out / "pipeline")
    return out / "pipeline"


def as_pipeline(networks: Networks, params: TrainParams, encode: EncodeParams) -> SpinMeRoundPipeline:
    """Networks of several views as a pipeline, with the autoencoder of the latents."""
    assert isinstance(networks.unet, MultiviewUNet)
    return SpinMeRoundPipeline(
        unet=networks.unet,
        vae=load_autoencoder(autoencoder_path(encode)),
        text_encoder=networks.prompt_encoder.text_encoder,
        prompt=params.text_encoder.prompt.model_dump(),
        normals_frame=encode.normals_frame,
        conditioned_on=params.conditioned_on,
    )


def write_result(
    networks: Networks, history: LossHistory, params: TrainParams, encode: EncodeParams, out: Path, *, metrics: Path
) -> TrainingResult:
    """Write the result of a training, with its file of metrics, to the folder `out`.

    Raises SpinMeRoundError if no step was taken, or if the last losses are above the first by the guard's measure.
    """
    if not history.losses:
        reason = next(iter(history.skipped.values()))
        raise SpinMeRoundError(f"train: expected a step that can be taken, found none of {params.steps}: {reason}")
    first, last = first_and_last(history.losses)
    if params.guard.spike and last > params.guard.spike * first:
        raise SpinMeRoundError(
            f"train: expected a loss that falls, found {first:.3g} at first and {last:.3g} at last; lower "
            "train.learning_rate, or set train.guard.spike to 0 to keep the result"
        )
    pipeline = write_networks(networks, params, encode, out)
    if metrics.parent != out:
        shutil.copyfile(metrics, out / metrics.name)
    for name in (AVERAGES, SAMPLES):
        if (found := metrics.parent / name).is_dir() and metrics.parent != out:
            shutil.copytree(found, out / name)
    result = TrainingResult(
        steps=params.steps,
        loss_first=first,
        loss_last=last,
        history=loss_records(history.steps, history.losses, params.record_every, params.steps),
        skipped={str(step + 1): reason for step, reason in sorted(history.skipped.items())},
        pipeline=pipeline,
    )
    _write_records(result, params.name, out)
    return result


def write_untrained(networks: Networks, params: TrainParams, encode: EncodeParams, out: Path) -> TrainingResult:
    """Write the result of no step: a pipeline of these networks."""
    pipeline = write_networks(networks, params, encode, out)
    result = TrainingResult(steps=0, loss_first=None, loss_last=None, history=[], pipeline=pipeline)
    _write_records(result, "multi-view", out)
    return result


def _write_records(result: TrainingResult, name: PhaseName, out: Path) -> None:
    summary: dict[str, Any] = asdict(result)
    records = {"runs": [{"name": name, "history": summary.pop("history")}]}
    summary.pop("pipeline")
    for file, content in (("history", records), ("training", summary)):
        (out / f"{file}.json").write_text(json_text(content, f"train: {file}", indent=None), encoding="utf-8")


def rewrite_average(training: Path, length: float, out: Path) -> Path:
    """Write the networks of a training's result to the new folder `out`, with the average of another length as their
    weights.

    They are a pipeline, or, of `adapt`, `unet` and `text_encoder`. Raises SpinMeRoundError if the result has no
    snapshots of its averages or a damaged file, ConfigError for a length out of range.
    """
    with as_config_error("length: "):
        AverageParams(length=length, tracked=(length,))
    average = average_of_length(training / AVERAGES, length)
    pipeline, alone = training / "pipeline", training / "networks"
    source = pipeline if pipeline.is_dir() else alone
    unet: NetworkClass = "MultiviewUNet" if source == pipeline else "UNet2DConditionModel"
    networks = {
        "unet": load_network(source / "unet", unet),
        "text_encoder": load_network(source / "text_encoder", "CLIPTextModel"),
    }
    for prefix, name in {"unet.": "unet", "prompt_encoder.text_encoder.": "text_encoder"}.items():
        weights = {key.removeprefix(prefix): each for key, each in average.items() if key.startswith(prefix)}
        networks[name].load_state_dict({**networks[name].state_dict(), **weights})
    with environment_errors(out), owned_folder(out.absolute().parent, f".{out.name}") as folder:
        new = folder / "new"
        shutil.copytree(source, new, ignore=lambda place, names: networks.keys() if Path(place) == source else ())
        for name, network in networks.items():
            network.save_pretrained(new / name)
        rename_folder(new, out)
    return out
