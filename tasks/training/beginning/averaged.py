"""The networks in a checkpoint of a training: its averaged weights, and the frozen ones, which it lacks.

A checkpoint states what it is of in `model`: its phase, the sizes of its networks and the length of the average that
is its result, as `model_record` has them.
"""

from typing import Any

import torch

from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from spinmeround.storage.checkpoints import Checkpoint
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.beginning.checks import check_checkpoint
from spinmeround.tasks.training.beginning.unets import random_unet
from spinmeround.tasks.training.model.networks import STATISTICS, Networks
from spinmeround.tasks.training.optimisation.averages import AVERAGE
from spinmeround.tasks.training.params import UNET, TrainParams


def averaged_networks(checkpoint: Checkpoint, encoder: IdentityPromptEncoder, params: TrainParams) -> Networks:
    """The networks of a checkpoint, with this text encoder where it was frozen.

    Raises ConfigError for a damaged checkpoint, and for one of other sizes or of another frozen text encoder.
    """
    if (problem := checkpoint.problem()) is not None:
        raise ConfigError(f"{UNET}: {checkpoint.path}: expected an intact checkpoint, found that {problem}")
    about = checkpoint.state()
    model: dict[str, Any] | None = about.get("model")
    if model is None:
        raise ConfigError(
            f"{UNET}: {checkpoint.path}: expected a checkpoint that states its networks, found one of an earlier "
            "version; finish that training with the version that began it, and begin with its pipeline"
        )
    check_checkpoint(checkpoint.path, model, params)
    own = {"latent_statistics": model["unet"]["latent_statistics"], "normals": model["unet"].get("normals", True)}
    sizes = params.unet.model_copy(update=own)
    networks = Networks(random_unet(model["phase"], sizes, params.seed), encoder)
    if not model["text_encoder"]["trained"]:
        networks.freeze_text_encoder()
    if networks.frozen_digest() != about["frozen"]:
        raise ConfigError(
            f"{UNET}: {checkpoint.path}: expected the frozen text encoder of its training, found another; name it with "
            "train.initial.text_encoder, or repeat the training's train.seed"
        )
    _fill(networks, checkpoint, f"{AVERAGE}{model['average']:g}.")
    return networks.requires_grad_(True)


def model_record(params: TrainParams, normals_frame: str) -> dict[str, Any]:
    """What a checkpoint states of its networks."""
    return {
        "phase": params.name,
        "unet": params.unet.model_dump(mode="json"),
        "text_encoder": params.text_encoder.model_dump(mode="json"),
        "normals_frame": normals_frame,
        "average": params.average.length,
    }


@torch.no_grad()
def _fill(networks: Networks, checkpoint: Checkpoint, average: str) -> None:
    weights, found = networks.trained(), checkpoint.tensors(average)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    expected = {name: tuple(weight.shape) for name, weight in weights.items()}
    if different := sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name)):
        name = different[0]
        raise ConfigError(
            f"{UNET}: {checkpoint.path}: {name}: expected the shape {expected.get(name)}, found {shapes.get(name)}"
        )
    for name, weight in weights.items():
        weight.copy_(found[name])
    statistics = checkpoint.tensors(STATISTICS)
    for name, buffer in networks.statistics().items():
        buffer.copy_(statistics[name])
