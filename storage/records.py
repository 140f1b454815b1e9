"""Records that all packages share: named numpy arrays without behaviour.

Shapes and units are the same everywhere: `view` is the index of a camera, images are (height, width), lengths are in
units of the world frame (the head's cube has the side `box_warp` = 1).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator, model_validator


class FrozenModel(BaseModel):
    """Base of file contents and configuration: immutable; unknown fields, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FrozenParams(FrozenModel):
    """Base of configuration: a number is not true or false, which pydantic reads as 1 and 0.

    A table that names some fields of a section changes these alone: the others are those of the section's default, not
    those of its class. An empty table is the class's defaults.
    """

    @model_validator(mode="before")
    @classmethod
    def _beside_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        fields = {name: cls.model_fields[name] for name in values if name in cls.model_fields}
        return {**values, **{name: _over(field.default, values[name]) for name, field in fields.items()}}

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_as_number(cls, value: Any, info: Any) -> Any:  # beartype can't check ValidationInfo
        given = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(each, bool) for each in given) and info.field_name is not None:
            kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
            if kinds & {int, float} and not kinds & {bool, Any}:
                raise ValueError(f"expected a number, got {value}")
        return value


def _over(default: Any, value: Any) -> Any:
    """`value` with what sets `default` apart from its class, table by table, unless one of the two is no table."""
    if not isinstance(default, BaseModel) or not isinstance(value, Mapping) or not value:
        return value
    own = {name: getattr(default, name) for name in default.model_fields_set}
    return {**value, **{name: _over(each, value[name]) if name in value else each for name, each in own.items()}}


def _kinds(annotation: Any) -> Iterator[Any]:
    """The plain types in an annotation; a literal true or false is a bool."""
    inner = get_args(annotation)
    if not inner:
        yield bool if isinstance(annotation, bool) else annotation
    for each in inner:
        yield from _kinds(each)


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False, default=str, skipkeys=True)
    except ValueError as error:
        raise ValueError("expected finite numbers, found NaN or infinity") from error
    return value


Options = Annotated[dict[str, Any], AfterValidator(_finite)]
"""Options by name, of any kind; NaN and infinity are errors at any depth, as in the other fields of a `FrozenModel`."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One head of a generator: its seed and the latent of that seed."""

    seed: int
    latent: Float32[np.ndarray, " latent"]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Images of one head from several cameras.

    `rgb` is composited on white by `mask` (alpha, 0 to 255). `depth` is the distance along the
    camera's z axis in world units, NaN where the ray of the pixel's centre hits no surface.
    """

    rgb: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]
    depth: Float32[np.ndarray, "view height width"]


@dataclass(frozen=True, kw_only=True)
class TriangleMesh:
    """A triangle mesh in the world frame; faces wind counter-clockwise seen from outside.

    `normals` are unit normals of the vertices, None if they follow from the faces.
    """

    vertices: Float32[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    normals: Float32[np.ndarray, "vertex 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class NormalMaps:
    """Unit normals in the world frame, zero where `hit` is False: the ray of the pixel's centre hits no surface."""

    normals: Float32[np.ndarray, "view height width 3"]
    hit: Bool[np.ndarray, "view height width"]


@dataclass(frozen=True, kw_only=True)
class HeadArrays:
    """All arrays of one head in a dataset; `storage.dataset` describes the encodings.

    `azimuth` and `elevation` are in degrees. `identity` and the rows of `identity_views` have unit length; a row is
    NaN if the view is not frontal or shows no face.
    """

    id: str
    seed: int
    rgb: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]
    normals: UInt8[np.ndarray, "view height width 3"]
    cam2world: Float32[np.ndarray, "view 4 4"]
    intrinsics: Float32[np.ndarray, "view 3 3"]
    azimuth: Float32[np.ndarray, " view"]
    elevation: Float32[np.ndarray, " view"]
    identity: Float32[np.ndarray, " 512"]
    identity_views: Float32[np.ndarray, "view 512"]
