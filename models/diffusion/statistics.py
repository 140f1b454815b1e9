"""Mean and standard deviation of latents by channel and position, by which a model normalises them.

Of latents of heads much is explained by the position alone: the background is everywhere the same, faces are in the
middle. With its statistics a model sees latents of mean zero and unit variance at every position; without them, as in
the paper, latents are used as the autoencoder scales them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Half = Literal["both", "image", "normals"]
_PARTS: dict[Half, slice] = {"both": slice(0, 2), "image": slice(0, 1), "normals": slice(1, 2)}


class LatentStatistics(nn.Module):
    """Statistics of image latents and of normal latents, as buffers; the identity until they are set.

    Those of a model without normals have the image half alone.
    """

    mean: Float[Tensor, "half channel height width"]
    std: Float[Tensor, "half channel height width"]

    def __init__(self, channels: int, side: int, halves: int = 2) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(halves, channels, side, side))
        self.register_buffer("std", torch.ones(halves, channels, side, side))

    @property
    def is_identity(self) -> bool:
        """Whether latents stay as they are."""
        return not bool(self.mean.any()) and bool((self.std == 1).all())

    @torch.no_grad()
    def set(
        self, mean: Float[Tensor, "half channel height width"], std: Float[Tensor, "half channel height width"]
    ) -> None:
        """Use these, of the halves that the model has.

        Raises ValueError unless every number is finite and every deviation positive.
        """
        if not bool(mean.isfinite().all()) or not bool((std.isfinite() & (std > 0)).all()):
            raise ValueError("latent statistics: expected finite means and positive deviations, got others")
        halves = len(self.mean)
        self.mean.copy_(mean[:halves])
        self.std.copy_(std[:halves])

    def normalised(
        self, latents: Float[Tensor, "*batch channels height width"], half: Half = "both"
    ) -> Float[Tensor, "*batch channels height width"]:
        """Latents of zero mean and unit variance; `channels` are those of `half`."""
        mean, std = self._of(half)
        return (latents - mean) / std

    def restored(
        self, latents: Float[Tensor, "*batch channels height width"], half: Half = "both"
    ) -> Float[Tensor, "*batch channels height width"]:
        """The inverse of `normalised`."""
        mean, std = self._of(half)
        return latents * std + mean

    def _of(self, half: Half) -> tuple[Tensor, Tensor]:
        part = _PARTS[half]
        return self.mean[part].flatten(0, 1), self.std[part].flatten(0, 1)
