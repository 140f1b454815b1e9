"""The networks of a training: the UNet and the text encoder that reads the identity.

The text encoder is frozen unless it is trained too. Frozen weights are in no checkpoint: they are those that the
training began with.
"""

import hashlib
from typing import Self, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from spinmeround.tasks.training.params import TextEncoderParams

STATISTICS = "statistics."
"""Prefix of the statistics of the latents in a checkpoint, if the model has any."""


def build_text_encoder(params: TextEncoderParams, seed: int) -> CLIPTextModel:
    """A text encoder with random weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPTextModel(text_encoder_config(params))


def text_encoder_config(params: TextEncoderParams) -> CLIPTextConfig:
    """The transformers configuration of a text encoder."""
    return CLIPTextConfig(
        vocab_size=params.vocabulary,
        hidden_size=params.width,
        intermediate_size=params.feed_forward,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        max_position_embeddings=params.prompt.length,
        bos_token_id=params.prompt.start,
        eos_token_id=params.prompt.end,
        pad_token_id=params.prompt.padding,
    )


class Networks(nn.Module):
    """The networks of a training as one module; a frozen one has weights that require no gradient.

    The UNet of `adapt` is that of single pictures, before it is extended to several views.
    """

    unet: MultiviewUNet | UNet2DConditionModel
    prompt_encoder: IdentityPromptEncoder

    def __init__(self, unet: MultiviewUNet | UNet2DConditionModel, prompt_encoder: IdentityPromptEncoder) -> None:
        super().__init__()
        self.unet = unet
        self.prompt_encoder = prompt_encoder

    @property
    def multiview(self) -> MultiviewUNet:
        """The UNet of a phase of several views."""
        found: MultiviewUNet | UNet2DConditionModel = self.unet
        assert isinstance(found, MultiviewUNet)
        return cast(MultiviewUNet, found)

    def freeze_text_encoder(self) -> Self:
        """The same networks with a text encoder that is not trained."""
        self.prompt_encoder.requires_grad_(False).eval()
        return self

    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that are trained, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def statistics(self) -> dict[str, Tensor]:
        """The statistics of the latents by name, if the UNet has any."""
        found = isinstance(self.unet, MultiviewUNet) and self.unet.statistics
        return dict(found.named_buffers()) if found else {}

    def frozen_digest(self) -> str:
        """SHA-256 of the weights that are not trained, by which a checkpoint names those that it lacks."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.named_parameters()):
            if not weight.requires_grad:
                digest.update(name.encode())
                digest.update(weight.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()
