"""What the embedded weights do on heads of the procedural generator as it is now, none of which they were trained on.

The weights' cards tell what they measured when they were trained, on the version of the generator that is named there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import typer
from diffusers.models import AutoencoderDC

from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.models.identity.recognition import verification
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.embedded.autoencoder import measure
from spinmeround.tasks.embedded.pictures import (
    FIRST_SEED,
    FaceViews,
    OrbitViews,
    face_crops,
    generator_fingerprint,
    head_pictures,
    render_heads,
)
from spinmeround.tasks.embedded.train_all import EMBEDDED

UNSEEN = FIRST_SEED + 1000
"""First of the seeds; the weights were trained on some of the 200 from FIRST_SEED on."""


def recognition_figures(heads: int, workers: int) -> dict[str, float]:
    """Verification over all pairs of 12 frontal crops of each head."""
    crops = np.stack(render_heads(face_crops, range(UNSEEN, UNSEEN + heads), FaceViews(), workers))
    embeddings = ArcFaceEmbedder(embedded_weights("recognition")).embed(crops.reshape(-1, *crops.shape[2:]))
    return verification(embeddings, np.repeat(np.arange(heads), crops.shape[1])).model_dump()


def autoencoder_figures(heads: int, workers: int) -> dict[str, float]:
    """What encoding and decoding loses of 8 views all round each head."""
    pictures = render_heads(head_pictures, range(UNSEEN, UNSEEN + heads), OrbitViews(), workers)
    network = AutoencoderDC.from_pretrained(embedded_weights("autoencoder"), torch_dtype=torch.float32)
    return measure(network, np.concatenate(pictures))


def compared(name: str, now: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each figure: what the card says of its own generator's heads, and what was found now."""
    card = json.loads((EMBEDDED / f"{name}.json").read_text())
    then = card["measured_on_unseen_heads"]
    return [
        {
            "figure": figure,
            f"card, {card['trained_on']['fingerprint']}": then[figure],
            f"now, {generator_fingerprint()}": value,
        }
        for figure, value in now.items()
    ]


def main(
    faces: Annotated[int, typer.Option(min=2, help="Heads that the recognition network is measured on.")] = 30,
    heads: Annotated[int, typer.Option(min=1, help="Heads that the autoencoder is measured on.")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 1,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure both."""
    return {
        "recognition": compared("recognition", recognition_figures(faces, workers)),
        "autoencoder": compared("autoencoder", autoencoder_figures(heads, workers)),
    }
