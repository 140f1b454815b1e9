"""Train the embedded face detector on procedural heads, and export it to ONNX.

Faces are those of the heads, and pieces of faces pasted anywhere, also on the backs of heads, so that the network
learns what a face looks like and not where it usually is. Pieces of hair and skin are pasted, too, and are no faces.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from spinmeround.models.identity.face_network import STRIDE, USUAL_SIZE, FaceNetwork, face_loss
from spinmeround.tasks.embedded.onnx_file import onnx_file
from spinmeround.tasks.embedded.params import DetectorParams
from spinmeround.tasks.embedded.pictures import posed_pictures, render_split

Pictures = Float[Tensor, "picture 3 h w"]
Faces = Float[Tensor, "picture face 3"]
"""Column, row and size of faces, in pixels; NaN for a face that is neither there nor absent, size 0 for none."""


def run_detector(params: DetectorParams, folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Render, train, export to `folder / "detector.onnx"`, and measure on held-out heads."""
    torch.set_num_threads(params.threads)
    seen, unseen = render_split(
        posed_pictures,
        params.views,
        first_seed=params.first_seed,
        heads=params.heads,
        held_out=params.unseen_heads,
        workers=params.workers,
    )
    report(f"detector: rendered {len(seen)} heads for training and {len(unseen)} held-out heads")
    network = train_detector(*_joined(seen), params, report)
    folder.mkdir(parents=True, exist_ok=True)
    side = params.views.resolution
    (folder / "detector.onnx").write_bytes(onnx_file(network, torch.zeros(2, 3, side, side), "faces"))
    return measure_detector(network, *_joined(unseen), params)


def train_detector(
    pictures: UInt8[np.ndarray, "picture h w 3"],
    faces: Float32[np.ndarray, "picture 4"],
    params: DetectorParams,
    report: Callable[[str], None] = lambda line: None,
) -> FaceNetwork:
    """Train on pictures and their faces (as `posed_pictures` gives them); returns it in evaluation mode."""
    generator = torch.Generator().manual_seed(params.seed)
    torch.manual_seed(params.seed)
    network, images, known = FaceNetwork(), as_input(pictures), labels(faces, params)
    optimiser = torch.optim.AdamW(network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params.learning_rate, total_steps=params.steps)
    frontal = torch.from_numpy(np.flatnonzero(faces[:, 3] < 40.0))
    total = 0.0
    for step in range(1, params.steps + 1):
        chosen = torch.randint(len(images), (params.batch,), generator=generator)
        shown, there = images[chosen], known[chosen]
        donors = frontal[torch.randint(len(frontal), (params.batch,), generator=generator)]
        shown, pasted = paste_faces(shown, images[donors], known[donors, 0], params.pasted, generator)
        there = without_covered(there, pasted)
        shown = paste_pieces(shown, images[chosen.flip(0)], generator)
        shown, there = augment_pictures(shown, torch.cat([there, pasted], dim=1), generator)
        loss = face_loss(network(shown), *targets(there, shown.shape[-1]))
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        total += loss.item()
        if step % 250 == 0:
            report(f"detector: step {step}, loss {total / 250:.4f}")
            total = 0.0
    return network.eval()


def as_input(pictures: UInt8[np.ndarray, "picture h w 3"]) -> Pictures:
    """The network's input."""
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127.5) / 127.5


def labels(faces: Float32[np.ndarray, "picture 4"], params: DetectorParams) -> Faces:
    """One face per picture: there up to `face_deg`, absent from `no_face_deg` on, unknown between."""
    angle = faces[:, 3]
    found = np.where((angle <= params.face_deg)[:, None], faces[:, :3], np.nan)
    found[angle >= params.no_face_deg] = 0.0
    return torch.from_numpy(found.astype(np.float32))[:, None]


def targets(faces: Faces, side: int) -> tuple[Float[Tensor, "picture r c"], Float[Tensor, "picture r c"]]:
    """Heat and log size of each cell; a picture with an unknown face has unknown (NaN) heat where no other face is."""
    cells = STRIDE * (torch.arange(side // STRIDE) + 0.5) - 0.5
    near_column = (cells - faces[..., 0, None]) / (1.2 * STRIDE)  # picture face c
    near_row = (cells - faces[..., 1, None]) / (1.2 * STRIDE)
    heats = torch.exp(-0.5 * (near_row[..., :, None].square() + near_column[..., None, :].square()))
    heats = heats * (faces[..., 2] > 0)[..., None, None]
    unknown = torch.isnan(faces).any(dim=2).any(dim=1)
    strongest, owner = torch.nan_to_num(heats).max(dim=1)
    size = torch.log(faces[..., 2].nan_to_num().clamp_min(1.0) / USUAL_SIZE)
    sizes = size[:, :, None, None].expand_as(heats).gather(1, owner[:, None])[:, 0]
    heat = torch.where(unknown[:, None, None] & (strongest < 0.3), torch.full_like(strongest, math.nan), strongest)
    return heat, sizes


def paste_faces(
    pictures: Pictures, donors: Pictures, faces: Float[Tensor, "picture 3"], share: float, generator: torch.Generator
) -> tuple[Pictures, Faces]:
    """Paste the donors' faces into a share of the pictures, at random places, sizes and tints; the pasted faces."""
    count, side = len(pictures), pictures.shape[-1]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    zoom, column, row = uniform(0.75, 1.25), uniform(0.3, 0.7) * side, uniform(0.3, 0.65) * side
    pasted = uniform(0.0, 1.0) < share
    opacity = torch.where(pasted, uniform(0.6, 1.0), torch.zeros(count))[:, None, None, None]
    place = torch.stack([column, row, faces[:, 2] * zoom], dim=-1)
    moved = _moved(donors, faces[:, :2], place[:, :2], zoom)
    mask = opacity * _ellipse(place, side)[:, None]
    tint = 1.0 - 0.5 * uniform(0.0, 1.0)[:, None, None, None] * torch.rand(count, 3, 1, 1, generator=generator)
    shown = pictures * (1 - mask) + ((moved + 1.0) * tint - 1.0) * mask
    return shown, torch.where(pasted[:, None], place, torch.zeros(count, 3))[:, None]


def without_covered(faces: Faces, pasted: Faces) -> Faces:
    """The faces without those that a pasted face covers."""
    covered = (pasted[..., 2:] > 0) & ((faces - pasted)[..., :2].norm(dim=-1, keepdim=True) < 1.2 * pasted[..., 2:])
    return torch.where(covered, torch.zeros_like(faces), faces)


def paste_pieces(pictures: Pictures, donors: Pictures, generator: torch.Generator) -> Pictures:
    """Paste round pieces of a third of the donors far from their places, small enough to show no face."""
    count, side = len(pictures), pictures.shape[-1]
    places = (0.25 + 0.5 * torch.rand(count, 2, 2, generator=generator)) * side
    pasted = torch.rand(count, generator=generator) < 1 / 3
    sizes = torch.where(pasted, 1.5 + 2.0 * torch.rand(count, generator=generator), torch.full((count,), 1e-3))
    mask = _ellipse(torch.cat([places[:, 1], sizes[:, None]], dim=1), side)[:, None]
    return pictures * (1 - mask) + _moved(donors, places[:, 0], places[:, 1], torch.ones(count)) * mask


def augment_pictures(pictures: Pictures, faces: Faces, generator: torch.Generator) -> tuple[Pictures, Faces]:
    """Mirror half of the pictures; turn, scale and shift all, with their faces; jitter their colours; add noise."""
    count, side = len(pictures), pictures.shape[-1]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle, zoom = uniform(-0.25, 0.25), torch.exp(uniform(-0.18, 0.18))
    flip = torch.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    matrix = torch.stack([torch.stack([flip * cos, flip * -sin], -1), torch.stack([sin, cos], -1)], 1)  # new to old
    shift = 0.12 * torch.rand(count, 2, generator=generator) - 0.06
    grid = F.affine_grid(torch.cat([matrix, shift[..., None]], dim=2), list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    old = (faces[..., :2] + 0.5) / (side / 2) - 1.0
    new = torch.einsum("pij,pfj->pfi", torch.linalg.inv(matrix), old - shift[:, None])
    turned = torch.cat([(new + 1.0) * (side / 2) - 0.5, faces[..., 2:] * zoom[:, None, None]], dim=-1)
    gain = torch.exp(0.1 * torch.randn(count, 3, 1, 1, generator=generator))
    noise = 0.03 * torch.randn(pictures.shape, generator=generator)
    shown = ((moved + 1.0) * gain - 1.0 + 0.08 * torch.randn(count, 1, 1, 1, generator=generator) + noise).clamp(-1, 1)
    return shown, torch.where(faces[..., 2:] == 0.0, torch.zeros_like(turned), turned)


def measure_detector(
    network: FaceNetwork,
    pictures: UInt8[np.ndarray, "picture h w 3"],
    faces: Float32[np.ndarray, "picture 4"],
    params: DetectorParams,
) -> dict[str, float]:
    """Shares of held-out pictures with a face that is found near its place, and without one where one is found.

    `pasted_found` is the share of faces pasted into pictures without one that are found near their places.
    """
    generator = torch.Generator().manual_seed(params.seed + 1)
    images, known = as_input(pictures), labels(faces, params)[:, 0]
    with_face, without = known[:, 2] > 0, known[:, 2] == 0
    backs, donors = images[without], torch.from_numpy(np.flatnonzero(faces[:, 3] < 40.0))
    donors = donors[torch.arange(len(backs)) % len(donors)]
    painted, places = paste_faces(backs, images[donors], known[donors], 1.0, generator)
    return {
        "found": _near(network, images[with_face], known[with_face]),
        "false": float((_strongest(network, images[without])[0] > 0.5).float().mean()),
        "pasted_found": _near(network, painted, places[:, 0]),
        "pictures_with_face": int(with_face.sum()),
        "pictures_without": int(without.sum()),
    }


def _near(network: FaceNetwork, images: Pictures, faces: Float[Tensor, "picture 3"]) -> float:
    heat, places = _strongest(network, images)
    return float(((heat > 0.5) & ((places - faces[:, :2]).norm(dim=1) < faces[:, 2])).float().mean())


def _strongest(network: FaceNetwork, images: Pictures) -> tuple[Float[Tensor, " picture"], Float[Tensor, "picture 2"]]:
    """The largest heat of each picture and its place (column, row)."""
    with torch.no_grad():
        heat = torch.cat([network(part)[:, 0].sigmoid() for part in torch.split(images, 64)])
    best, index = heat.flatten(1).max(dim=1)
    row, column = index // heat.shape[2], index % heat.shape[2]
    return best, STRIDE * (torch.stack([column, row], dim=-1) + 0.5) - 0.5


def _moved(
    pictures: Pictures,
    start: Float[Tensor, "picture 2"],
    end: Float[Tensor, "picture 2"],
    zoom: Float[Tensor, " picture"],
) -> Pictures:
    """The pictures scaled by `zoom` so that the place `start` (column, row) comes to `end`."""
    side = pictures.shape[-1]
    old, new = ((2.0 * each + 1.0) / side - 1.0 for each in (start, end))
    scale = torch.eye(2)[None] / zoom[:, None, None]
    shift = old - new / zoom[:, None]
    grid = F.affine_grid(torch.cat([scale, shift[..., None]], dim=2), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _ellipse(faces: Float[Tensor, "picture 3"], side: int) -> Float[Tensor, "picture h w"]:
    """A soft mask over each face: 1 inside, falling to 0 at its border."""
    pixels = torch.arange(side, dtype=torch.float32)
    x = (pixels - faces[:, 0, None]) / (1.1 * faces[:, 2, None])
    y = (pixels - faces[:, 1, None]) / (1.25 * faces[:, 2, None])
    reach = (x[:, None, :].square() + y[:, :, None].square()).sqrt()
    return torch.sigmoid(8.0 * (1.0 - reach))


def _joined(
    heads: list[tuple[UInt8[np.ndarray, "view h w 3"], Float32[np.ndarray, "view 4"]]],
) -> tuple[UInt8[np.ndarray, "picture h w 3"], Float32[np.ndarray, "picture 4"]]:
    return np.concatenate([rgb for rgb, _ in heads]), np.concatenate([faces for _, faces in heads])
