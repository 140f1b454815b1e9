"""Checks that a path holds a part: file layout, names and shapes of tensors, inputs and outputs of networks.

`inspect` returns a short description, or raises SpinMeRoundError that says what is wrong. Networks are built on the
meta device from their own config.json and compared with the names and shapes in the file's header.
"""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import SpinMeRoundError, one_line
from spinmeround.storage.weights import PARTS, Shape, find_part, missing_files, onnx_signature, tensor_shapes
from spinmeround.tasks.weights.insightface_packs import kind_of, open_pack

_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the autoencoder's attention in files of 2022 and in current ones; diffusers reads both."""


def inspect(name: str, place: Path) -> str:
    """Description of part `name` at `place`; raises SpinMeRoundError if it is something else."""
    if name == "arcface" and place.is_dir():  # a pack is accepted in place of its network
        place = open_pack(place).only_recognition
    missing = list(missing_files(find_part(name), place))
    if missing:
        raise SpinMeRoundError(f"{place}: lacks {', '.join(missing[:3])}" + (", ..." if len(missing) > 3 else ""))
    return _INSPECT[name](place)


def _config(place: Path) -> dict[str, Any]:
    return read_json_object(place / "config.json", "a network's configuration")


@contextmanager
def _configured(place: Path) -> Iterator[None]:
    """Turn an error of a network's class inside the block into one that names its configuration."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except Exception as error:  # diffusers, transformers and torch raise unrelated errors, some with a MemoryError
        raise SpinMeRoundError(
            f"{place / 'config.json'}: expected the configuration of a network, found values that do not fit: "
            f"{one_line(error, 200)}"
        ) from error


def _diffusers(class_name: str, place: Path) -> str:
    """A folder as diffusers saves a network; `class_name` is AutoencoderKL or UNet2DConditionModel."""
    import diffusers
    import torch

    config = _config(place)
    if config.get("_class_name") != class_name:
        raise SpinMeRoundError(f"{place}: expected the config.json of {class_name}, found {config.get('_class_name')}")
    with _configured(place), torch.device("meta"):
        wanted = getattr(diffusers, class_name).from_config(config).state_dict()
    found = tensor_shapes(place / "diffusion_pytorch_model.safetensors")
    renamed = {_current_name(name): shape for name, shape in found.items()}
    return _compare(place, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, renamed)


def _current_name(name: str) -> str:
    """The current diffusers name of a tensor."""
    pattern = r"(\.attentions\.\d+)\.(" + "|".join(_ATTENTION) + r")\."
    return re.sub(pattern, lambda match: f"{match[1]}.{_ATTENTION[match[2]]}.", name)


def _text_encoder(place: Path) -> str:
    """A CLIP text encoder, with `text_model.` before its names, as published, or without."""
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    values = _config(place)
    with _configured(place), torch.device("meta"):
        config = CLIPTextConfig(**values)
        wanted = {name: tuple(tensor.shape) for name, tensor in CLIPTextModel(config).state_dict().items()}
    file = next(path for name in ("model.safetensors", "pytorch_model.bin") if (path := place / name).is_file())
    found = {name.removeprefix("text_model."): shape for name, shape in tensor_shapes(file).items()}
    ignored = "embeddings.position_ids"
    plain = {name.removeprefix("text_model."): shape for name, shape in wanted.items()}
    return _compare(place, _without(plain, ignored), _without(found, ignored)) + f", {config.hidden_size} wide"


def _without(shapes: Mapping[str, Shape], name: str) -> dict[str, Shape]:
    return {each: shape for each, shape in shapes.items() if each != name}


def _compare(place: Path, wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            raise SpinMeRoundError(
                f"{place}: tensor {name}: expected {_shape(wanted.get(name))} by its config.json, found "
                f"{_shape(found.get(name))}"
            )
    numbers = sum(_size(shape) for shape in found.values())
    return f"{len(found)} tensors, {numbers / 1e6:.1f}M parameters"


def _shape(shape: Shape | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "scalar"


def _size(shape: Shape) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


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
    return "112 x 112 to 512"


def _pack(place: Path) -> str:
    pack = open_pack(place)
    found = [pack.detector.name, *([pack.landmarks_3d.name] if pack.landmarks_3d else [])]
    return " and ".join(found) + ("" if pack.landmarks_3d else " (no 3D landmarks: no camera of a photo)")


def _alexnet(place: Path) -> str:
    from spinmeround.models.metrics.perceptual import backbone_shapes

    wanted = backbone_shapes("alex")
    found = {name: shape for name, shape in tensor_shapes(place).items() if name.startswith("features.")}
    return _compare(place, wanted, found)


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
    return f"{place.stat().st_size / 1e6:.0f} MB, not opened, since unpickling runs code"


def _folder(place: Path) -> str:
    return "all files found"


def _stable_diffusion(place: Path) -> str:
    parts: dict[str, Callable[[Path], str]] = {
        "unet": partial(_diffusers, "UNet2DConditionModel"),
        "vae": partial(_diffusers, "AutoencoderKL"),
        "text_encoder": _text_encoder,
    }
    for name, check in parts.items():
        check(place / name)
    return "unet, vae and text encoder match their configurations"


_INSPECT: dict[str, Callable[[Path], str]] = {
    "panohead-checkout": _checkout,
    "panohead": _pickle,
    "arcface": _recognition,
    "antelopev2": _pack,
    "buffalo_l": _pack,
    "sd15-vae": partial(_diffusers, "AutoencoderKL"),
    "sd15-tokenizer": _folder,
    "sd15": _stable_diffusion,
    "arc2face-unet": partial(_diffusers, "UNet2DConditionModel"),
    "arc2face-encoder": _text_encoder,
    "lpips-alexnet": _alexnet,
}
assert _INSPECT.keys() == {each.name for each in PARTS}
