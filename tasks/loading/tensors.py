"""Conversion of a dataset's bytes to network inputs on any device: images in [-1, 1], unit normals, backgrounds."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.models.diffusion.params import NormalsFrame

_MINUS_ONE = torch.tensor(-1.0)
_STEP = float(np.nextafter(np.float32(2 / 255), np.float32(0)))
"""Rounded down: rounded to the nearest float32, 255 would become more than 1."""


def to_unit_range(
    planes: UInt8[Tensor, "*batch view 3 h w"], out: Float32[Tensor, "*batch view 3 h w"]
) -> Float32[Tensor, "*batch view 3 h w"]:
    """Write bytes 0 to 255 as floats -1 to 1 into `out`, in two passes and without memory of its own."""
    return torch.add(_MINUS_ONE, out.copy_(planes), alpha=_STEP, out=out)


def planes(pictures: UInt8[Tensor, "*batch view h w 3"] | Float32[Tensor, "*batch view 3 h w"]) -> Tensor:
    """Pictures of the loader, of either type, as float32 (..., 3, h, w) in [-1, 1]."""
    return pictures if pictures.is_floating_point() else pictures.movedim(-1, -3).float() / 127.5 - 1


def on_colour(
    rgb: UInt8[Tensor, "*batch view h w 3"] | Float32[Tensor, "*batch view 3 h w"],
    mask: UInt8[Tensor, "*batch view h w"],
    colour: Float32[Tensor, "*batch 3"],
) -> Float32[Tensor, "*batch view 3 h w"]:
    """Composite RGB, which is on white, on a colour instead: c = c_white - (1 - alpha) (white - colour), in [-1, 1]."""
    alpha = mask[..., None, :, :].float() / 255
    return planes(rgb) - (1 - alpha) * (1 - colour[..., None, :, None, None])


def unit_normals(
    normals: UInt8[Tensor, "*batch view h w 3"] | Float32[Tensor, "*batch view 3 h w"],
    mask: UInt8[Tensor, "*batch view h w"],
    world2frame: Float[Tensor, "*batch view 3 3"] | None = None,
) -> Float32[Tensor, "*batch view 3 h w"]:
    """Decode unit normals, zero where the mask is 0; turned by `world2frame`, or in the world frame."""
    vectors = torch.nn.functional.normalize(planes(normals), dim=-3) * (mask[..., None, :, :] > 0)
    return vectors if world2frame is None else turn_normals(vectors, world2frame)


def as_floats(batch: Mapping[str, Tensor], normals_frame: NormalsFrame = "world") -> dict[str, Tensor]:
    """A sample or batch of the loader with `rgb` and `normals` as float32 (..., 3, h, w), everything else unchanged.

    RGB stays on white unless the batch has a `background`. `normals_frame` is one of
    `models.diffusion.normals_frame`; the views of a sample are its group. Raises ValueError if the batch lacks an array
    that the conversion reads (`mask`, `cam2world`).
    """
    if missing := [name for name in required(batch, normals_frame) if name not in batch]:
        raise ValueError(f"loader: expected {', '.join(missing)} in the batch; add it to the arrays that are read")
    floats = dict(batch)
    if "rgb" in batch and "background" in batch:
        floats["rgb"] = on_colour(batch["rgb"], batch["mask"], batch["background"])
    elif "rgb" in batch:
        floats["rgb"] = planes(batch["rgb"])
    if "normals" in batch:
        turned = None if normals_frame == "world" else world2frame(normals_frame, batch["cam2world"])
        floats["normals"] = unit_normals(batch["normals"], batch["mask"], turned)
    return floats


def required(batch: Mapping[str, Tensor], normals_frame: NormalsFrame) -> set[str]:
    """The arrays that `as_floats` reads in addition to the images."""
    masked = "normals" in batch or ("rgb" in batch and "background" in batch)
    turned = "normals" in batch and normals_frame != "world"
    return {name for name, needed in (("mask", masked), ("cam2world", turned)) if needed}
