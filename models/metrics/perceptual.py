"""LPIPS (Zhang et al. 2018) with given weights of its backbone; never downloads them.

The lpips package includes its linear layers; the backbone is torchvision's ImageNet classifier, which
`tasks.weights.lpips_backbone` reads from a user's file.
"""

import warnings
from collections.abc import Mapping
from typing import Literal

import lpips
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32, Float64
from torch import Tensor
from torchvision import models as backbones

from spinmeround.models.metrics.images import Images, unit_range

LpipsNet = Literal["alex", "vgg"]

_BACKBONES = {"alex": backbones.alexnet, "vgg": backbones.vgg16}
_FILES = {
    "alex": backbones.AlexNet_Weights.IMAGENET1K_V1.url,
    "vgg": backbones.VGG16_Weights.IMAGENET1K_V1.url,
}


class Lpips:
    """LPIPS with a given backbone; one value per image, 0 for equal images."""

    def __init__(self, net: LpipsNet, backbone: Mapping[str, Tensor]) -> None:
        """`backbone` holds the tensors of torchvision's classifier; only `features.*` are used.

        Raises:
            ValueError: if the tensors do not match this backbone, or are not finite.
        """
        used = {name: tensor for name, tensor in backbone.items() if name.startswith("features.")}
        if {name: tuple(tensor.shape) for name, tensor in used.items()} != backbone_shapes(net):
            raise ValueError(f"lpips.{net}: expected the tensors features.* of torchvision's {net}, got different ones")
        if wrong := [name for name, tensor in used.items() if not bool(tensor.isfinite().all())]:
            raise ValueError(f"lpips.{net}: {wrong[0]}: expected finite numbers; get the weights again")
        with warnings.catch_warnings():
            # lpips passes deprecated arguments to torchvision
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            self._model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).requires_grad_(False)
        given = {name.removeprefix("features."): tensor for name, tensor in used.items()}
        # lpips splits the classifier into slices, whose layers keep the classifier's numbers as names
        slices = (layer for name, layer in self._model.net.named_children() if name.startswith("slice"))
        for layer in slices:
            layer.load_state_dict({name: given[name] for name in layer.state_dict()})

    def to(self, device: torch.device) -> "Lpips":
        """This LPIPS with its networks moved to a device."""
        self._model.to(device)
        return self

    def distances(self, a: Float32[Tensor, "n 3 h w"], b: Float32[Tensor, "n 3 h w"]) -> Float32[Tensor, " n"]:
        """Differentiable distances between pictures with colours of 0 to 1, on the device of the networks."""
        found: Tensor = self._model(a * 2 - 1, b * 2 - 1)
        return found[:, 0, 0, 0]

    @torch.inference_mode()
    def __call__(self, predicted: Images, target: Images) -> Float64[np.ndarray, "*batch"]:
        """Distances between images in the formats of `models.metrics.images`."""
        batch = predicted.shape[:-3]
        device = next(self._model.parameters()).device
        pairs = zip(*(_as_tensor(images).to(device) for images in unit_range(predicted, target)), strict=True)
        return np.array([self._model(a[None], b[None]).item() for a, b in pairs], np.float64).reshape(batch)


def backbone_shapes(net: LpipsNet) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the backbone tensors that LPIPS uses."""
    with torch.device("meta"):
        features = _BACKBONES[net](weights=None).features.state_dict()
    return {f"features.{name}": tuple(tensor.shape) for name, tensor in features.items()}


def file_name(net: LpipsNet) -> str:
    """The name of torchvision's file of the backbone."""
    return str(_FILES[net]).rsplit("/", 1)[-1]


def _as_tensor(images: Float64[np.ndarray, "*batch h w 3"]) -> Float32[Tensor, "n 3 h w"]:
    flat = images.reshape(-1, *images.shape[-3:])
    return rearrange(torch.from_numpy(flat).float() * 2 - 1, "n h w c -> n c h w")
