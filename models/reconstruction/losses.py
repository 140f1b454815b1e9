"""Differentiable losses between pictures, (height, width, 3) with colours of 0 to 1."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Gaussian window of Wang et al. (2004), in pixels."""
_C1, _C2 = 0.01**2, 0.03**2


def ssim(a: Float[Tensor, "height width 3"], b: Float[Tensor, "height width 3"]) -> Float[Tensor, ""]:
    """Structural similarity (Wang et al. 2004) of the pixels whose window is inside the picture; 1 for equal ones."""
    x, y = (rearrange(each, "h w c -> c 1 h w") for each in (a, b))
    moments = _blurred(torch.cat([x, y, x * x, y * y, x * y]))
    mean_x, mean_y, xx, yy, xy = moments.chunk(5)
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return (luminance * (2 * covariance + _C2) / (var_x + var_y + _C2)).mean()


def _blurred(pictures: Float[Tensor, "picture 1 height width"]) -> Float[Tensor, "picture 1 new_height new_width"]:
    offsets = torch.arange(WINDOW, dtype=pictures.dtype, device=pictures.device) - (WINDOW - 1) / 2
    kernel = (-0.5 * (offsets / SIGMA) ** 2).exp()
    kernel = kernel / kernel.sum()
    rows = torch.nn.functional.conv2d(pictures, kernel.reshape(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, kernel.reshape(1, 1, 1, -1))


def on_background(
    white: Float[Tensor, "height width 3"], alpha: Float[Tensor, "height width"], background: Float[Tensor, "3"]
) -> Float[Tensor, "height width 3"]:
    """A picture on white, composited on another colour: a f + (1 - a) b = c - (1 - a) (1 - b)."""
    return white - (1 - alpha)[..., None] * (1 - background)
