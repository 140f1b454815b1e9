"""Pictures to latents and back through a diffusers autoencoder, scaled as the diffusion model wants them."""

import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

Autoencoder = AutoencoderKL | AutoencoderDC
"""Stable Diffusion's kind, and the deterministic one of the embedded weights (DC-AE, arXiv:2410.10733)."""


def encode_pictures(
    vae: Autoencoder, pictures: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "n channel latent_height latent_width"]:
    """Latents of pictures in [-1, 1], times the autoencoder's scaling factor (unit variance); means, where it gives a
    distribution."""
    encoded = vae.encode(pictures.to(vae.dtype))
    latents: Tensor = encoded.latent_dist.mode() if isinstance(vae, AutoencoderKL) else encoded.latent
    scaling_factor: float = vae.config["scaling_factor"]
    return latents.float() * scaling_factor


def decode_pictures(
    vae: Autoencoder, latents: Float[Tensor, "n channel latent_height latent_width"]
) -> Float[Tensor, "n 3 height width"]:
    """Pictures in about [-1, 1] of scaled latents, in float32."""
    pictures: Tensor = vae.decode((latents / vae.config["scaling_factor"]).to(vae.dtype)).sample
    return pictures.float()


def downsampling(vae: Autoencoder) -> int:
    """Side of a picture over the side of its latent."""
    kind = "block_out_channels" if isinstance(vae, AutoencoderKL) else "encoder_block_out_channels"
    factor: int = 2 ** (len(vae.config[kind]) - 1)
    return factor


def decoder_width(vae: Autoencoder) -> int:
    """Channels of the decoder where it works at the picture's size."""
    kind = "block_out_channels" if isinstance(vae, AutoencoderKL) else "decoder_block_out_channels"
    width: int = vae.config[kind][0]
    return width


def pair_latents(images: Float[Tensor, "n c h w"], normals: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
    """The channels of a view: its image's latent, then its normals'."""
    return torch.cat([images, normals], dim=1)
