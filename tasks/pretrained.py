"""The model at the start of its training: grown from folders of Stable Diffusion 1.5 and Arc2Face, as published.

stable-diffusion-v1-5/vae     the autoencoder
arc2face/arc2face             the UNet that the multiview UNet grows from
arc2face/encoder              the text encoder that reads identities
"""

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel

from models.diffusion.pipeline import SpinMeRoundPipeline
from models.diffusion.unet import MultiviewUNet
from models.identity.prompt import PromptTokens
from storage.errors import ConfigError, mistakes


def grow_pipeline(
    stable_diffusion: Path,
    arc2face: Path,
    *,
    prompt: PromptTokens | None = None,
    dtype: torch.dtype = torch.float32,
    **growth: Any,
) -> SpinMeRoundPipeline:
    """A pipeline whose UNet equals Arc2Face's per view up to the pose weights; `growth` goes to `from_unet`.

    Raises ConfigError for a folder that is not there or holds parts that don't fit.
    """
    parts = {
        "vae": _load(AutoencoderKL, stable_diffusion / "vae", dtype),
        "text_encoder": _load(CLIPTextModel, arc2face / "encoder", dtype),
    }
    with mistakes(f"{arc2face}: "):
        unet = MultiviewUNet.from_unet(_load(UNet2DConditionModel, arc2face / "arc2face", dtype), **growth)
        return SpinMeRoundPipeline(unet=unet, prompt=(prompt or PromptTokens()).model_dump(mode="json"), **parts)


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: expected a model's folder with config.json, found none")
    return kind.from_pretrained(folder, dtype=dtype, local_files_only=True)
