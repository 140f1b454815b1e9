"""LPIPS (Zhang et al. 2018) where the weights of its backbone are on disk; they are never downloaded.

The lpips package brings its own linear layers; the backbone is torchvision's ImageNet classifier, from a file that
the user has: a .safetensors, or torchvision's own .pth, which is read with torch's weights-only reader.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lpips
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32, Float64
from safetensors.torch import load_file
from torch import Tensor
from torchvision import models as backbones

from spinmeround.models.metrics.images import Pictures, unit_range

LpipsNet = Literal["alex", "vgg"]

_BACKBONES = {"alex": backbones.alexnet, "vgg": backbones.vgg16}
_FILES = {
    "alex": backbones.AlexNet_Weights.IMAGENET1K_V1.url,
    "vgg": backbones.VGG16_Weights.IMAGENET1K_V1.url,
}


@dataclass(frozen=True)
class Missing:
    """A measure that cannot be taken here, and why; its text goes into the table in place of a number."""

    reason: str

    def __str__(self) -> str:
        return f"missing: {self.reason}"


class Lpips:
    """LPIPS with the given backbone; one value a picture, 0 is equal."""

    def __init__(self, net: LpipsNet, backbone: Mapping[str, Tensor]) -> None:
        """`backbone` are the tensors of torchvision's classifier, of which `features.*` are used.

        Raises:
            ValueError: if they are not those of this backbone.
        """
        used = {name: tensor for name, tensor in backbone.items() if name.startswith("features.")}
        if {name: tuple(tensor.shape) for name, tensor in used.items()} != backbone_shapes(net):
            raise ValueError(f"lpips.{net}: expected the tensors features.* of torchvision's {net}, got others")
        with warnings.catch_warnings():
            # lpips builds torchvision's networks by an argument that torchvision warns about
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self._model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).requires_grad_(False)
        given = {name.removeprefix("features."): tensor for name, tensor in used.items()}
        # lpips cuts the classifier into slices, whose layers keep their numbers in the classifier as names
        slices = (layer for name, layer in self._model.net.named_children() if name.startswith("slice"))
        for layer in slices:
            layer.load_state_dict({name: given[name] for name in layer.state_dict()})

    @torch.inference_mode()
    def __call__(self, predicted: Pictures, target: Pictures) -> Float64[np.ndarray, "*batch"]:
        """Distances of pictures as `models.metrics.images` takes them."""
        batch = predicted.shape[:-3]
        pairs = zip(*(_as_tensor(pictures) for pictures in unit_range(predicted, target)), strict=True)
        return np.array([self._model(a[None], b[None]).item() for a, b in pairs], np.float64).reshape(batch)


def backbone_shapes(net: LpipsNet) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the backbone's tensors that LPIPS uses."""
    with torch.device("meta"):
        features = _BACKBONES[net](weights=None).features.state_dict()
    return {f"features.{name}": tuple(tensor.shape) for name, tensor in features.items()}


def make_lpips(weights: Path | None, net: LpipsNet = "alex") -> Lpips | Missing:
    """LPIPS with the backbone in the file `weights`, or Missing where there is no such file.

    Raises:
        ValueError: if the file is there but does not hold this backbone.
    """
    file_name = _FILES[net].rsplit("/", 1)[-1]
    advice = f"(torchvision's {file_name}; 'spinmeround weights list' tells how to get it)"
    if weights is None:
        return Missing(f"no weights of the {net} backbone are given {advice}")
    if not weights.is_file():
        return Missing(f"no weights of the {net} backbone at {weights} {advice}")
    if weights.suffix == ".safetensors":
        return Lpips(net, load_file(weights))
    # the file is there, so torch.hub only reads it, without running code from the pickle
    tensors = torch.hub.load_state_dict_from_url(
        _FILES[net], model_dir=str(weights.parent), file_name=weights.name, map_location="cpu", weights_only=True
    )
    return Lpips(net, tensors)


def _as_tensor(pictures: Float64[np.ndarray, "*batch h w 3"]) -> Float32[Tensor, "n 3 h w"]:
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    return rearrange(torch.from_numpy(flat).float() * 2 - 1, "n h w c -> n c h w")
