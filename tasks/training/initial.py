"""The networks before training: random, or initialised from Stable Diffusion 1.5 and Arc2Face as published.

stable-diffusion-v1-5/vae     the autoencoder
arc2face/arc2face             the UNet that the multiview UNet is grown from
arc2face/encoder              the text encoder that reads identities
"""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.unet import MultiviewUNet, base_config
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.errors import ConfigError, as_config_error
from spinmeround.tasks.training.params import TextEncoderParams, TrainParams
from spinmeround.tasks.training.state import Networks, build_networks, text_encoder_config


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
    return networks


def grow_unet(folder: Path, params: UNetParams) -> MultiviewUNet:
    """Grow the multiview UNet from a text-to-image UNet. Raises ConfigError if its sizes differ from `params`."""
    expected = base_config(params)
    unet = _load(UNet2DConditionModel, folder, torch.float32)
    for name, value in expected.items():
        found = list(unet.config[name]) if isinstance(value, list) else unet.config[name]
        if found != value and name != "sample_size":  # no weight depends on it
            raise ConfigError(f"train.initial.unet: {folder}: expected {name} {value}, by train.unet, found {found}")
    unet.register_to_config(sample_size=params.sample_size)
    with as_config_error(f"train.initial.unet: {folder}: "):
        grown: MultiviewUNet = MultiviewUNet.from_unet(
            unet, views=params.views, ray_encoding=params.ray_encoding, multiview_factors=params.multiview_factors
        )
    return grown


def _load_text_encoder(folder: Path, params: TextEncoderParams) -> CLIPTextModel:
    encoder: CLIPTextModel = _load(CLIPTextModel, folder, torch.float32)
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    for name in sizes:
        expected, found = getattr(text_encoder_config(params), name), getattr(encoder.config, name)
        if found != expected:
            raise ConfigError(
                f"train.initial.text_encoder: {folder}: expected {name} {expected}, by train.text_encoder, "
                f"found {found}"
            )
    if encoder.config.max_position_embeddings < params.prompt.length:
        raise ConfigError(
            f"train.initial.text_encoder: {folder}: expected at least the prompt's {params.prompt.length} positions, "
            f"found {encoder.config.max_position_embeddings}"
        )
    return encoder


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
        "vae": _load(AutoencoderKL, stable_diffusion / "vae", dtype),
        "text_encoder": _load(CLIPTextModel, arc2face / "encoder", dtype),
    }
    with as_config_error(f"{arc2face}: "):
        unet = MultiviewUNet.from_unet(_load(UNet2DConditionModel, arc2face / "arc2face", dtype), **growth)
        return SpinMeRoundPipeline(unet=unet, prompt=(prompt or PromptTokens()).model_dump(mode="json"), **parts)


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: expected a model's folder with config.json, found none")
    return kind.from_pretrained(folder, dtype=dtype, local_files_only=True)
