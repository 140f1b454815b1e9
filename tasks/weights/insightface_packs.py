"""InsightFace packs: which file of a folder finds faces, which recognises them, which knows landmarks in 3D.

Files are told apart by what they take and give, as insightface does, not by their names. insightface takes the first
recognition network in alphabetical order; here two of them are an error, since one of them is not the one meant.
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
    """The files of a pack that are used here; None or empty where it has none."""

    folder: Path
    detector: Path
    landmarks_3d: Path | None
    recognition: tuple[Path, ...]

    @property
    def only_recognition(self) -> Path:
        """The pack's one recognition network; raises ConfigError where it has none or several."""
        if len(self.recognition) == 1:
            return self.recognition[0]
        names = ", ".join(path.name for path in self.recognition) or "none"
        raise ConfigError(
            f"{self.folder}: expected one recognition network, found {names}; name one file by embed.recognition. "
            "Arc2Face needs its own arcface.onnx, not the pack's glintr100.onnx, which embeds otherwise"
        )


def kind_of(signature: OnnxSignature) -> Kind:
    """What a network of a pack is for, by what it takes and gives."""
    taken, given = signature.inputs[0], signature.outputs[0]
    if len(signature.outputs) in (6, 9, 10, 15):
        return "detector"
    if taken[-2:] == (192, 192) and given[-1] == 3309:
        return "landmarks_3d"
    if taken[1:] == (3, 112, 112) and given[-1] == 512:
        return "recognition"
    return "other"


@lru_cache(maxsize=8)
def open_pack(folder: Path) -> Pack:
    """The files of a pack. Raises ConfigError where it is missing, nested as its zip is, or finds no faces."""
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise ConfigError(f"{folder}: expected an InsightFace pack with .onnx files, found {_instead(folder)}")
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(kind_of(onnx_signature(file)), []).append(file)
    detectors = kinds.get("detector", [])
    if len(detectors) != 1:
        names = ", ".join(path.name for path in detectors or files)
        raise ConfigError(f"{folder}: expected one network that finds faces, found {len(detectors)} ({names})")
    return Pack(
        folder=folder,
        detector=detectors[0],
        landmarks_3d=next(iter(kinds.get("landmarks_3d", [])), None),
        recognition=tuple(kinds.get("recognition", [])),
    )


def _instead(folder: Path) -> str:
    nested = sorted(folder.glob("*/*.onnx"))
    if nested:
        inner = nested[0].parent
        return f"them one folder deeper, as antelopev2.zip unpacks: mv {inner}/*.onnx {folder}/"
    return "none there" if folder.is_dir() else "no such folder"
