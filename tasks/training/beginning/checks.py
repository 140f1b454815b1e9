"""Checks of the networks that a training begins with, against its parameters. All raise ConfigError, with the field."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPTextConfig

from spinmeround.models.diffusion.unet import base_config
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.model.networks import text_encoder_config
from spinmeround.tasks.training.params import ENCODER, UNET, TextEncoderParams, TrainParams
from spinmeround.tasks.training.params.phases import PhaseName

_ACROSS_VIEWS = ("ray_encoding", "multiview_factors")
"""Of a MultiviewUNet, what its weights across views depend on."""
_ENCODER_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def check_unet(folder: Path, config: Mapping[str, Any], phase: PhaseName, params: TrainParams) -> None:
    """Check the configuration of either UNet; what concerns several views, where the phase has them."""
    base = config.get("base", config)
    for name, value in base_config(params.unet).items():
        if name != "sample_size" or config.get("latent_statistics"):  # nothing else depends on it
            _compare(folder, name, value, base[name])
    if "base" in config and phase != "adapt":
        for name in _ACROSS_VIEWS:
            _compare(folder, name, getattr(params.unet, name), config[name])
        _check_normals(folder, config, params)


def check_checkpoint(folder: Path, model: Mapping[str, Any], params: TrainParams) -> None:
    """Check the sizes that a checkpoint states of its networks."""
    for name, value in params.unet.model_dump(mode="json", exclude={"views", "latent_statistics", "normals"}).items():
        _compare(folder, name, value, model["unet"].get(name))
    _check_normals(folder, model["unet"], params)
    for name, value in params.text_encoder.model_dump(mode="json", exclude={"trained"}).items():
        if (found := model["text_encoder"].get(name)) != value:
            raise ConfigError(f"{UNET}: {folder}: expected {name} {value}, by train.text_encoder, found {found}")


def check_encoder(folder: Path, config: CLIPTextConfig, params: TextEncoderParams) -> None:
    """Check the configuration of a text encoder."""
    for name in _ENCODER_SIZES:
        expected, found = getattr(text_encoder_config(params), name), getattr(config, name)
        if found != expected:
            raise ConfigError(f"{ENCODER}: {folder}: expected {name} {expected}, by train.text_encoder, found {found}")
    if config.max_position_embeddings < params.prompt.length:
        raise ConfigError(
            f"{ENCODER}: {folder}: expected at least the prompt's {params.prompt.length} positions, "
            f"found {config.max_position_embeddings}"
        )


def check_widths(params: TrainParams) -> None:
    """Raises ValueError if the UNet's cross-attention width differs from the text encoder's width."""
    if params.unet.cross_attention_dim != params.text_encoder.width:
        raise ValueError(
            f"train.unet.cross_attention_dim: expected the text encoder's width {params.text_encoder.width}, "
            f"got {params.unet.cross_attention_dim}"
        )


def _check_normals(folder: Path, sizes: Mapping[str, Any], params: TrainParams) -> None:
    """Normals can be removed from a UNet, not added; `sizes` of earlier versions state none and have them."""
    if params.unet.normals:
        _compare(folder, "normals", True, sizes.get("normals", True))


def _compare(folder: Path, name: str, expected: Any, found: Any) -> None:
    plain = list(found) if isinstance(found, tuple) else found
    if plain != (list(expected) if isinstance(expected, tuple) else expected):
        raise ConfigError(f"{UNET}: {folder}: expected {name} {expected}, by train.unet, found {found}")
