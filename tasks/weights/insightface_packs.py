"""InsightFace packs: which file is the detector, which the recognition network, which the 3D landmarks.

Files are distinguished by their inputs and outputs, as insightface does, not by their names. insightface takes the
first recognition network in alphabetical order; here two of them are an error, since the choice is ambiguous.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import OnnxSignature, onnx_signature

Kind = Literal["detector", "recognition", "landmarks_3d", "other"]


@dataclass(frozen=True, kw_only=True)
class Pack:
    """The files of a pack that are used; None or empty if it has none."""

    folder: Path
    detector: Path
    landmarks_3d: Path | None
    recognition: tuple[Path, ...]

    @property
    def only_recognition(self) -> Path:
        """The pack's recognition network; raises ConfigError if it has none or several."""
        if len(self.recognition) == 1:
            return self.recognition[0]
        names = ", ".join(path.name for path in self.recognition) or "none"
        raise ConfigError(
            f"{self.folder}: expected one recognition network, found {names}; set embed.recognition to one file. "
            "Arc2Face needs its own arcface.onnx, not the pack's glintr100.onnx, whose embeddings differ"
        )


def kind_of(signature: OnnxSignature) -> Kind:
    """Purpose of a network of a pack, from the shapes of its inputs and outputs."""
    taken, given = signature.inputs[0], signature.outputs[0]
    if len(signature.outputs) in (6, 9, 10, 15):
        return "detector"
    if taken[-2:] == (192, 192) and given[-1:] == (3309,):
        return "landmarks_3d"
    if taken[1:] == (3, 112, 112) and given[-1:] == (512,):
        return "recognition"
    return "other"


@lru_cache(maxsize=8)
def open_pack(folder: Path) -> Pack:
    """The files of a pack. Raises ConfigError if it is missing, nested one folder too deep, or has no detector."""
    files = _networks(folder, "*.onnx")
    if not files:
        raise ConfigError(f"{folder}: expected an InsightFace pack with .onnx files, found {_instead(folder)}")
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(kind_of(onnx_signature(file)), []).append(file)
    detectors = kinds.get("detector", [])
    if len(detectors) != 1:
        names = ", ".join(path.name for path in detectors or files)
        raise ConfigError(f"{folder}: expected one face detector, found {len(detectors)} ({names})")
    return Pack(
        folder=folder,
        detector=detectors[0],
        landmarks_3d=next(iter(kinds.get("landmarks_3d", [])), None),
        recognition=tuple(kinds.get("recognition", [])),
    )


def nested_pack(folder: Path) -> Path | None:
    """The folder in a pack that holds its files, as antelopev2.zip unpacks; None if they are where they belong."""
    nested = [] if _networks(folder, "*.onnx") else _networks(folder, "*/*.onnx")
    return nested[0].parent if nested else None


def unnest_command(folder: Path, inner: Path) -> str:
    """The command that moves the files of a nested pack to where they belong."""
    return f"mv {inner}/*.onnx {folder}/"


def _networks(folder: Path, pattern: str) -> list[Path]:
    """Files of networks; hidden ones are metadata that macOS puts into archives (`._1k3d68.onnx`, __MACOSX)."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith(".") and path.is_file())


def _instead(folder: Path) -> str:
    if inner := nested_pack(folder):
        return f"them one folder deeper, as antelopev2.zip unpacks: run {unnest_command(folder, inner)}"
    return "none" if folder.is_dir() else "no such folder"
