"""Checks that a path holds a part: file layout, names and shapes of tensors, inputs and outputs of networks.

`inspect` returns a short description, or raises SpinMeRoundError that says what is wrong. Networks pass the same check
as when a stage loads them (`networks`), and the values of all weights must be finite.
"""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.numbers import refuse_lfs_pointer
from spinmeround.storage.weights import (
    PARTS,
    check_onnx,
    find_part,
    missing_files,
    onnx_signature,
)
from spinmeround.tasks.weights.insightface_packs import kind_of, open_pack
from spinmeround.tasks.weights.networks import AUTOENCODERS, NetworkClass, check_network


def inspect(name: str, place: Path) -> str:
    """Description of part `name` at `place`; raises SpinMeRoundError if it is something else."""
    if name == "arcface" and place.is_dir():  # a pack is accepted in place of its network
        place = open_pack(place).only_recognition
    missing = [] if name in _SELF_EXPLAINING else list(missing_files(find_part(name), place))
    if missing := [each for each in missing if not each.endswith((".safetensors", ".bin"))]:  # the loader knows more
        raise SpinMeRoundError(f"{place}: lacks {', '.join(missing[:3])}" + (", ..." if len(missing) > 3 else ""))
    return _INSPECT[name](place)


def _network(place: Path, kinds: tuple[NetworkClass, ...]) -> str:
    return check_network(place, *kinds).summary


def _text_encoder(place: Path) -> str:
    """A CLIP text encoder, with `text_model.` before its names, as published, or without."""
    checked = check_network(place, "CLIPTextModel")
    return f"{checked.summary}, {checked.config.hidden_size} wide"


def _recognition(place: Path) -> str:
    signature = onnx_signature(place)
    if kind_of(signature) != "recognition":
        raise SpinMeRoundError(
            f"{place}: expected a network from [n, 3, 112, 112] to [n, 512], found one from {signature.inputs[0]} "
            f"to {signature.outputs[0]}"
        )
    if place.name in ("glintr100.onnx", "w600k_r50.onnx"):
        raise SpinMeRoundError(
            f"{place}: this is InsightFace's own recognition network; Arc2Face requires the embeddings of its own "
            "arcface.onnx"
        )
    check_onnx(place)
    return "112 x 112 to 512"


def _pack(place: Path) -> str:
    pack = open_pack(place)
    for file in (pack.detector, *([pack.landmarks_3d] if pack.landmarks_3d else [])):
        check_onnx(file)
    found = [pack.detector.name, *([pack.landmarks_3d.name] if pack.landmarks_3d else [])]
    return " and ".join(found) + ("" if pack.landmarks_3d else " (no 3D landmarks: no camera of a photo)")


def _alexnet(place: Path) -> str:
    from spinmeround.tasks.weights.lpips_backbone import check_backbone

    return check_backbone(place)


def _checkout(place: Path) -> str:
    head = subprocess.run(
        ["git", "-C", str(place), "rev-parse", "--short=12", "HEAD"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return f"commit {head.stdout.strip()}" if head.returncode == 0 else "not a git checkout: commit unknown"


def _pickle(place: Path) -> str:
    refuse_lfs_pointer(place)
    return f"{place.stat().st_size / 1e6:.0f} MB, not opened, since unpickling runs code"


def _folder(place: Path) -> str:
    return "all files found"


def _stable_diffusion(place: Path) -> str:
    parts: dict[str, Callable[[Path], str]] = {
        "unet": partial(_network, kinds=("UNet2DConditionModel",)),
        "vae": partial(_network, kinds=("AutoencoderKL",)),
        "text_encoder": _text_encoder,
    }
    for name, check in parts.items():
        check(place / name)
    return "unet, vae and text encoder match their configurations"


_SELF_EXPLAINING = ("antelopev2", "buffalo_l", "arc2face-encoder", "arc2face-unet", "sd15-vae")
"""Parts whose loader names what is missing, by the same rules as when a stage loads them."""

_INSPECT: dict[str, Callable[[Path], str]] = {
    "panohead-checkout": _checkout,
    "panohead": _pickle,
    "spherehead-checkout": _checkout,
    "spherehead": _pickle,
    "arcface": _recognition,
    "antelopev2": _pack,
    "buffalo_l": _pack,
    "sd15-vae": partial(_network, kinds=AUTOENCODERS),
    "sd15-tokenizer": _folder,
    "sd15": _stable_diffusion,
    "arc2face-unet": partial(_network, kinds=("UNet2DConditionModel",)),
    "arc2face-encoder": _text_encoder,
    "lpips-alexnet": _alexnet,
}
assert _INSPECT.keys() == {each.name for each in PARTS}
