"""Train the embedded autoencoder, a diffusers AutoencoderDC at 64 px, on RGB and normal maps of procedural heads.

A small AutoencoderKL converges far more slowly: its decoder upsamples by repetition and convolutions, the deep
compression autoencoder (DC-AE, arXiv:2410.10733) by unfolding channels. The loss is that of latent diffusion
(arXiv:2112.10752, appendix G) without the adversarial term: absolute and squared error, and the absolute error of
finite differences, which keeps outlines sharp. In place of a learned variance, latents get noise of a fixed share of
each channel's standard deviation, so that small errors of a latent cause small errors of the image. After most of the
steps the mean and variance of each latent channel are folded into the two adjacent convolutions. The remaining steps
adapt to the effect of that on the padding, and a second folding corrects the drift.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from jaxtyping import Float, UInt8
from torch import Tensor

from spinmeround.models.geometry.normals import decode_normals
from spinmeround.storage.numbers import check_tensors
from spinmeround.tasks.embedded.params import AutoencoderParams
from spinmeround.tasks.embedded.pictures import head_pictures, render_split

STANDARDISED_AT = 0.8
"""Share of the steps after which the latents are standardised to zero mean and unit variance."""


def run_autoencoder(params: AutoencoderParams, folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Render, train, save to `folder / "autoencoder"` in half precision, and measure the result on held-out heads."""
    torch.set_num_threads(params.threads)
    seen, unseen = render_split(
        head_pictures,
        params.views,
        first_seed=params.first_seed,
        heads=params.heads,
        held_out=params.unseen_heads,
        workers=params.workers,
    )
    pictures, held_out = np.concatenate(seen), np.concatenate(unseen)
    report(f"autoencoder: rendered {len(pictures)} views for training and {len(held_out)} held-out views")
    autoencoder = train_autoencoder(pictures, params, report)
    untyped: Any = autoencoder  # diffusers declares no types for `half`
    untyped.half().save_pretrained(folder / "autoencoder")
    return measure(AutoencoderDC.from_pretrained(folder / "autoencoder", torch_dtype=torch.float32), held_out)


def make_autoencoder(params: AutoencoderParams) -> AutoencoderDC:
    """The autoencoder before training: from the folder `params.start`, or random with the sizes of `params`."""
    if params.start is not None:
        started: AutoencoderDC = AutoencoderDC.from_pretrained(
            params.start, torch_dtype=torch.float32, local_files_only=True
        )
        return started
    layers, no_attention = (params.layers_per_block,) * len(params.channels), ((),) * len(params.channels)
    autoencoder: AutoencoderDC = AutoencoderDC(
        latent_channels=params.latent_channels,
        encoder_block_out_channels=params.channels,
        decoder_block_out_channels=params.channels,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=no_attention,
        decoder_qkv_multiscales=no_attention,
        encoder_out_shortcut=False,  # so that rescaling the two convolutions at the latents rescales the latents
        decoder_in_shortcut=False,
    )
    return autoencoder


def train_autoencoder(
    pictures: UInt8[np.ndarray, "view height width 7"],
    params: AutoencoderParams,
    report: Callable[[str], None] = lambda line: None,
) -> AutoencoderDC:
    """Train for `steps`; returns the autoencoder in evaluation mode, with latents of zero mean and unit variance.

    Raises SpinMeRoundError if a trained weight is not finite.
    """
    torch.manual_seed(params.seed)
    generator = torch.Generator().manual_seed(params.seed)
    autoencoder = make_autoencoder(params)
    in_layout: Any = autoencoder.to  # diffusers' wrapper declares no bound method
    in_layout(memory_format=torch.channels_last)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=params.precision == "bfloat16")
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=params.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, params.learning_rate, total_steps=params.steps, pct_start=0.1
    )
    views = torch.from_numpy(pictures)
    recent = 0.0
    for step in range(params.steps):
        chosen = torch.randint(len(views), (params.batch,), generator=generator)
        images = training_images(views[chosen], generator).contiguous(memory_format=torch.channels_last)
        with autocast:
            latents = autoencoder.encode(images).latent.float()
            spread = params.noise * latents.detach().std((0, 2, 3), keepdim=True)
            decoded = autoencoder.decode(latents + spread * torch.randn(latents.shape, generator=generator)).sample
        loss = reconstruction_loss(decoded.float(), images, params.gradient_weight)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step + 1 == math.ceil(STANDARDISED_AT * params.steps):
            standardise_latents(autoencoder, views, generator)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if (step + 1) % params.report_every == 0:
            report(f"autoencoder: step {step + 1} of {params.steps}, loss {recent:.4f}")
    in_layout(memory_format=torch.contiguous_format)
    trained = standardise_latents(autoencoder.eval(), views, generator)
    check_tensors("embedded autoencoder, lower learning_rate", trained.state_dict().items())
    return trained


def training_images(
    views: UInt8[Tensor, "view height width 7"], generator: torch.Generator
) -> Float[Tensor, "view 3 height width"]:
    """A third each: RGB on white, RGB on a random colour, normals; all in [-1, 1], half of them mirrored."""
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
    """Mean absolute and squared error, plus the weighted mean absolute error of differences of neighbouring pixels."""
    error = decoded - images
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + gradient_weight * edges


@torch.no_grad()
def standardise_latents(
    autoencoder: AutoencoderDC, views: UInt8[Tensor, "view height width 7"], generator: torch.Generator
) -> AutoencoderDC:
    """Standardise the latents of the autoencoder in place, per channel, to zero mean and unit variance.

    z' = (z - m) / s is folded into the encoder's last convolution and inverted in the decoder's first. Images
    change only through the outermost latents, whose zero padding now stands for m.
    """
    chosen = torch.randint(len(views), (256,), generator=generator)
    latents = torch.cat(
        [autoencoder.encode(training_images(part, generator)).latent for part in torch.split(views[chosen], 32)]
    )
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    encoder: Any = autoencoder.encoder.conv_out  # typed with optional biases, which exist here
    decoder: Any = autoencoder.decoder.conv_in
    encoder.weight /= std[:, None, None, None]
    encoder.bias.copy_((encoder.bias - mean) / std)
    decoder.bias += torch.einsum("oikl,i->o", decoder.weight, mean)
    decoder.weight *= std[None, :, None, None]
    return autoencoder


@torch.no_grad()
def measure(autoencoder: AutoencoderDC, views: UInt8[np.ndarray, "view height width 7"]) -> dict[str, float]:
    """Reconstruction error: PSNR in dB of RGB on white, angle in degrees between normals where the mask is 255."""
    planes = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 127.5 - 1
    rgb, normals = (
        torch.cat([autoencoder.decode(autoencoder.encode(part).latent).sample for part in torch.split(images, 32)])
        for images in (planes[:, :3], planes[:, 4:])
    )
    latents = torch.cat([autoencoder.encode(part).latent for part in torch.split(planes[:, :3], 32)])
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
