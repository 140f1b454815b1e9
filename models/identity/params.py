"""Configuration of face detection, recognition and identity selection. Imports no network library."""

from typing import Literal

import numpy as np
from jaxtyping import Bool
from pydantic import Field

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.records import FrozenParams

EMBEDDING_SIZE = 512
"""Size of an ArcFace embedding."""

CROP_SIDE = 112
"""Side of the aligned crops that ArcFace reads, in pixels."""

Border = Literal["white", "blurred"]
"""Fill of the pixels outside a photo; `blurred` is PanoHead's blurred reflection."""

InterpolationMethod = Literal["spherical", "linear"]
"""Paths between two identities; `models.identity.interpolation` describes them."""


class DetectionParams(FrozenParams):
    """Face detection."""

    side: int = Field(640, ge=64, multiple_of=32, description="Side of the square that images are fitted into, in px")
    threshold: float = Field(0.5, gt=0.0, lt=1.0, description="Lowest score of a detected face")


class ViewRange(FrozenParams):
    """The views within a range of angles about the front, by default the frontal ones."""

    max_azimuth_deg: float = Field(30.0, ge=0.0, le=180.0, description="Largest absolute azimuth, in degrees")
    max_elevation_deg: float = Field(15.0, ge=0.0, le=90.0, description="Largest absolute elevation, in degrees")

    def select(self, cameras: Cameras) -> Bool[np.ndarray, " view"]:
        """Which views are within the range, with a tolerance of 0.001 degrees for float32 angles."""
        azimuth = (cameras.azimuth_deg.astype(np.float64) + 180.0) % 360.0 - 180.0
        elevation = cameras.elevation_deg.astype(np.float64)
        near = np.abs(azimuth) <= self.max_azimuth_deg + 1e-3
        return near & (np.abs(elevation) <= self.max_elevation_deg + 1e-3)


class RecognitionConfig(FrozenParams):
    """Sizes of a recognition network; each stage halves the side and has `blocks` residual blocks."""

    channels: tuple[int, ...] = Field((32, 64, 128), min_length=2, description="Channels of each stage")
    blocks: tuple[int, ...] = Field((0, 1, 1), min_length=2, description="Residual blocks of each stage")
    embedding: int = Field(EMBEDDING_SIZE, ge=2, description="Size of the embedding")

    def model_post_init(self, _context: object) -> None:
        if len(self.channels) != len(self.blocks):
            raise ValueError(
                f"channels, blocks: expected equal lengths, got {len(self.channels)} and {len(self.blocks)}"
            )
        if (CROP_SIDE // 2) % 2 ** len(self.channels):
            raise ValueError(
                f"channels: expected 3 stages or fewer for {CROP_SIDE // 2} pixels, got {len(self.channels)}"
            )
