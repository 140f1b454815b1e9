"""Train the weights that ship with the package, and write a card beside them.

`autoencoder/` (diffusers' AutoencoderDC) and `recognition.onnx` (insightface's ArcFaceONNX) come from
procedural heads alone, so they carry no one else's terms. A card `<name>.json` says with which parameters
they were trained, on which version of the generator, what they measure on unseen heads, and their
SHA-256. The same parameters, versions of the libraries and kind of processor give the same weights.
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
from spinmeround.tasks.embedded.autoencoder import AutoencoderParams, run_autoencoder
from spinmeround.tasks.embedded.pictures import generator_fingerprint
from spinmeround.tasks.embedded.recognition import RecognitionParams, run_recognition
from spinmeround.tasks.stage import StageParams

EMBEDDED = Path(__file__).resolve().parents[2] / "storage" / "embedded"
"""Where the shipped weights stand."""


def train_recognition_weights(params: RecognitionParams, folder: Path, progress: Callable[[str], None]) -> Path:
    """Trains `recognition.onnx` into `folder`; returns its path."""
    started = time.monotonic()
    figures = run_recognition(params, folder, progress).model_dump()
    return write_card(folder, "recognition", folder / "recognition.onnx", params, figures, time.monotonic() - started)


def train_autoencoder_weights(params: AutoencoderParams, folder: Path, progress: Callable[[str], None]) -> Path:
    """Trains the folder `autoencoder` in `folder`; returns its path."""
    started = time.monotonic()
    figures = run_autoencoder(params, folder, progress)
    return write_card(folder, "autoencoder", folder / "autoencoder", params, figures, time.monotonic() - started)


TRAINABLE: Mapping[str, tuple[type[StageParams], Callable[..., Path]]] = {
    "recognition": (RecognitionParams, train_recognition_weights),
    "autoencoder": (AutoencoderParams, train_autoencoder_weights),
}


def train_weights(
    name: str,
    params: Mapping[str, Any] | None = None,
    folder: Path = EMBEDDED,
    progress: Callable[[str], None] = print,
) -> Path:
    """Trains the embedded weights of that name; `params` override the defaults, which trained the shipped ones.

    Raises ValueError for an unknown name or parameter.
    """
    if name not in TRAINABLE:
        raise ValueError(f"weights: expected one of {', '.join(TRAINABLE)}, got {name!r}")
    kind, train = TRAINABLE[name]
    return train(kind.model_validate(dict(params or {})), folder, progress)


def write_card(
    folder: Path, name: str, weights: Path, params: StageParams, figures: Mapping[str, float], seconds: float
) -> Path:
    """Writes `<name>.json` beside the weights; returns the weights' path."""
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
    (folder / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    if (folder / "index.json").is_file():
        record_embedded(name, folder)
    return weights
