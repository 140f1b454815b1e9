"""Pictures to latents and back through a diffusers autoencoder, scaled as the diffusion model wants them."""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float
from torch import Tensor


def encode_pictures(
    vae: AutoencoderKL, pictures: Float[Tensor, "n 3 height width"]
) -> Float[Tensor, "n channel latent_height latent_width"]:
    """Means of the latents of pictures in [-1, 1], times the autoencoder's scaling factor (unit variance)."""
    latents: Tensor = vae.encode(pictures.to(vae.dtype)).latent_dist.mode()
    scaling_factor: float = vae.config["scaling_factor"]
    return latents.float() * scaling_factor


def decode_pictures(
    vae: AutoencoderKL, latents: Float[Tensor, "n channel latent_height latent_width"]
) -> Float[Tensor, "n 3 height width"]:
    """Pictures in about [-1, 1] of scaled latents, in float32."""
    pictures: Tensor = vae.decode((latents / vae.config["scaling_factor"]).to(vae.dtype)).sample
    return pictures.float()


def downsampling(vae: AutoencoderKL) -> int:
    """Side of a picture over the side of its latent."""
    factor: int = 2 ** (len(vae.config["block_out_channels"]) - 1)
    return factor


def pair_latents(images: Float[Tensor, "n c h w"], normals: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h w"]:
    """The channels of a view: its image's latent, then its normals'."""
    return torch.cat([images, normals], dim=1)
