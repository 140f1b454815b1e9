"""The networks before training: random, or initialised from Stable Diffusion 1.5 and Arc2Face as published.

stable-diffusion-v1-5/vae     the autoencoder
arc2face/arc2face             the UNet that the multiview UNet is grown from
arc2face/encoder              the text encoder that reads identities
"""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.unet import MultiviewUNet, base_config
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.errors import ConfigError, as_config_error
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.training.networks import Networks, build_networks, text_encoder_config
from spinmeround.tasks.training.params import TextEncoderParams, TrainParams
from spinmeround.tasks.weights.networks import AUTOENCODERS, check_network, load_network

_UNET, _ENCODER = "train.initial.unet", "train.initial.text_encoder"


def build_initial_networks(params: TrainParams) -> Networks:
    """The networks at the first step of a training; their random weights are a function of its seed.

    Raises ConfigError if a folder of `train.initial` is missing or its sizes differ from the profile's.
    """
    folders = params.initial.folders
    networks = build_networks(params.unet, params.text_encoder, params.seed)
    if "unet" in folders:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            networks.unet = grow_unet(folders["unet"], params.unet)
    if "text_encoder" in folders:
        networks.prompt_encoder.text_encoder = _load_text_encoder(folders["text_encoder"], params.text_encoder)
    return networks if params.text_encoder.trained else networks.freeze_text_encoder()


def check_external(params: TrainParams, encode: EncodeParams) -> None:
    """Check the networks from outside that a training loads, every number of them, before anything is computed.

    Raises ConfigError, which names the field, for a network that the training would refuse.
    """
    if encode.autoencoder != "embedded":
        check_network(autoencoder_path(encode), *AUTOENCODERS, field="encode.autoencoder")
    folders = params.initial.folders
    if "unet" in folders:
        unet = check_network(folders["unet"], "UNet2DConditionModel", field=_UNET)
        _check_unet_sizes(folders["unet"], unet.config, params.unet)
    if "text_encoder" in folders:
        encoder = check_network(folders["text_encoder"], "CLIPTextModel", field=_ENCODER)
        _check_encoder_sizes(folders["text_encoder"], encoder.config, params.text_encoder)


def grow_unet(folder: Path, params: UNetParams) -> MultiviewUNet:
    """Grow the multiview UNet from a text-to-image UNet. Raises ConfigError if its sizes differ from `params`."""
    unet = load_network(folder, "UNet2DConditionModel", field=_UNET)
    _check_unet_sizes(folder, unet.config, params)
    unet.register_to_config(sample_size=params.sample_size)
    with as_config_error(f"{_UNET}: {folder}: "):
        grown: MultiviewUNet = MultiviewUNet.from_unet(
            unet, views=params.views, ray_encoding=params.ray_encoding, multiview_factors=params.multiview_factors
        )
    return grown


def _load_text_encoder(folder: Path, params: TextEncoderParams) -> CLIPTextModel:
    encoder: CLIPTextModel = load_network(folder, "CLIPTextModel", field=_ENCODER)
    _check_encoder_sizes(folder, encoder.config, params)
    return encoder


def _check_unet_sizes(folder: Path, config: Any, params: UNetParams) -> None:
    for name, value in base_config(params).items():
        found = list(config[name]) if isinstance(value, list) and isinstance(config[name], tuple) else config[name]
        if found != value and name != "sample_size":  # no weight depends on it
            raise ConfigError(f"{_UNET}: {folder}: expected {name} {value}, by train.unet, found {found}")


def _check_encoder_sizes(folder: Path, config: Any, params: TextEncoderParams) -> None:
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    for name in sizes:
        expected, found = getattr(text_encoder_config(params), name), getattr(config, name)
        if found != expected:
            raise ConfigError(f"{_ENCODER}: {folder}: expected {name} {expected}, by train.text_encoder, found {found}")
    if config.max_position_embeddings < params.prompt.length:
        raise ConfigError(
            f"{_ENCODER}: {folder}: expected at least the prompt's {params.prompt.length} positions, "
            f"found {config.max_position_embeddings}"
        )


def grow_pipeline(
    stable_diffusion: Path,
    arc2face: Path,
    *,
    prompt: PromptTokens | None = None,
    dtype: torch.dtype = torch.float32,
    **growth: Any,
) -> SpinMeRoundPipeline:
    """A pipeline whose UNet equals Arc2Face's for each view, apart from the ray weights; `growth` goes to `from_unet`.

    Raises ConfigError if a folder is missing or its parts are incompatible.
    """
    parts = {
        "vae": load_network(stable_diffusion / "vae", "AutoencoderKL", dtype=dtype),
        "text_encoder": load_network(arc2face / "encoder", "CLIPTextModel", dtype=dtype),
    }
    with as_config_error(f"{arc2face}: "):
        unet = MultiviewUNet.from_unet(
            load_network(arc2face / "arc2face", "UNet2DConditionModel", dtype=dtype), **growth
        )
        return SpinMeRoundPipeline(unet=unet, prompt=(prompt or PromptTokens()).model_dump(mode="json"), **parts)
