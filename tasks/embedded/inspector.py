"""Train an inspector on previews of clean heads with anomalies painted onto them, and export it to ONNX.

Every step paints new anomalies (`models.screening.inspection.anomalies`), so the network never sees one twice, nor a
named kind of defect. The pixels that differ are known, so it learns where something is wrong. The embedded inspector
learns from procedural heads; `tasks.screening.inspector` trains one on the heads of any generator.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.screening.inspection.clean_features import CleanFeatures
from spinmeround.models.screening.inspection.inspector import CHANNELS, SIDE
from spinmeround.models.screening.inspection.network import InspectorFile, InspectorNetwork, inspection_loss
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.procedural.options import ProceduralOptions
from spinmeround.tasks.embedded.inspector_batches import Ring, Rings, draw_batch, small_ring
from spinmeround.tasks.embedded.onnx_file import onnx_file
from spinmeround.tasks.embedded.params import InspectorParams
from spinmeround.tasks.embedded.pictures import render_heads

VOLUME_EVERY = 4
"""One of so many heads is rendered as a volume."""

LOSSES = (0.01, 0.03, 0.05)
"""Shares of clean views lost at which recall is measured."""


def run_inspector(params: InspectorParams, folder: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Render, train, export to `folder / "inspector.onnx"`, and measure on held-out heads."""
    torch.set_num_threads(params.threads)
    end = params.first_seed + params.heads
    seen, unseen = (
        Rings.of(render_heads(clean_ring, seeds, ViewGrid(azimuths=8, elevations_deg=(0.0,)), params.workers), RING_DEG)
        for seeds in (range(params.first_seed, end), range(end, end + params.unseen_heads))
    )
    report(f"inspector: rendered {params.heads} heads for training and {params.unseen_heads} held-out heads")
    network = train_inspector(seen, params, report)
    folder.mkdir(parents=True, exist_ok=True)
    write_inspector(network, clean_features(network, seen, params.seed), folder / "inspector.onnx")
    return measure_inspector(network, unseen, params)


RING_DEG = np.arange(8) * 45.0


def clean_ring(seed: int, views: ViewGrid) -> Ring:
    """The previews of a clean head."""
    generator, cameras = _generator(seed % VOLUME_EVERY == VOLUME_EVERY - 1), views.cameras()
    return small_ring(generator.render(generator.sample(seed), cameras, SIDE), cameras, generator.box_warp)


@cache
def _generator(volume: bool) -> ProceduralGenerator:
    return ProceduralGenerator(ProceduralOptions(defect_share=0.0, rendering="volume" if volume else "surface"))


def write_inspector(network: InspectorNetwork, clean: CleanFeatures, path: Path) -> None:
    """Export the network as `models.screening.inspection.inspector` reads it."""
    example = torch.zeros(2, CHANNELS, SIDE, SIDE)
    path.write_bytes(onnx_file(InspectorFile(network, clean), example, "log_odds", "cells", "distances"))


@torch.no_grad()
def clean_features(network: InspectorNetwork, rings: Rings, seed: int) -> CleanFeatures:
    """What the trained network's features of clean heads have in common."""
    number, ring = rings.depth.shape[:2]
    views = torch.arange(ring)
    found = [network.with_features(rings.packed(torch.full((ring,), head), views))[2].half() for head in range(number)]
    return CleanFeatures.of(torch.stack(found), rings.directions(views), seed)


def train_inspector(
    rings: Rings,
    params: InspectorParams,
    report: Callable[[str], None] = lambda line: None,
    look: Callable[[int, InspectorNetwork], None] = lambda step, network: None,
) -> InspectorNetwork:
    """Train on clean heads; returns the averaged network for evaluation. `look` is called at each report."""
    torch.manual_seed(params.seed)
    generator = torch.Generator().manual_seed(params.seed)
    network = InspectorNetwork(params.channels)
    averaged = deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, params.learning_rate, total_steps=params.steps, pct_start=0.05
    )
    total = 0.0
    for step in range(1, params.steps + 1):
        batch = draw_batch(rings, params.batch, generator)
        with torch.autocast("cpu", torch.bfloat16):
            log_odds, wrong = network(batch.views)
        loss = inspection_loss(
            log_odds.float(), wrong.float(), batch.changed, batch.certain, batch.anomalous, batch.known
        )
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average_into(averaged, network, min(params.average, step / (step + 20.0)))
        total += loss.item()
        if step % params.report_every == 0:
            report(f"inspector: step {step}, loss {total / params.report_every:.4f}")
            look(step, averaged)
            total = 0.0
    return averaged.eval()


def average_into(mean: InspectorNetwork, network: InspectorNetwork, decay: float) -> None:
    """Move the mean's weights and statistics towards the network's."""
    for own, new in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.lerp_(new, 1.0 - decay)


@torch.no_grad()
def measure_inspector(network: InspectorNetwork, rings: Rings, params: InspectorParams) -> dict[str, float]:
    """How well unseen views with anomalies are told from clean ones: area under the ROC curve, and recall where 1, 3
    and 5% of the clean views are lost."""
    generator, found, labels = torch.Generator().manual_seed(params.seed + 1), [], []
    for _ in range(params.measured_batches):
        batch = draw_batch(rings, params.batch, generator)
        sure = batch.known > 0
        found.append(network.eval()(batch.views)[0][sure].numpy())
        labels.append(batch.anomalous[sure].numpy() > 0)
    scores, anomalous = np.concatenate(found), np.concatenate(labels)
    recalls = {
        f"views found at {loss:.0%} lost": float(
            (scores[anomalous] > np.quantile(scores[~anomalous], 1.0 - loss)).mean()
        )
        for loss in LOSSES
    }
    return {"area of views": float(roc_auc_score(anomalous, scores)), **recalls, "views": len(scores)}
