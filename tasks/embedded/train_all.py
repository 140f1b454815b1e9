"""Train the weights that ship with the package, and write a card for each of them.

`autoencoder/` (for diffusers' AutoencoderDC), `recognition.onnx` (for insightface's ArcFaceONNX), `detector.onnx`
(faces in previews) and `inspector.onnx` (anomalies in previews) are trained on procedural heads alone, so no third
party's licence applies. A card `<name>.json` records their parameters, the version of the generator, their metrics on
held-out heads, and their SHA-256. Equal parameters, library versions and processor type give equal weights.
"""

import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch

from spinmeround.storage.weights import fingerprint, record_embedded
from spinmeround.tasks.embedded.autoencoder import run_autoencoder
from spinmeround.tasks.embedded.detector import run_detector
from spinmeround.tasks.embedded.inspector import run_inspector
from spinmeround.tasks.embedded.params import AutoencoderParams, DetectorParams, InspectorParams, RecognitionParams
from spinmeround.tasks.embedded.pictures import generator_fingerprint
from spinmeround.tasks.embedded.recognition import run_recognition
from spinmeround.tasks.stage import StageParams

EMBEDDED = Path(__file__).resolve().parents[2] / "storage" / "embedded"
"""Folder of the shipped weights."""


def train_recognition_weights(params: RecognitionParams, folder: Path, report: Callable[[str], None]) -> Path:
    """Train and write `folder / "recognition.onnx"`; returns its path."""
    started = time.monotonic()
    figures = run_recognition(params, folder, report).model_dump()
    return write_card(folder, "recognition", folder / "recognition.onnx", params, figures, time.monotonic() - started)


def train_autoencoder_weights(params: AutoencoderParams, folder: Path, report: Callable[[str], None]) -> Path:
    """Train and write `folder / "autoencoder"`; returns its path."""
    started = time.monotonic()
    figures = run_autoencoder(params, folder, report)
    return write_card(folder, "autoencoder", folder / "autoencoder", params, figures, time.monotonic() - started)


def train_detector_weights(params: DetectorParams, folder: Path, report: Callable[[str], None]) -> Path:
    """Train and write `folder / "detector.onnx"`; returns its path."""
    started = time.monotonic()
    figures = run_detector(params, folder, report)
    return write_card(folder, "detector", folder / "detector.onnx", params, figures, time.monotonic() - started)


def train_inspector_weights(params: InspectorParams, folder: Path, report: Callable[[str], None]) -> Path:
    """Train and write `folder / "inspector.onnx"`; returns its path."""
    started = time.monotonic()
    figures = run_inspector(params, folder, report)
    return write_card(folder, "inspector", folder / "inspector.onnx", params, figures, time.monotonic() - started)


TRAINABLE: Mapping[str, tuple[type[StageParams], Callable[..., Path]]] = {
    "recognition": (RecognitionParams, train_recognition_weights),
    "detector": (DetectorParams, train_detector_weights),
    "inspector": (InspectorParams, train_inspector_weights),
    "autoencoder": (AutoencoderParams, train_autoencoder_weights),
}


def train_weights(
    name: str,
    params: Mapping[str, Any] | None = None,
    folder: Path = EMBEDDED,
    report: Callable[[str], None] = print,
) -> Path:
    """Train the embedded weights `name`; `params` override the defaults, which are those of the shipped weights.

    Raises ValueError for an unknown name or parameter.
    """
    if name not in TRAINABLE:
        raise ValueError(f"weights: expected one of {', '.join(TRAINABLE)}, got {name!r}")
    kind, train = TRAINABLE[name]
    return train(kind.model_validate(dict(params or {})), folder, report)


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
        "made_with": {"torch": torch.__version__, "diffusers": diffusers.__version__, "machine": platform.machine()},
        "licence": "Apache-2.0: procedural heads, no real person",
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if (folder / "index.json").is_file():
        record_embedded(name, folder)
    return weights
