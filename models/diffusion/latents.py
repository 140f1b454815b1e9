"""Images to latents and back through a diffusers autoencoder, scaled for the diffusion model."""

import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor

Autoencoder = AutoencoderKL | AutoencoderDC
"""Stable Diffusion's autoencoder, or the deterministic one of the embedded weights (DC-AE, arXiv:2410.10733)."""


def encode_images(
    vae: Autoencoder, images: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "n channel latent_height latent_width"]:
    """Latents of images in [-1, 1] times the scaling factor (unit variance); the mode of a latent distribution."""
    encoded = vae.encode(images.to(vae.dtype))
    latents: Tensor = encoded.latent_dist.mode() if isinstance(vae, AutoencoderKL) else encoded.latent
    scaling_factor: float = vae.config["scaling_factor"]
    return latents.float() * scaling_factor


def decode_images(
    vae: Autoencoder, latents: Float[Tensor, "n channel latent_height latent_width"]
) -> Float[Tensor, "n 3 height width"]:
    """Images of scaled latents, approximately in [-1, 1], in float32."""
    images: Tensor = vae.decode((latents / vae.config["scaling_factor"]).to(vae.dtype)).sample
    return images.float()


def downsampling(vae: Autoencoder) -> int:
    """Side of an image divided by the side of its latent."""
    kind = "block_out_channels" if isinstance(vae, AutoencoderKL) else "encoder_block_out_channels"
    factor: int = 2 ** (len(vae.config[kind]) - 1)
    return factor


def decoder_width(vae: Autoencoder) -> int:
    """Channels of the decoder at image resolution."""
    kind = "block_out_channels" if isinstance(vae, AutoencoderKL) else "decoder_block_out_channels"
    width: int = vae.config[kind][0]
    return width


def pair_latents(images: Float[Tensor, "n c h w"], normals: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
    """Latent channels of views: image first, then normals."""
    return torch.cat([images, normals], dim=1)
