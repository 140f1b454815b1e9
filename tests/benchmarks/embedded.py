"""Quality of the embedded weights on held-out heads of the current procedural generator.

The cards of the weights have the metrics from their training, on the version of the generator that they name.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.embedded import autoencoder, recognition
from spinmeround.tasks.embedded.params import FIRST_SEED, FaceViews, OrbitViews
from spinmeround.tasks.embedded.pictures import (
    face_angles,
    face_crops,
    generator_fingerprint,
    head_pictures,
    render_heads,
)
from spinmeround.tasks.embedded.train_all import EMBEDDED

HELD_OUT = FIRST_SEED + 1_000_000
"""First seed of the held-out heads; the weights were trained on fewer heads from FIRST_SEED on."""


def recognition_metrics(heads: int, workers: int) -> dict[str, float]:
    """Verification over all pairs of 12 crops per head that show part of the face."""
    seeds, views = range(HELD_OUT, HELD_OUT + heads), FaceViews()
    crops = np.stack(render_heads(face_crops, seeds, views, workers))
    angles = np.stack([face_angles(seed, views) for seed in seeds])
    return recognition.measure(ArcFaceEmbedder(embedded_weights("recognition")).embed, crops, angles)


def autoencoder_metrics(heads: int, workers: int) -> dict[str, float]:
    """Reconstruction error of 8 views from all around each head."""
    pictures = render_heads(head_pictures, range(HELD_OUT, HELD_OUT + heads), OrbitViews(), workers)
    network = AutoencoderDC.from_pretrained(embedded_weights("autoencoder"), torch_dtype=torch.float32)
    return autoencoder.measure(network, np.concatenate(pictures))


def comparison(name: str, now: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row per metric: its value on the card, for the generator of that time, and its current value."""
    card = json.loads((EMBEDDED / f"{name}.json").read_text())
    card_metrics = card["measured_on_unseen_heads"]
    return [
        {
            "metric": metric,
            f"card, {card['trained_on']['fingerprint']}": card_metrics[metric],
            f"now, {generator_fingerprint()}": value,
        }
        for metric, value in now.items()
    ]


def main(
    faces: Annotated[int, typer.Option(min=2, help="Held-out heads for the recognition network.")] = 30,
    heads: Annotated[int, typer.Option(min=1, help="Held-out heads for the autoencoder.")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="Rendering processes.")] = 1,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the recognition network and the autoencoder."""
    return {
        "recognition": comparison("recognition", recognition_metrics(faces, workers)),
        "autoencoder": comparison("autoencoder", autoencoder_metrics(heads, workers)),
    }
