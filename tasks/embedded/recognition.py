"""Train the embedded recognition network on procedural heads with the ArcFace loss, and export it to ONNX.

insightface's `ArcFaceONNX` reads the exported file: one input (n, 3, 112, 112), RGB scaled to [-1, 1] by the caller,
one output (n, 512), for any n.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from spinmeround.models.identity.recognition import (
    ArcFaceLoss,
    RecognitionNetwork,
    Verification,
    reduce_crops,
    verification,
)
from spinmeround.tasks.embedded.onnx_file import onnx_file
from spinmeround.tasks.embedded.params import RecognitionParams
from spinmeround.tasks.embedded.pictures import face_crops, render_split


def run_recognition(params: RecognitionParams, folder: Path, report: Callable[[str], None]) -> Verification:
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
    return measure(network, held_out)


def train_recognition(
    crops: UInt8[np.ndarray, "identity crop 112 112 3"],
    params: RecognitionParams,
    report: Callable[[str], None] = lambda line: None,
) -> RecognitionNetwork:
    """Train a network on all crops for `epochs`; returns it in evaluation mode."""
    generator = torch.Generator().manual_seed(params.seed)
    torch.manual_seed(params.seed)
    network = RecognitionNetwork(params.network)
    loss_of = ArcFaceLoss(len(crops), params.network.embedding, params.scale)
    flat = torch.cat([reduce_crops(as_input(torch.from_numpy(part))) for part in crops])
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
            loss = loss_of(network.embed_reduced(augment(flat[chosen], generator)), labels[chosen], margin)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            step, total = step + 1, total + loss.item()
        report(f"recognition: epoch {epoch + 1}, loss {total / (len(flat) // params.batch):.3f}")
    return network.eval()


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


def measure(network: RecognitionNetwork, crops: UInt8[np.ndarray, "identity crop 112 112 3"]) -> Verification:
    """Verification over all pairs of the crops, without augmentation."""
    flat = torch.from_numpy(crops.reshape(-1, *crops.shape[2:]))
    with torch.no_grad():
        embeddings = torch.cat([network(as_input(part)) for part in torch.split(flat, 64)]).numpy()
    return verification(embeddings, np.repeat(np.arange(len(crops)), crops.shape[1]))


def export_recognition(network: RecognitionNetwork) -> bytes:
    """The network as an ONNX file.

    ArcFaceONNX normalises its input only if none of the first nodes is named Sub or Mul, so none may be. Raises
    ValueError if a weight is not finite.
    """
    return onnx_file(network, torch.zeros(2, 3, 112, 112), "embedding")
