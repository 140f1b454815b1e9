"""The fields of a transforms.json that this project reads, strictly: a number is a finite number, not text or a flag.

Lenses are pinholes: another lens is refused by name, and so is a distortion, unless the pictures are to be undistorted.
What other programs say of a lens in further fields is checked by `lens_fields`: here its kind, and its numbers where
the intrinsics are known.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from spinmeround.models.geometry.lens_checks import PINHOLES, no_pinhole
from spinmeround.models.geometry.lens_fields import check_depth, check_lens_fields
from spinmeround.models.geometry.lens_values import COEFFICIENTS, some, states_nothing
from spinmeround.storage.errors import shortened

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0.0)]
Four = Field(min_length=4, max_length=4)

_NUMBERS = {"cx", "cy", "distortion_params", *COEFFICIENTS}
_EXPECTED = {
    "transform_matrix": "4 rows of 4 finite numbers",
    "frames": "a list of one or more frames",
    "is_fisheye": "true or false",
    **dict.fromkeys(("camera_model", "file_path", "normals_file_path"), "text"),
    **dict.fromkeys(("w", "h", "fl_x", "fl_y", "camera_angle_x", "camera_angle_y"), "a number above 0"),
    **dict.fromkeys(_NUMBERS, "a number"),
}


class Lens(BaseModel):
    """Intrinsics in pixels, or fields of view in radians; in a frame or for all frames at the top level."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    camera_model: str | None = None
    is_fisheye: bool | None = None
    w: Positive | None = None
    h: Positive | None = None
    fl_x: Positive | None = None
    fl_y: Positive | None = None
    cx: Number | None = None
    cy: Number | None = None
    camera_angle_x: Positive | None = None
    camera_angle_y: Positive | None = None
    k1: Number | None = None
    k2: Number | None = None
    k3: Number | None = None
    k4: Number | None = None
    k5: Number | None = None
    k6: Number | None = None
    p1: Number | None = None
    p2: Number | None = None
    distortion_params: list[Number] | None = None

    @field_validator("distortion_params", mode="before")
    @classmethod
    def _nothing_is_empty(cls, value: Any) -> Any:
        return [] if value is not None and states_nothing(value) else value

    def check_pinhole(self, name: str, *, distorted_too: bool = False) -> None:
        """Raises ValueError for a lens that is no pinhole, an angle that can't be radians, or a distortion.

        With `distorted_too`, only a distortion that `coefficients` can't tell is refused.
        """
        if self.is_fisheye:
            raise no_pinhole(f"{name}is_fisheye", "a fisheye")
        if self.camera_model is not None and self.camera_model.upper() not in PINHOLES:
            raise no_pinhole(f"{name}camera_model", self.camera_model)
        stated = {field: getattr(self, field) for field in sorted(COEFFICIENTS)}
        stated |= {f"distortion_params[{i}]": value for i, value in enumerate(self.distortion_params or [])}
        distorted = [f"{field} {value:g}" for field, value in stated.items() if some([value or 0.0])]
        if distorted and not distorted_too:
            raise ValueError(
                f"{name}{distorted[0].split()[0]}: expected a lens without distortion, got {', '.join(distorted)}; "
                "give --undistort where pictures are read with it, or undistort the pictures (colmap "
                "image_undistorter) and remove the coefficients"
            )
        self.coefficients(name)
        for field, angle in (("camera_angle_x", self.camera_angle_x), ("camera_angle_y", self.camera_angle_y)):
            if angle is not None and angle >= math.pi:
                degrees = f", which looks like degrees: write {math.radians(angle):.6g}" if angle < 180 else ""
                raise ValueError(f"{name}{field}: expected radians, below pi, got {angle:g}{degrees}")

    def coefficients(self, name: str) -> tuple[float, ...] | None:
        """OpenCV's k1, k2, p1, p2, k3, k4, k5, k6; None if the lens states no distortion.

        Raises ValueError, which begins with `name`, for coefficients whose meaning depends on the program.
        """
        values = [getattr(self, field) for field in COEFFICIENTS]
        if self.distortion_params is not None:
            k1, k2, k3, k4, p1, p2 = ([*self.distortion_params, *[0.0] * 6])[:6]  # nerfstudio's order
            if len(self.distortion_params) > 6 or (self.distortion_params and any(values)):
                raise ValueError(f"{name}distortion_params: expected k1, k2, k3, k4, p1, p2 and no other coefficients")
            values = values if any(values) else [k1, k2, p1, p2, k3, k4, None, None]
        if all(value is None for value in values):
            return None
        found = tuple(value or 0.0 for value in values)
        if some(found[5:]) and (self.camera_model or "").upper() != "FULL_OPENCV":
            raise ValueError(f"{name}k4: expected 0 but for the camera_model FULL_OPENCV, got {found[5:]} for k4 to k6")
        return found


class Frame(Lens):
    """One picture and its camera: `transform_matrix` is camera-to-world, with OpenGL axes."""

    file_path: str | None = None
    normals_file_path: str | None = None
    transform_matrix: Annotated[list[Annotated[list[Number], Four]], Four]


class TransformsDocument(Lens):
    """The whole file."""

    frames: Annotated[list[Frame], Field(min_length=1)]

    @classmethod
    def of(cls, document: Mapping[str, Any], *, distorted_too: bool = False) -> "TransformsDocument":
        """The validated document; raises ValueError that names the first wrong field and what it is."""
        check_depth(document)
        try:
            found = cls.model_validate(dict(document))
        except ValidationError as error:
            raise ValueError(_message(error.errors(include_url=False)[0])) from error
        check_lens_fields(document)
        found.check_pinhole("", distorted_too=distorted_too)
        for number, frame in enumerate(found.frames):
            frame.check_pinhole(f"frames[{number}].", distorted_too=distorted_too)
        return found

    def distortions(self) -> list[tuple[float, ...] | None]:
        """OpenCV's coefficients of each frame, which replace those of the document; None without any distortion."""
        found = [frame.coefficients(f"frames[{number}].") for number, frame in enumerate(self.frames)]
        shared = self.coefficients("")
        every = (shared if each is None else each for each in found)
        return [each if each is not None and some(each) else None for each in every]


def _message(problem: ErrorDetails) -> str:
    """`frames[1].fl_x: expected a number above 0, got 'wide'`."""
    *place, field = [part for part in problem["loc"] if isinstance(part, str)] or ["frames"]
    numbers = [part for part in problem["loc"] if isinstance(part, int)]
    inside = field != "frames" or bool(numbers)  # a frame that is no object has no matrix
    field = "transform_matrix" if field == "frames" and inside else field
    prefix = f"frames[{numbers[0]}]." if (place or inside) and problem["loc"][0] == "frames" else ""
    got = "none" if problem["type"] == "missing" or problem["input"] in ([], None) else repr(problem["input"])
    return f"{prefix}{field}: expected {_EXPECTED[field]}, got {shortened(got, 80)}"
