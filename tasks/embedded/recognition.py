"""Train the embedded recognition network on procedural heads with the ArcFace loss, and export it to ONNX.

insightface's `ArcFaceONNX` reads the exported file: one input (n, 3, 112, 112), RGB scaled to [-1, 1] by the caller,
one output (n, 512), for any n.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn import functional as F

from spinmeround.models.identity.recognition import (
    ArcFaceLoss,
    RecognitionNetwork,
    reduce_crops,
    verification,
)
from spinmeround.tasks.embedded.onnx_file import onnx_file
from spinmeround.tasks.embedded.params import RecognitionParams
from spinmeround.tasks.embedded.pictures import face_angles, face_crops, render_split

NEAR_AZIMUTH_DEG = 45.0
"""Azimuth up to which a face is seen well enough for the stricter of the two measurements."""


def run_recognition(params: RecognitionParams, folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Render, train, export to `folder / "recognition.onnx"`, and measure on held-out heads."""
    torch.set_num_threads(params.threads)
    seen, unseen = render_split(
        face_crops,
        params.views,
        first_seed=params.first_seed,
        heads=params.identities,
        held_out=params.unseen_identities,
        workers=params.workers,
    )
    crops, held_out = np.stack(seen), np.stack(unseen)
    report(f"recognition: rendered {len(crops)} heads for training and {len(held_out)} held-out heads")
    network = train_recognition(crops, params, report)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recognition.onnx").write_bytes(export_recognition(network))
    first = params.first_seed + params.identities
    angles = np.stack([face_angles(first + head, params.views) for head in range(len(held_out))])
    return measure(partial(embed_crops, network), held_out, angles)


def train_recognition(
    crops: UInt8[np.ndarray, "identity crop 112 112 3"],
    params: RecognitionParams,
    report: Callable[[str], None] = lambda line: None,
) -> RecognitionNetwork:
    """Train a network on all crops for `epochs`; returns it in evaluation mode."""
    generator = torch.Generator().manual_seed(params.seed)
    torch.manual_seed(params.seed)
    network = RecognitionNetwork(params.network).to(memory_format=torch.channels_last)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=params.precision == "bfloat16")
    loss_of = ArcFaceLoss(len(crops), params.network.embedding, params.scale)
    flat = torch.cat([reduce_crops(as_input(torch.from_numpy(part))).half() for part in crops])  # half the memory
    labels = torch.arange(len(crops)).repeat_interleave(crops.shape[1])
    steps = params.epochs * (len(flat) // params.batch)
    optimiser = torch.optim.AdamW(
        [*network.parameters(), *loss_of.parameters()], lr=params.learning_rate, weight_decay=params.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params.learning_rate, total_steps=steps, pct_start=0.2)
    step = 0
    for epoch in range(params.epochs):
        order = torch.randperm(len(flat), generator=generator)
        total = 0.0
        for start in range(0, len(flat) - params.batch + 1, params.batch):
            chosen = order[start : start + params.batch]
            margin = params.margin * min(1.0, 2.0 * step / steps)
            inputs = augment(flat[chosen].float(), generator).contiguous(memory_format=torch.channels_last)
            with autocast:
                embeddings = network.embed_reduced(inputs)
            loss = loss_of(embeddings.float(), labels[chosen], margin)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            step, total = step + 1, total + loss.item()
        report(f"recognition: epoch {epoch + 1}, loss {total / (len(flat) // params.batch):.3f}")
    return network.to(memory_format=torch.contiguous_format).eval()


def as_input(crops: UInt8[Tensor, "crop 112 112 3"]) -> Float[Tensor, "crop 3 112 112"]:
    """The network's input, normalised as insightface does: (x - 127.5) / 127.5."""
    return (crops.permute(0, 3, 1, 2).float() - 127.5) / 127.5


def augment(crops: Float[Tensor, "crop 3 h w"], generator: torch.Generator) -> Float[Tensor, "crop 3 h w"]:
    """Mirror half of the crops; jitter position, rotation, scale, brightness and colour of all, and add noise."""
    n = len(crops)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, zoom = uniform(-0.08, 0.08), uniform(0.94, 1.06)
    mirror = torch.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)
    affine = torch.stack(
        [
            torch.stack([mirror * zoom * angle.cos(), -zoom * angle.sin(), uniform(-0.05, 0.05)], dim=-1),
            torch.stack([mirror * zoom * angle.sin(), zoom * angle.cos(), uniform(-0.05, 0.05)], dim=-1),
        ],
        dim=1,
    )  # crop 2 3
    grid = F.affine_grid(affine, list(crops.shape), align_corners=False)
    moved = F.grid_sample(crops, grid, padding_mode="border", align_corners=False)
    gain = torch.exp(0.08 * torch.randn(n, 3, 1, 1, generator=generator))
    offset = 0.06 * torch.randn(n, 1, 1, 1, generator=generator)
    noise = 0.03 * torch.randn(crops.shape, generator=generator)
    return ((moved + 1) * gain - 1 + offset + noise).clamp(-1, 1)


def embed_crops(
    network: RecognitionNetwork, crops: UInt8[np.ndarray, "crop 112 112 3"]
) -> Float32[np.ndarray, "crop embedding"]:
    """Embeddings by a network in evaluation mode."""
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(crops), 64)
        return torch.cat([network(as_input(part)) for part in parts]).numpy()


def measure(
    embed: Callable[[UInt8[np.ndarray, "crop 112 112 3"]], Float32[np.ndarray, "crop embedding"]],
    crops: UInt8[np.ndarray, "identity crop 112 112 3"],
    angles: Float32[np.ndarray, "identity crop 2"],
) -> dict[str, float]:
    """Verification of held-out heads over all pairs of crops, and what else than the identity the embeddings tell.

    `angles` are the azimuth and elevation of the crops in degrees. Beside the fields of `Verification`:

    - `tar_at_far_1e3_within_45`: over the pairs of crops that are both within 45 degrees of azimuth,
    - `azimuth_r2`: share of the variance of the azimuth that ridge regression from the embeddings explains, fitted on
      every other head and measured on the rest; 0 if the embeddings tell nothing about it,
    - `exposure_cosine`: mean cosine between the embeddings of a crop and of the same crop at 1.25 times its brightness.
    """
    heads, count = crops.shape[:2]
    flat, labels = crops.reshape(-1, *crops.shape[2:]), np.repeat(np.arange(heads), count)
    embeddings, azimuth = embed(flat), angles[..., 0].reshape(-1)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    brighter = embed(np.minimum(flat.astype(np.uint16) * 5 // 4, 255).astype(np.uint8))
    near, fitted = np.abs(azimuth) <= NEAR_AZIMUTH_DEG, labels % 2 == 0
    regression = Ridge(alpha=1e-2).fit(unit[fitted], azimuth[fitted])
    return {
        **verification(embeddings, labels).model_dump(),
        "tar_at_far_1e3_within_45": verification(embeddings[near], labels[near]).tar_at_far_1e3,
        "azimuth_r2": float(regression.score(unit[~fitted], azimuth[~fitted])),
        "exposure_cosine": float(((unit * brighter).sum(1) / np.linalg.norm(brighter, axis=1)).mean()),
    }


def export_recognition(network: RecognitionNetwork) -> bytes:
    """The network as an ONNX file.

    ArcFaceONNX normalises its input only if none of the first nodes is named Sub or Mul, so none may be. Raises
    ValueError if a weight is not finite.
    """
    return onnx_file(network, torch.zeros(2, 3, 112, 112), "embedding")
