"""Predicted target views of one head, by the model, a baseline or another method."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, UInt8

from spinmeround.tasks.loading.view_images import ViewImages


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """RGB on white; normals encoded as on disk, in the world frame; masks, 255 where the head is opaque.

    Normals and masks are None where the method has none.
    """

    rgb: UInt8[np.ndarray, "view height width 3"]
    normals: UInt8[np.ndarray, "view height width 3"] | None = None
    mask: UInt8[np.ndarray, "view height width"] | None = None

    @classmethod
    def of(cls, images: ViewImages) -> Self:
        """Images whose mask is 255 everywhere have no mask."""
        mask = None if (images.mask == 255).all() else images.mask
        return cls(rgb=images.rgb, normals=images.normals, mask=mask)

    @property
    def opacity(self) -> UInt8[np.ndarray, "view height width"]:
        """The masks; without any, 255 everywhere."""
        return np.full(self.rgb.shape[:3], 255, np.uint8) if self.mask is None else self.mask

    @property
    def inside(self) -> Bool[np.ndarray, "view height width"] | None:
        """Where the head is: by the mask at half opacity, else where encoded normals are longer than a half."""
        if self.mask is not None:
            return np.asarray(self.mask >= 128)
        if self.normals is None:
            return None
        length = np.linalg.norm(self.normals.astype(np.float32) / 255.0 * 2.0 - 1.0, axis=-1)
        return np.asarray(length > 0.5)
