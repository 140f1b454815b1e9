"""Content of a sample of the loader. Imports no torch."""

from typing import Literal

from pydantic import Field

from spinmeround.storage.records import FrozenParams

ArrayName = Literal["rgb", "normals", "mask", "latents"]
PictureType = Literal["uint8", "float32"]
Colour = tuple[float, float, float]


class ViewParams(FrozenParams):
    """Content of a sample."""

    arrays: tuple[ArrayName, ...] = ("rgb", "normals", "mask")
    dtype: PictureType = Field("uint8", description="Type of RGB and normals: bytes as on disk, or float32 in [-1, 1]")
    views: int = Field(8, ge=1, description="Views per sample, all different")
    conditioning_views: int = Field(0, ge=0, description="Number of leading conditioning views; the first shows a face")
    cameras: bool = Field(True, description="Include the cameras of the views")
    identity: bool = Field(True, description="Include the identity embedding of the head")
    background: Colour | Literal["random"] | None = Field(None, description="Colour to composite RGB on, in [-1, 1]")
    seed: int = Field(0, ge=0)
    samples_per_head: int = Field(1, ge=1, description="Samples of each head per epoch")
