"""The key of a training: what it reads, and the training that it begins with. Imports no networks.

The stage of a training in the store is its phase. The training that it begins with is an input, by its own stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint
from spinmeround.tasks.training.beginning.source import check_stated, initial_source
from spinmeround.tasks.training.params import ENCODER, TrainParams
from spinmeround.tasks.training.params.phases import PHASES, field_of

VERSION = 4

EXECUTION = frozenset(
    {
        *("checkpoint_every", "keep_checkpoints", "keep_best", "keep_state"),
        *("record_every", "tensorboard", "wandb", "validation", "samples"),
        *("micro_batch", "gradient_checkpointing", "state_on_disk", "memory_mb", "threads"),
        *("launch", "sharding", "compile", "channels_last", "prefetch", "workers"),
    }
)
"""Fields of `TrainParams` that log, pace or place a training, and change no weights."""

_OF_SEVERAL_VIEWS = {"views", "ray_encoding", "multiview_factors", "normals"}
"""Fields of `train.unet` that the UNet of single pictures lacks."""

_ADDED: dict[str, Any] = {"normals": True, "conditioned_on": "both"}
"""Fields that are newer than keys of this version, with their defaults. These enter no key, so that trainings of
earlier versions are found."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The finished training that another one begins with: its phase and key, and the folder of its artifact."""

    phase: str
    key: str
    folder: Path

    @property
    def inputs(self) -> dict[str, str]:
        """The entry of `training_inputs`."""
        return {self.phase: self.key}


def training_content(params: TrainParams, encode: EncodeParams) -> dict[str, Any]:
    """The parameters that determine the weights of a training of one phase, without those of the other phases.

    Pictures of faces are among its inputs.
    """
    phases = {field_of(name) for name in PHASES}
    content = _without_added(params.model_dump(mode="json", exclude={*EXECUTION, *phases, "initial"}))
    content["unet"] = _without_added(content["unet"])
    content["phase"] = params.phase.model_dump(mode="json", exclude={"faces"})
    if params.name == "adapt":
        content["unet"] = {name: value for name, value in content["unet"].items() if name not in _OF_SEVERAL_VIEWS}
        # its UNet has no new layers, and sees an identity alone
        return {name: value for name, value in content.items() if name not in ("new_layers_rate", "conditioned_on")}
    return {**content, "zero_pose": params.initial.zero_pose, "normals_frame": encode.normals_frame}


def training_weights(params: TrainParams, encode: EncodeParams, *, first: bool = True) -> str:
    """Fingerprint of the autoencoder and, of the first training of a chain, of the initial weights.

    Raises ConfigError if a folder of `initial` is missing, or a pipeline has another prompt or frame of the normals.
    """
    autoencoder = autoencoder_fingerprint(encode)
    if not first or not params.initial.folders:
        return autoencoder
    folder, found = params.initial.folders.get("text_encoder"), {"autoencoder": autoencoder}
    if (source := initial_source(params.initial)) is not None:
        frame = None if params.trained == ["adapt"] else encode.normals_frame
        check_stated(source, params.text_encoder.prompt.model_dump(mode="json"), frame)
        found["unet"] = source.fingerprint(text_encoder=folder is None)
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{ENCODER}: expected a model's folder with config.json at {folder}, found none; `spinmeround weights "
                "check` says where to get it, 'random' starts without it"
            )
        found["text_encoder"] = fingerprint(folder)
    return sha256_json(found)


def export_content(params: TrainParams, encode: EncodeParams) -> dict[str, Any]:
    """The parameters of a pipeline of the networks of `train.initial`, without training."""
    content = {
        "phase": {"steps": 0},
        "unet": _without_added(params.unet.model_dump(mode="json")),
        "text_encoder": params.text_encoder.model_dump(mode="json"),
        "zero_pose": params.initial.zero_pose,
        "seed": params.seed,
        "normals_frame": encode.normals_frame,
        "conditioned_on": params.conditioned_on,
    }
    return _without_added(content)


def export_key(params: TrainParams, encode: EncodeParams) -> str:
    """Content address of such a pipeline. Raises ConfigError if `train.initial` names no UNet."""
    if "unet" not in params.initial.folders:
        raise ConfigError(
            "train: expected steps in adapt, single_view or multi_view, got none; without steps, train.initial.unet "
            "names the networks to export as a pipeline"
        )
    return artifact_key("multi-view", VERSION, export_content(params, encode), {}, training_weights(params, encode))


def training_inputs(dataset: HeadDataset) -> dict[str, str]:
    """What a training reads of heads: the digests of the dataset and of its latents.

    Raises DatasetError for a dataset without latents.
    """
    return {"dataset": dataset.digest, "latents": dataset.latents_digest}


def training_key(inputs: Mapping[str, str], params: TrainParams, encode: EncodeParams) -> str:
    """Content address of a training on these `training_inputs`, with the key of the training before it by its phase."""
    return _key(training_content(params, encode), inputs, params, encode)


def without_steps(content: Mapping[str, Any]) -> dict[str, Any]:
    """The `training_content` of a training of any length: more steps continue it."""
    return {**content, "phase": {name: value for name, value in content["phase"].items() if name != "steps"}}


def lineage_key(inputs: Mapping[str, str], params: TrainParams, encode: EncodeParams) -> str:
    """What names a training in its checkpoints: its key but for the number of steps."""
    return _key(without_steps(training_content(params, encode)), inputs, params, encode)


def _without_added(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _ADDED or value != _ADDED[name]}


def _key(content: Mapping[str, Any], inputs: Mapping[str, str], params: TrainParams, encode: EncodeParams) -> str:
    weights = training_weights(params, encode, first=inputs.keys().isdisjoint(PHASES))
    return artifact_key(params.name, VERSION, content, inputs, weights)
