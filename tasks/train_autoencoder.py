"""Train the embedded autoencoder: diffusers' AutoencoderKL at 64 px on procedural heads, RGB and normals alike.

The loss is that of latent diffusion (arXiv:2112.10752, appendix G) without the adversarial part: absolute
error, its like on finite differences so that outlines stay sharp, and a faint KL term. After training the
latents' mean and variance per channel are folded into the two 1 x 1 convolutions round them, so
that latents have zero mean and unit variance with `scaling_factor` 1 and no shift.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models import AutoencoderKL
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from models.geometry.normals import decode_normals
from tasks.stage import StageParams
from tasks.training_pictures import FIRST_SEED, OrbitViews, head_pictures, render_heads


class AutoencoderParams(StageParams):
    """How the embedded autoencoder is trained and measured."""

    channels: tuple[int, ...] = Field(
        (8, 24, 48, 96), min_length=2, description="Channels of each level; all but one halve the side"
    )
    latent_channels: int = Field(4, ge=1)
    layers_per_block: int = Field(1, ge=1)
    views: OrbitViews = OrbitViews()
    heads: int = Field(188, ge=1, description="Heads trained on")
    first_seed: int = Field(FIRST_SEED, ge=0, description="Generator's seed of the first of them")
    unseen_heads: int = Field(12, ge=1, description="Heads, after those, that the autoencoder is measured on")
    steps: int = Field(2500, ge=2)
    batch: int = Field(8, ge=1)
    learning_rate: float = Field(2e-3, gt=0.0)
    gradient_weight: float = Field(0.5, ge=0.0, description="Weight of the finite differences' error")
    kl_weight: float = Field(1e-4, ge=0.0, description="Weight of the KL divergence, per latent element")
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
    return measure(AutoencoderKL.from_pretrained(folder / "autoencoder", torch_dtype=torch.float32), held_out)


def make_autoencoder(params: AutoencoderParams, resolution: int) -> AutoencoderKL:
    """The autoencoder that training starts from; `channels` and the other sizes are those of a fresh one."""
    if params.start is not None:
        return AutoencoderKL.from_pretrained(params.start, torch_dtype=torch.float32, local_files_only=True)
    levels = len(params.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=params.channels,
        layers_per_block=params.layers_per_block,
        latent_channels=params.latent_channels,
        norm_num_groups=math.gcd(8, *params.channels),
        sample_size=resolution,
        scaling_factor=1.0,
        force_upcast=False,
    )


def train_autoencoder(
    pictures: UInt8[np.ndarray, "view height width 7"],
    params: AutoencoderParams,
    progress: Callable[[str], None] = lambda line: None,
) -> AutoencoderKL:
    """The autoencoder after `steps`, in evaluation mode, its latents of zero mean and unit variance."""
    torch.manual_seed(params.seed)
    generator = torch.Generator().manual_seed(params.seed)
    autoencoder = make_autoencoder(params, pictures.shape[1])
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=params.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, params.learning_rate, total_steps=params.steps, pct_start=0.1
    )
    views = torch.from_numpy(pictures)
    recent = 0.0
    for step in range(params.steps):
        chosen = torch.randint(len(views), (params.batch,), generator=generator)
        images = training_images(views[chosen], generator)
        posterior = autoencoder.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = autoencoder.decode(posterior.mean + posterior.std * noise).sample
        loss = reconstruction_loss(decoded, images, params.gradient_weight)
        loss = loss + params.kl_weight * posterior.kl().mean() / posterior.mean[0].numel()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
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
    autoencoder: AutoencoderKL, views: UInt8[Tensor, "view height width 7"], generator: torch.Generator
) -> AutoencoderKL:
    """The same autoencoder with its latents shifted and scaled per channel to zero mean and unit variance.

    z' = (z - m) / s is put into the encoder's last convolution and undone in the decoder's first.
    """
    chosen = torch.randint(len(views), (256,), generator=generator)
    posteriors = [autoencoder.encode(training_images(part, generator)).latent_dist for part in views[chosen].split(32)]
    latents = torch.cat([posterior.mean for posterior in posteriors])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    layers: Any = (autoencoder.quant_conv, autoencoder.post_quant_conv)  # typed as optional, here always there
    encoder, decoder = layers
    encoder.weight[:channels] /= std[:, None, None, None]
    encoder.bias[:channels] = (encoder.bias[:channels] - mean) / std
    encoder.bias[channels:] -= 2 * std.log()
    decoder.bias += decoder.weight[:, :, 0, 0] @ mean
    decoder.weight *= std[None, :, None, None]
    return autoencoder


@torch.no_grad()
def measure(autoencoder: AutoencoderKL, views: UInt8[np.ndarray, "view height width 7"]) -> dict[str, float]:
    """What is lost by encoding and decoding: PSNR in dB of RGB on white, angle in degrees of normals in the mask."""
    planes = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 127.5 - 1
    rgb, normals = (
        torch.cat([autoencoder.decode(autoencoder.encode(part).latent_dist.mean).sample for part in images.split(32)])
        for images in (planes[:, :3], planes[:, 4:])
    )
    latents = torch.cat([autoencoder.encode(part).latent_dist.mean for part in planes[:, :3].split(32)])
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
