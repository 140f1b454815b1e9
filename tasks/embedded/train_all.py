"""Train the weights that ship with the package, and write a card for each of them.

`autoencoder/` (for diffusers' AutoencoderDC), `recognition.onnx` (for insightface's ArcFaceONNX), `detector.onnx`
(faces in previews), `inspector.onnx` (anomalies in previews) and `multiview/` (a pipeline of the paper's model in
small) are trained on procedural heads alone, so no third party's licence applies. The multiview model needs the first
two, and is trained last. A card `<name>.json` records their parameters, the version of the generator, their metrics on
held-out heads, and their SHA-256. Equal parameters, library versions and processor type give equal weights.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from pydantic import ValidationError

from spinmeround.models.device import instruction_set
from spinmeround.storage.errors import ConfigError, validation_message
from spinmeround.storage.weights import fingerprint, record_embedded
from spinmeround.tasks.embedded.autoencoder import run_autoencoder
from spinmeround.tasks.embedded.detector import run_detector
from spinmeround.tasks.embedded.inspector import run_inspector
from spinmeround.tasks.embedded.multiview import run_multiview
from spinmeround.tasks.embedded.params import (
    AutoencoderParams,
    DetectorParams,
    InspectorParams,
    MultiviewParams,
    RecognitionParams,
)
from spinmeround.tasks.embedded.pictures import LICENCE, generator_fingerprint
from spinmeround.tasks.embedded.recognition import run_recognition
from spinmeround.tasks.stage import StageParams

EMBEDDED = Path(__file__).resolve().parents[2] / "storage" / "embedded"
"""Folder of the shipped weights."""


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """Weights that ship: their parameters, what trains and measures them, their file or folder, and what they can't."""

    params: type[StageParams]
    run: Callable[..., dict[str, float]]
    path: str
    limits: str


TRAINABLE: Mapping[str, Trainable] = {
    "recognition": Trainable(
        params=RecognitionParams,
        run=run_recognition,
        path="recognition.onnx",
        limits="Procedural heads in pictures of about 64 px; it has seen no person, and can't tell people apart",
    ),
    "detector": Trainable(
        params=DetectorParams,
        run=run_detector,
        path="detector.onnx",
        limits="Previews of procedural heads of 64 px, framed as the default cameras do; no photos",
    ),
    "inspector": Trainable(
        params=InspectorParams,
        run=run_inspector,
        path="inspector.onnx",
        limits="Previews of procedural heads of 64 px; another generator needs an inspector of its own",
    ),
    "autoencoder": Trainable(
        params=AutoencoderParams,
        run=run_autoencoder,
        path="autoencoder",
        limits="Pictures and camera-frame normals of procedural heads at 64 px; photos come back blurred",
    ),
    "multiview": Trainable(
        params=MultiviewParams,
        run=run_multiview,
        path="multiview",
        limits="Procedural heads at 64 px from within 35 degrees of the eyes' height; no photos of people",
    ),
}


def train_weights(
    name: str,
    params: Mapping[str, Any] | None = None,
    folder: Path = EMBEDDED,
    report: Callable[[str], None] = print,
) -> Path:
    """Train the embedded weights `name`, write them and their card to `folder`, and return their path.

    `params` override the defaults, which are those of the shipped weights; those of `multiview` also need `train`, the
    section of the profile `embedded`. Raises ConfigError for an unknown name or parameter.
    """
    if name not in TRAINABLE:
        raise ConfigError(f"weights: expected one of {', '.join(TRAINABLE)}, got {name!r}")
    trainable = TRAINABLE[name]
    try:
        chosen = trainable.params.model_validate(dict(params or {}))
    except ValidationError as error:
        raise ConfigError(f"weights {name}: {validation_message(error)}") from error
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    figures = trainable.run(chosen, folder, report)
    return write_card(folder, name, folder / trainable.path, chosen, figures, time.monotonic() - started)


def write_card(
    folder: Path, name: str, weights: Path, params: StageParams, figures: Mapping[str, float], seconds: float
) -> Path:
    """Write `<name>.json` next to the weights; returns the path of the weights."""
    card = {
        "name": name,
        "fingerprint": fingerprint(weights),
        "trained_on": {"generator": "procedural", "fingerprint": generator_fingerprint()},
        "parameters": params.model_dump(mode="json"),
        "measured_on_unseen_heads": {figure: round(value, 5) for figure, value in figures.items()},
        "seconds": round(seconds),
        "made_with": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {instruction_set(torch.device('cpu'))}",
        },
        "limits": TRAINABLE[name].limits,
        "licence": LICENCE,
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if (folder / "index.json").is_file():
        record_embedded(name, folder)
    return weights
