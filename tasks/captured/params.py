"""Configuration of an import of photographed heads. Imports no network library."""

from typing import Literal

from pydantic import Field

from spinmeround.models.identity.params import ViewRange
from spinmeround.storage.records import FrozenParams

LayoutName = Literal["nerfstudio", "nersemble", "facescape"]

FRONTAL = ViewRange(max_azimuth_deg=30.0, max_elevation_deg=30.0)
"""Views whose mean embedding is a head's identity: the cameras of a rig are rarely at the height of the eyes."""


class CaptureParams(FrozenParams):
    """What is imported, and how."""

    side: int = Field(256, ge=16, le=4096, description="Side of the dataset's pictures, in pixels")
    views: int | None = Field(
        None, ge=1, description="Views of each head, spread over its cameras; default: the fewest that a head has"
    )
    sequence: str | None = Field(None, description="Sequence of NeRSemble, or expression of FaceScape")
    timestep: int = Field(0, ge=0, description="Number of the frame in a sequence of NeRSemble")
    frame: Literal["landmarks", "given"] = Field(
        "landmarks", description="World frame: that of the landmarks, or that of the file, if it is the dataset's"
    )
    licence: str = Field("not stated", min_length=1, description="Licence of the pictures")
    validation_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of heads for validation, by hash of the id")
    test_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of heads for testing, by hash of the id")
