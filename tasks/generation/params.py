"""What `generate` makes and how: configuration, validated before any network is loaded.

`Given` is what the model is given, one frozen model for each kind with the fields that apply to it. An identity is the
id of a head of the dataset, the path of a .npy file with 512 numbers, or the path of a photo whose largest face has it.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from spinmeround.models.diffusion.params import NoiseSchedule, PhotoNormalsParams, SolverParams
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.params import InterpolationMethod
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import FrozenModel, FrozenParams

NAMED_VIEWS = {"front": (0.0, 0.0), "back": (180.0, 0.0), "left": (90.0, 0.0), "right": (-90.0, 0.0)}
"""Azimuth and elevation in degrees; left and right are the head's own."""

_PICTURE_SUFFIXES = (".avif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def is_picture(identity: str) -> bool:
    """Whether an identity is named by a photo whose largest face has it."""
    return identity.lower().endswith(_PICTURE_SUFFIXES)


def parse_view(text: str) -> int | tuple[float, float]:
    """The index of `#62`, or the (azimuth, elevation) in degrees of `front`, `30` or `30,-15`; raises ValueError."""
    if text in NAMED_VIEWS:
        return NAMED_VIEWS[text]
    if text.startswith("#") and text[1:].isdecimal():
        return int(text[1:])
    try:
        angles = [float(part) for part in text.split(",")]
    except ValueError:
        angles = []
    if len(angles) not in (1, 2) or not all(map(math.isfinite, angles)) or abs((*angles, 0.0)[1]) > 90:
        raise ValueError(
            f"view: expected {', '.join(NAMED_VIEWS)}, AZIMUTH or AZIMUTH,ELEVATION in degrees, or an index as #62, "
            f"got {text!r}"
        )
    return angles[0], (*angles, 0.0)[1]


def _checked_view(text: str) -> str:
    parse_view(text)
    return text


ViewName = Annotated[str, AfterValidator(_checked_view)]
"""A view as `parse_view` reads it. Angles stand for the head's nearest view."""


class PhotoInput(FrozenModel):
    """A photo, whose identity is detected where it is not given."""

    kind: Literal["photo"] = "photo"
    file: str = Field(description="A square picture, framed like the dataset's")
    azimuth_deg: float | None = Field(
        None, strict=True, ge=-360.0, le=360.0, description="Azimuth of the photo's camera; default: its label's, or 0"
    )
    elevation_deg: float | None = Field(
        None, strict=True, ge=-90.0, le=90.0, description="Elevation of the photo's camera; default: its label's, or 0"
    )
    identity: str | None = Field(None, description="Identity; default: that of the largest face")
    matting: str | None = Field(None, description="Network of rembg (.onnx) that removes the background")
    normals: PhotoNormalsParams = PhotoNormalsParams()


class ViewsInput(FrozenModel):
    """1 or 3 posed pictures, with or without normals."""

    kind: Literal["views"] = "views"
    file: str = Field(description="A transforms.json with 1 or 3 frames and their pictures")
    identity: str | None = Field(None, description="Identity; default: that of the most frontal picture with a face")
    matting: str | None = Field(None, description="Network of rembg (.onnx) that removes the backgrounds")
    undistort: bool = Field(False, description="Remove the distortion that the file states from the pictures")
    normals: PhotoNormalsParams = PhotoNormalsParams()


class HeadInput(FrozenModel):
    """1 or 3 views of a head of the dataset, and its identity."""

    kind: Literal["head"] = "head"
    head: str = Field(description="Id of the head")
    views: tuple[ViewName, ...] = Field(
        ("front",),
        description="1 or 3 views of the head: front, back, left, right, AZIMUTH or AZIMUTH,ELEVATION in degrees "
        "(the nearest view), or an index as #62",
    )

    @field_validator("views")
    @classmethod
    def _one_or_three(cls, views: tuple[str, ...]) -> tuple[str, ...]:
        if len(views) not in (1, 3):
            raise ValueError(f"expected 1 or 3 views, got {len(views)}")
        if len(set(views)) < len(views):
            raise ValueError(f"expected different views, got {', '.join(views)}")
        return views


class IdentityInput(FrozenModel):
    """An identity alone."""

    kind: Literal["identity"] = "identity"
    identity: str = Field(description="Id of a head of the dataset, a .npy file with 512 numbers, or a photo")


class InterpolationInput(FrozenModel):
    """Two identities; one head is generated for each step between them."""

    kind: Literal["interpolation"] = "interpolation"
    start: str = Field(description="The first identity")
    end: str = Field(description="The last identity")
    heads: int = Field(7, strict=True, ge=2, description="Number of heads, both ends included")
    method: InterpolationMethod = Field("spherical", description="How identities are interpolated")


class NothingInput(FrozenModel):
    """Nothing; heads come from consecutive seeds."""

    kind: Literal["nothing"] = "nothing"
    heads: int = Field(1, strict=True, ge=1, description="Number of heads")


def as_any_of(schema: dict[str, Any]) -> None:
    """Write the tagged union as `anyOf`, which Prefect's forms show as a choice; they ignore pydantic's `oneOf`."""
    schema["anyOf"] = schema.pop("oneOf")
    schema.pop("discriminator")


Given = Annotated[
    PhotoInput | ViewsInput | HeadInput | IdentityInput | InterpolationInput | NothingInput,
    Field(discriminator="kind", json_schema_extra=as_any_of),
]


class GenerationParams(FrozenParams):
    """What the model is given, which views it generates, and how."""

    given: Given = Field(description="What the model is given")
    views: ViewGrid = Field(ViewGrid(azimuths=7, elevations_deg=(0.0,)), description="The views to generate")
    cameras_file: str | None = Field(None, description="A transforms.json whose cameras replace `views`")
    anchored: bool | None = Field(
        None, description="Keep views consistent by seven anchor views; default: on for requests of more than one group"
    )
    guidance_scale: float | None = Field(None, ge=0.0, description="Default: 3, or 3.5 without conditioning views")
    schedule: NoiseSchedule = Field(NoiseSchedule(), description="Noise levels of the solver's steps")
    solver: SolverParams = SolverParams()
    batch: int | None = Field(
        None, ge=1, description="Groups of views per batch; default: as memory allows. Does not change results"
    )
    seed: int = Field(0, ge=0, description="Seed of the noise")

    @property
    def identities(self) -> list[str]:
        """The identities that are named."""
        given = self.given
        if isinstance(given, InterpolationInput):
            return [given.start, given.end]
        if isinstance(given, IdentityInput | PhotoInput | ViewsInput) and given.identity is not None:
            return [given.identity]
        return []

    @property
    def names_head(self) -> bool:
        """Whether a head of the dataset is among what the model is given."""
        files = (name.endswith(".npy") or is_picture(name) for name in self.identities)
        return isinstance(self.given, HeadInput) or not all(files)

    @property
    def photo_normals(self) -> PhotoNormalsParams:
        """How normals of given pictures are inferred."""
        given = self.given
        return given.normals if isinstance(given, PhotoInput | ViewsInput) else PhotoNormalsParams()


def parse_cameras(text: str, grid: ViewGrid) -> dict[str, object]:
    """Values of `views` and `cameras_file` for "orbit:48", "grid" (the profile's) or the path of a transforms.json.

    `views` is always set, because a photo has its radius and focal length. Raises ConfigError.
    """
    if text == "grid":
        return {"views": grid}
    name, _, number = text.partition(":")
    if name == "orbit" and number.isdecimal() and 1 <= int(number) <= 3600:
        return {"views": grid.model_copy(update={"azimuths": int(number), "elevations_deg": (0.0,)})}
    if not text.endswith(".json"):
        raise ConfigError(f"--cameras: expected orbit:N with N of 1 to 3600, grid or FILE.json, got {text!r}")
    return {"views": grid, "cameras_file": str(Path(text).absolute())}
