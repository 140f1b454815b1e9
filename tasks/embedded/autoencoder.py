"""Train the embedded autoencoder: diffusers' AutoencoderDC at 64 px on procedural heads, RGB and normals alike.

A small AutoencoderKL learns far slower: its decoder makes pixels of a latent by repetition and convolutions, the deep
compression autoencoder (DC-AE, arXiv:2410.10733) by unfolding channels. The loss is that of latent diffusion
(arXiv:2112.10752, appendix G) without the adversarial part: absolute error, and its like on finite differences so that
outlines stay sharp. In place of a learnt variance, latents get noise of a fixed share of each channel's deviation, so
that small errors of a latent are small errors of the picture. After most of the training the latents' mean and variance
per channel are folded into the two convolutions round them; the rest of the training mends what the padding makes of
that, and by what it has moved them they are folded in once more.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models import AutoencoderDC
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from spinmeround.models.geometry.normals import decode_normals
from spinmeround.tasks.embedded.pictures import FIRST_SEED, OrbitViews, head_pictures, render_heads
from spinmeround.tasks.stage import StageParams

STANDARDISED_AT = 0.8
"""After this share of the steps the latents are given zero mean and unit variance."""


class AutoencoderParams(StageParams):
    """How the embedded autoencoder is trained and measured."""

    channels: tuple[int, ...] = Field(
        (16, 32, 64, 128), min_length=2, description="Channels of each level; all but one halve the side"
    )
    latent_channels: int = Field(32, ge=1)
    layers_per_block: int = Field(1, ge=1)
    views: OrbitViews = OrbitViews()
    heads: int = Field(400, ge=1, description="Heads trained on")
    first_seed: int = Field(FIRST_SEED, ge=0, description="Generator's seed of the first of them")
    unseen_heads: int = Field(24, ge=1, description="Heads, after those, that the autoencoder is measured on")
    steps: int = Field(5000, ge=2)
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(2e-3, gt=0.0)
    gradient_weight: float = Field(0.5, ge=0.0, description="Weight of the finite differences' error")
    noise: float = Field(0.05, ge=0.0, description="Deviation of the noise on latents, in shares of each channel's own")
    start: str | None = Field(None, description="Folder of an autoencoder to go on from; by default none")
    seed: int = Field(0, ge=0, description="Of the weights, the batches and the backgrounds")
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=1, description="Processes that render; does not change the result")


def run_autoencoder(params: AutoencoderParams, folder: Path, progress: Callable[[str], None]) -> dict[str, float]:
    """Render, train, save to `folder / "autoencoder"` in half precision, and measure what was saved on unseen heads."""
    torch.set_num_threads(params.threads)
    seen = range(params.first_seed, params.first_seed + params.heads)
    unseen = range(seen.stop, seen.stop + params.unseen_heads)
    pictures = np.concatenate(render_heads(head_pictures, seen, params.views, params.workers))
    held_out = np.concatenate(render_heads(head_pictures, unseen, params.views, params.workers))
    progress(f"autoencoder: rendered {len(pictures)} views for training and {len(held_out)} for testing")
    autoencoder = train_autoencoder(pictures, params, progress)
    autoencoder.half().save_pretrained(folder / "autoencoder")
    return measure(AutoencoderDC.from_pretrained(folder / "autoencoder", torch_dtype=torch.float32), held_out)


def make_autoencoder(params: AutoencoderParams) -> AutoencoderDC:
    """The autoencoder that training starts from; `channels` and the other sizes are those of a fresh one."""
    if params.start is not None:
        return AutoencoderDC.from_pretrained(params.start, torch_dtype=torch.float32, local_files_only=True)
    layers, nowhere = (params.layers_per_block,) * len(params.channels), ((),) * len(params.channels)
    return AutoencoderDC(
        latent_channels=params.latent_channels,
        encoder_block_out_channels=params.channels,
        decoder_block_out_channels=params.channels,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=nowhere,
        decoder_qkv_multiscales=nowhere,
        encoder_out_shortcut=False,  # the two convolutions round the latents alone can be rescaled
        decoder_in_shortcut=False,
    )


def train_autoencoder(
    pictures: UInt8[np.ndarray, "view height width 7"],
    params: AutoencoderParams,
    progress: Callable[[str], None] = lambda line: None,
) -> AutoencoderDC:
    """The autoencoder after `steps`, in evaluation mode, its latents of zero mean and unit variance."""
    torch.manual_seed(params.seed)
    generator = torch.Generator().manual_seed(params.seed)
    autoencoder = make_autoencoder(params)
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=params.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, params.learning_rate, total_steps=params.steps, pct_start=0.1
    )
    views = torch.from_numpy(pictures)
    recent = 0.0
    for step in range(params.steps):
        chosen = torch.randint(len(views), (params.batch,), generator=generator)
        images = training_images(views[chosen], generator)
        latents = autoencoder.encode(images).latent
        spread = params.noise * latents.detach().std((0, 2, 3), keepdim=True)
        decoded = autoencoder.decode(latents + spread * torch.randn(latents.shape, generator=generator)).sample
        loss = reconstruction_loss(decoded, images, params.gradient_weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step + 1 == math.ceil(STANDARDISED_AT * params.steps):
            standardise_latents(autoencoder, views, generator)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            progress(f"autoencoder: step {step + 1} of {params.steps}, loss {recent:.4f}")
    return standardise_latents(autoencoder.eval(), views, generator)


def training_images(
    views: UInt8[Tensor, "view height width 7"], generator: torch.Generator
) -> Float[Tensor, "view 3 height width"]:
    """A third each: RGB on white, RGB on a random colour, normals. All in [-1, 1], half of them mirrored."""
    planes = views.permute(0, 3, 1, 2).float() / 127.5 - 1  # view 7 h w
    alpha = (planes[:, 3:4] + 1) / 2
    colour = 2 * torch.rand(len(views), 3, 1, 1, generator=generator) - 1
    recoloured = planes[:, :3] + (1 - alpha) * (colour - 1)
    kind = torch.randint(3, (len(views), 1, 1, 1), generator=generator)
    images = torch.where(kind == 0, planes[:, :3], torch.where(kind == 1, recoloured, planes[:, 4:]))
    mirrored = images.flip(-1)
    flipped_normals = mirrored * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    mirrored = torch.where(kind == 2, flipped_normals, mirrored)
    return torch.where(torch.rand(len(views), 1, 1, 1, generator=generator) < 0.5, images, mirrored)


def reconstruction_loss(
    decoded: Float[Tensor, "view 3 height width"], images: Float[Tensor, "view 3 height width"], gradient_weight: float
) -> Float[Tensor, ""]:
    """Mean absolute and squared errors, and the mean absolute error of the differences of neighbouring pixels."""
    error = decoded - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + gradient_weight * edges


@torch.no_grad()
def standardise_latents(
    autoencoder: AutoencoderDC, views: UInt8[Tensor, "view height width 7"], generator: torch.Generator
) -> AutoencoderDC:
    """The same autoencoder with its latents shifted and scaled per channel to zero mean and unit variance.

    z' = (z - m) / s is put into the encoder's last convolution and undone in the decoder's first, which gives the same
    pictures but for the outermost latents, beside which the padding stands for m now.
    """
    chosen = torch.randint(len(views), (256,), generator=generator)
    latents = torch.cat(
        [autoencoder.encode(training_images(part, generator)).latent for part in views[chosen].split(32)]
    )
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    encoder: Any = autoencoder.encoder.conv_out  # their biases are typed as optional, here they are always there
    decoder: Any = autoencoder.decoder.conv_in
    encoder.weight /= std[:, None, None, None]
    encoder.bias.copy_((encoder.bias - mean) / std)
    decoder.bias += torch.einsum("oikl,i->o", decoder.weight, mean)
    decoder.weight *= std[None, :, None, None]
    return autoencoder


@torch.no_grad()
def measure(autoencoder: AutoencoderDC, views: UInt8[np.ndarray, "view height width 7"]) -> dict[str, float]:
    """What is lost by encoding and decoding: PSNR in dB of RGB on white, angle in degrees of normals in the mask."""
    planes = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 127.5 - 1
    rgb, normals = (
        torch.cat([autoencoder.decode(autoencoder.encode(part).latent).sample for part in images.split(32)])
        for images in (planes[:, :3], planes[:, 4:])
    )
    latents = torch.cat([autoencoder.encode(part).latent for part in planes[:, :3].split(32)])
    error = (rgb.clamp(-1, 1) - planes[:, :3]).square().mean((1, 2, 3))
    inside = views[..., 3] == 255
    truth = decode_normals(views[..., 4:], views[..., 3])
    found = normals.permute(0, 2, 3, 1).numpy()
    found = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-6)
    angle = np.degrees(np.arccos(np.clip((truth * found).sum(-1), -1, 1)))[inside]
    return {
        "rgb_psnr_db": float((10 * torch.log10(4 / error)).mean()),
        "rgb_psnr_db_worst": float((10 * torch.log10(4 / error)).min()),
        "normal_angle_deg_mean": float(angle.mean()),
        "normal_angle_deg_median": float(np.median(angle)),
        "latent_std": float(latents.std()),
    }
