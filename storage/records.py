"""Plain records that every package shares: numpy arrays with names, no behaviour, no torch.

Shapes and units hold everywhere: `view` is the index of a camera, pictures are (height, width),
lengths are in units of the world frame (the head's cube has the side `box_warp` = 1).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """Base of configuration and of what files hold: immutable, and unknown fields are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One head of a generator: its seed and the latent that the seed gives."""

    seed: int
    latent: Float32[np.ndarray, " latent"]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Pictures of one head from several cameras.

    `rgb` is composited on white by `mask` (alpha, 0 to 255). `depth` is the distance along the
    camera's z axis in world units, NaN where no surface is hit at the pixel's centre.
    """

    rgb: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]
    depth: Float32[np.ndarray, "view height width"]


@dataclass(frozen=True, kw_only=True)
class TriangleMesh:
    """A triangle mesh in the world frame; faces wind counter-clockwise seen from outside.

    `normals` are the vertices' unit normals where more is known of them than the faces tell.
    """

    vertices: Float32[np.ndarray, "vertex 3"]
    faces: Int32[np.ndarray, "face 3"]
    normals: Float32[np.ndarray, "vertex 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class NormalMaps:
    """Unit normals in the world frame, zero where no surface was hit at the pixel's centre."""

    normals: Float32[np.ndarray, "view height width 3"]
    hit: Bool[np.ndarray, "view height width"]


@dataclass(frozen=True, kw_only=True)
class HeadArrays:
    """Everything that the dataset holds of one head; see `storage.dataset` for the encodings.

    `azimuth` and `elevation` are in degrees. `identity` has unit length; a row of `identity_views` has too,
    or is NaN where the view is not frontal or shows no face.
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
