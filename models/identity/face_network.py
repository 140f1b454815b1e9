"""A small network that finds faces in pictures of heads: a heat map of the faces' centres, and their sizes.

The centre of a face is the middle between eyes and mouth, its size the distance between them. Input is RGB in [-1, 1];
a cell of the output covers STRIDE pixels. Channel 0 is the logit of a face's centre in the cell, channel 1 the
logarithm of its size in units of USUAL_SIZE pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4
USUAL_SIZE = 10.0


class FaceNetwork(nn.Module):
    """Seven convolutions; each place of the output sees 63 pixels."""

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 48)) -> None:
        super().__init__()
        first, second, third = channels
        self.layers = nn.Sequential(
            *_convolution(3, first, stride=2),
            *_convolution(first, second, stride=2),
            *_convolution(second, third),
            *_convolution(third, third, dilation=2),
            *_convolution(third, third, dilation=2),
            *_convolution(third, third),
            nn.Conv2d(third, 2, 1),
        )

    def forward(self, pictures: Float[Tensor, "picture 3 h w"]) -> Float[Tensor, "picture 2 rows columns"]:
        found: Tensor = self.layers(pictures)
        return found


def face_loss(
    found: Float[Tensor, "picture 2 rows columns"],
    heat: Float[Tensor, "picture rows columns"],
    size: Float[Tensor, "picture rows columns"],
) -> Float[Tensor, ""]:
    """Cross entropy of the heat, where cells with a face weigh more, plus the error of the size at the faces.

    Pictures whose heat is NaN count nothing: a face that turns away is neither there nor absent.
    """
    known = torch.isfinite(heat)
    target = torch.where(known, heat, torch.zeros_like(heat))
    weight = known * (1.0 + 8.0 * target)
    cross = F.binary_cross_entropy_with_logits(found[:, 0], target, weight, reduction="sum") / known.sum().clamp_min(1)
    at = target > 0.6
    errors = (found[:, 1] - size)[at]
    return cross + 0.05 * (errors.abs().mean() if len(errors) else found.sum() * 0.0)


def _convolution(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
