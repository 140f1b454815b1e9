"""Train the embedded inspector on procedural heads with random changes (`panohead_bridge.procedural.anomalies`).

Every second head is clean. Of a changed head, the pixels whose surface or colour the change moved are known, so the
network learns where something is wrong as well. It sees none of the named kinds of defects.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from sklearn.metrics import roc_auc_score
from torch import Tensor

from spinmeround.models.geometry.cameras import ViewGrid, pixel_rays
from spinmeround.models.screening.inspection import SIDE, VIEWS
from spinmeround.models.screening.inspector import packed
from spinmeround.models.screening.inspector_network import InspectorFile, InspectorNetwork, inspection_loss, mirrored
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.procedural.options import ProceduralOptions
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.embedded.onnx_file import onnx_file
from spinmeround.tasks.embedded.params import InspectorParams
from spinmeround.tasks.embedded.pictures import render_heads

CHANGED_DISTANCE, CHANGED_COLOUR = 0.004, 0.05
"""Distance of the clean surface, in world units, and difference of a colour, 0 to 1, from which a pixel is changed."""

CHANGED_SEEDS = 10_000_000
"""Distance from the seeds of clean heads to those of changed ones."""

Head = tuple[Float32[np.ndarray, "view 6 64 64"], Bool[np.ndarray, "view 64 64"], float]
"""The network's input, the changed pixels, and the strength of the change; 0 for a clean head."""


@dataclass(frozen=True)
class Inspected:
    """Heads to train on or to measure with."""

    previews: Float[Tensor, "head view 6 64 64"]
    changed: Float[Tensor, "head view 64 64"]
    strength: Float[Tensor, " head"]

    @staticmethod
    def of(heads: list[Head], least_changed: int) -> "Inspected":
        """Without the heads whose change nobody can see."""
        shown = [head for head in heads if head[2] == 0.0 or head[1].sum() >= least_changed]
        previews, changed, strength = zip(*shown, strict=True)
        return Inspected(
            torch.from_numpy(np.stack(previews).astype(np.float16)),
            torch.from_numpy(np.stack(changed)),
            torch.tensor(strength),
        )

    @property
    def defective(self) -> Bool[Tensor, " head"]:
        return self.strength > 0.0


def run_inspector(params: InspectorParams, folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Render, train, export to `folder / "inspector.onnx"`, and measure on held-out heads."""
    torch.set_num_threads(params.threads)
    seen = _heads(params, params.first_seed, params.heads)
    unseen = _heads(params, params.first_seed + params.heads, params.unseen_heads)
    report(f"inspector: rendered {len(seen)} heads for training and {len(unseen)} held-out heads")
    network = train_inspector(Inspected.of(seen, params.least_changed), params, report)
    folder.mkdir(parents=True, exist_ok=True)
    write_inspector(network, folder / "inspector.onnx")
    return measure_inspector(network, Inspected.of(unseen, params.least_changed))


def _heads(params: InspectorParams, first: int, count: int) -> list[Head]:
    """`count` clean heads from the seed `first` on, and as many changed ones from CHANGED_SEEDS beyond."""
    changed = first + CHANGED_SEEDS
    clean = render_heads(inspected_head, range(first, first + count), Rings(), params.workers)
    return clean + render_heads(inspected_head, range(changed, changed + count), Rings(changed=True), params.workers)


def write_inspector(network: InspectorNetwork, path: Path) -> None:
    """Export the network as `models.screening.inspector` reads it."""
    example = torch.zeros(VIEWS, 6, SIDE, SIDE)
    path.write_bytes(onnx_file(InspectorFile(network), example, ["log_odds", "map"], any_number=False))


class Rings(FrozenModel):
    """The previews that an inspector sees, of clean heads or of heads with a random change."""

    changed: bool = False
    grid: ViewGrid = ViewGrid(azimuths=VIEWS, elevations_deg=(0.0,))


def inspected_head(seed: int, views: Rings) -> Head:
    """The previews of one head."""
    generator, clean = _generator(views.changed), _generator(False)
    identity, cameras = generator.sample(seed), views.grid.cameras()
    rendering = generator.render(identity, cameras, SIDE)
    changed, defect = np.zeros(rendering.mask.shape, bool), generator.defect(identity)
    if defect is not None:
        origins, directions = pixel_rays(cameras, SIDE)
        along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
        shown = np.isfinite(rendering.depth)
        points = (origins + (rendering.depth / along)[..., None] * directions)[shown].astype(np.float32)
        distance, *colours = clean.shade(identity, points)
        _, *own = generator.shade(identity, points)
        difference = np.abs(np.stack(own) - np.stack(colours)).max(axis=0)
        changed[shown] = (np.abs(distance) > CHANGED_DISTANCE) | (difference > CHANGED_COLOUR)
    return packed(rendering, cameras, generator.box_warp), changed, defect.strength if defect else 0.0


def train_inspector(
    heads: Inspected, params: InspectorParams, report: Callable[[str], None] = lambda line: None
) -> InspectorNetwork:
    """Train on clean and changed heads, as many of each in a batch; returns the averaged network for evaluation."""
    torch.manual_seed(params.seed)
    generator = torch.Generator().manual_seed(params.seed)
    network = InspectorNetwork()
    averaged = deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, params.learning_rate, total_steps=params.steps, pct_start=0.05
    )
    clean, defective = (torch.nonzero(which)[:, 0] for which in (~heads.defective, heads.defective))
    total = 0.0
    for step in range(1, params.steps + 1):
        half = params.batch // 2
        rows = torch.cat([each[torch.randint(len(each), (half,), generator=generator)] for each in (clean, defective)])
        previews, changed = augmented(heads.previews[rows].float(), heads.changed[rows].float(), generator)
        log_odds, wrong = network(previews)
        loss = inspection_loss(log_odds, wrong, heads.defective[rows].float(), changed)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = min(params.average, step / (step + 20.0))
        for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight.detach(), 1.0 - decay)
        total += loss.item()
        if step % 100 == 0:
            report(f"inspector: step {step}, loss {total / 100:.4f}")
            total = 0.0
    return averaged.eval()


def augmented(
    previews: Float[Tensor, "head view 6 h w"], changed: Float[Tensor, "head view h w"], generator: torch.Generator
) -> tuple[Float[Tensor, "head view 6 h w"], Float[Tensor, "head view h w"]]:
    """Half of the heads mirrored, all with other exposure and tint, half of them with noise."""
    count = len(previews)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, 1, *shape, generator=generator)

    def share() -> Tensor:
        return torch.rand(count, 1, 1, 1, 1, generator=generator)

    flip = share() < 0.5
    previews = torch.where(flip, mirrored(previews), previews)
    changed = torch.where(flip[..., 0], mirrored(changed[:, :, None])[:, :, 0], changed)
    rgb, mask = previews[:, :, :3], previews[:, :, 3:4]
    gain = torch.exp(0.1 * normal(1, 1, 1) + 0.06 * normal(3, 1, 1))
    rgb = rgb.clamp(min=1e-3) ** torch.exp(0.1 * normal(1, 1, 1)) * (gain * mask + 1.0 - mask)
    noise = 0.02 * share() * (share() < 0.5)
    rgb = (rgb + noise * torch.randn(rgb.shape, generator=generator)).clamp(0.0, 1.0)
    return torch.cat([rgb, previews[:, :, 3:]], dim=2), changed


@torch.no_grad()
def measure_inspector(network: InspectorNetwork, heads: Inspected) -> dict[str, float]:
    """Area under the ROC curve, and the share of changed heads found where 3% of the clean ones are lost, also by
    strength."""
    parts = torch.split(heads.previews, 32)
    found = torch.cat([network(part.float())[0] for part in parts]).numpy()
    defective, strength = heads.defective.numpy(), heads.strength.numpy()
    hit = found > np.quantile(found[~defective], 0.97)
    ranges = {f"{low:.1f} to {low + 0.2:.1f}": (strength > low) & (strength <= low + 0.2) for low in (0.2, 0.4, 0.6, 0.8)}
    return {
        "area": float(roc_auc_score(defective, found)),
        "found": float(hit[defective].mean()),
        **{f"found, strength {name}": float(hit[which].mean()) for name, which in ranges.items() if which.any()},
    }


@cache
def _generator(changed: bool) -> ProceduralGenerator:
    return ProceduralGenerator(ProceduralOptions(defect_share=0.0, anomaly_share=float(changed)))
