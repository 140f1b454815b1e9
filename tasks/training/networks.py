"""The networks of a training: the multiview UNet and the text encoder that reads the identity.

The text encoder is frozen unless it is trained too. Frozen weights are in no checkpoint: they are those that the
training began with.
"""

from typing import Self

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.unet import MultiviewUNet, build_unet
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from spinmeround.tasks.training.params import TextEncoderParams


def build_text_encoder(params: TextEncoderParams) -> CLIPTextModel:
    """A text encoder with random weights."""
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
    """The networks of a training as one module; a frozen one has weights that require no gradient."""

    unet: MultiviewUNet
    prompt_encoder: IdentityPromptEncoder

    def __init__(self, unet: MultiviewUNet, prompt_encoder: IdentityPromptEncoder) -> None:
        super().__init__()
        self.unet = unet
        self.prompt_encoder = prompt_encoder

    def freeze_text_encoder(self) -> Self:
        """The same networks with a text encoder that is not trained."""
        self.prompt_encoder.requires_grad_(False).eval()
        return self

    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that are trained, by name."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}


def build_networks(unet: UNetParams, text_encoder: TextEncoderParams, seed: int) -> Networks:
    """Networks with random weights, a function of the seed.

    Raises ValueError if the UNet's cross-attention width differs from the text encoder's width.
    """
    if unet.cross_attention_dim != text_encoder.width:
        raise ValueError(
            f"train.unet.cross_attention_dim: expected the text encoder's width {text_encoder.width}, "
            f"got {unet.cross_attention_dim}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Networks(build_unet(unet), IdentityPromptEncoder(build_text_encoder(text_encoder), text_encoder.prompt))
