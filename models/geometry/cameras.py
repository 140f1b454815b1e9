"""Cameras on an orbit around the head, shared by generators, renderers and networks.

World: y up, the face looks along +z, origin in the head. A camera is `cam2world` with OpenCV axes (x right, y down,
z forward) and `intrinsics` normalised by the image side, valid at any resolution. Azimuth and elevation are in
degrees, (0, 0) is the frontal view, and the position is `radius * (sin az cos el, sin el, cos az cos el)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from pydantic import Field

from spinmeround.storage.records import FrozenParams


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A batch of cameras; the first axis of each array is the camera index."""

    cam2world: Float32[np.ndarray, "view 4 4"]
    intrinsics: Float32[np.ndarray, "view 3 3"]
    azimuth_deg: Float32[np.ndarray, " view"]
    elevation_deg: Float32[np.ndarray, " view"]

    def __len__(self) -> int:
        return len(self.cam2world)

    def __getitem__(self, views: slice | Sequence[int] | np.ndarray) -> "Cameras":
        return Cameras(
            cam2world=self.cam2world[views],
            intrinsics=self.intrinsics[views],
            azimuth_deg=self.azimuth_deg[views],
            elevation_deg=self.elevation_deg[views],
        )


def concatenate(batches: Sequence[Cameras]) -> Cameras:
    """All cameras in one batch, in order."""
    return Cameras(**{each.name: np.concatenate([getattr(c, each.name) for c in batches]) for each in fields(Cameras)})


def is_rotation(matrices: Float[np.ndarray, "*shape 3 3"]) -> Bool[np.ndarray, "*shape"]:
    """Which matrices are proper rotations, to 1e-3: no scale, shear or reflection."""
    squares = matrices @ np.swapaxes(matrices, -1, -2)
    return np.asarray(np.isclose(squares, np.eye(3), atol=1e-3).all(axis=(-1, -2)) & (np.linalg.det(matrices) > 0))


def angles_between_deg(a: Cameras, b: Cameras) -> Float64[np.ndarray, "a b"]:
    """Angles between camera positions as seen from the world origin, 0 to 180 degrees."""
    positions = [cameras.cam2world[:, :3, 3].astype(np.float64) for cameras in (a, b)]
    unit_a, unit_b = (position / np.linalg.norm(position, axis=-1, keepdims=True) for position in positions)
    difference, total = unit_a[:, None] - unit_b[None], unit_a[:, None] + unit_b[None]  # a b 3
    # the arctangent is precise at small angles, where the arccosine loses half the digits
    halves = np.arctan2(np.linalg.norm(difference, axis=-1), np.linalg.norm(total, axis=-1))
    return np.asarray(np.degrees(2 * halves))


FACE_VISIBLE_DEG = 90.0
"""Largest absolute azimuth of a view that shows part of the face."""


def absolute_azimuth_deg(azimuth_deg: Float32[np.ndarray, " view"]) -> Float64[np.ndarray, " view"]:
    """Angles from the front to either side, 0 to 180 degrees, rounded to 0.001 so that mirrored azimuths are equal."""
    return np.abs(np.round((azimuth_deg.astype(np.float64) + 180) % 360 - 180, 3))


class ViewGrid(FrozenParams):
    """The grid of views around a head; the view index is elevation-major.

    Defaults are the 125 views of the paper's dataset: 25 azimuths by 5 elevations.
    """

    azimuths: int = Field(25, ge=1, le=3600, description="Number of azimuths, evenly spaced over 360 degrees")
    elevations_deg: tuple[Annotated[float, Field(ge=-90.0, le=90.0)], ...] = Field(
        (-30.0, -15.0, 0.0, 15.0, 30.0), min_length=1, description="Elevations, in degrees"
    )
    radius: float = Field(
        2.7, gt=0.9, allow_inf_nan=False, description="Distance from the cameras to the origin, in world units"
    )
    focal: float = Field(4.2647, gt=0.0, allow_inf_nan=False, description="Focal length in units of the image side")

    @property
    def views(self) -> int:
        """Number of views."""
        return self.azimuths * len(self.elevations_deg)

    def cameras(self) -> Cameras:
        """Cameras of all views, by view index."""
        azimuth = np.arange(self.azimuths) * (360.0 / self.azimuths)
        elevation, azimuth = np.meshgrid(np.asarray(self.elevations_deg), azimuth, indexing="ij")
        return orbit(azimuth.ravel(), elevation.ravel(), radius=self.radius, focal=self.focal)


def orbit(
    azimuth_deg: Sequence[float] | Float[np.ndarray, " view"],
    elevation_deg: Sequence[float] | Float[np.ndarray, " view"],
    *,
    radius: float = 2.7,
    focal: float = 4.2647,
) -> Cameras:
    """Cameras at the given angles that look at the origin, with the world y axis up."""
    az, el = np.radians(np.asarray(azimuth_deg, np.float64)), np.radians(np.asarray(elevation_deg, np.float64))
    outward = np.stack([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)], axis=-1)  # view 3
    right = np.stack([np.cos(az), np.zeros_like(az), -np.sin(az)], axis=-1)  # view 3
    forward = -outward
    down = np.cross(forward, right)
    cam2world = np.tile(np.eye(4), (len(az), 1, 1))
    cam2world[:, :3, :3] = np.stack([right, down, forward], axis=-1)
    cam2world[:, :3, 3] = radius * outward
    intrinsics = np.array([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    return Cameras(
        cam2world=cam2world.astype(np.float32),
        intrinsics=np.tile(intrinsics, (len(az), 1, 1)).astype(np.float32),
        azimuth_deg=np.asarray(azimuth_deg, np.float32),
        elevation_deg=np.asarray(elevation_deg, np.float32),
    )


def pixel_rays(
    cameras: Cameras, resolution: int
) -> tuple[Float32[np.ndarray, "view height width 3"], Float32[np.ndarray, "view height width 3"]]:
    """World-frame origins and unit directions of the rays through all pixel centres."""
    centres = (np.arange(resolution) + 0.5) / resolution
    x, y = np.meshgrid(centres, centres, indexing="xy")
    pixels = np.stack([x, y, np.ones_like(x)], axis=-1)  # height width 3
    in_camera = np.einsum("vij,hwj->vhwi", np.linalg.inv(cameras.intrinsics.astype(np.float64)), pixels)
    directions = np.einsum("vij,vhwj->vhwi", cameras.cam2world[:, :3, :3].astype(np.float64), in_camera)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to(cameras.cam2world[:, None, None, :3, 3], directions.shape)
    return origins.astype(np.float32), directions.astype(np.float32)


def project(
    cameras: Cameras, points: Float[np.ndarray, "point 3"]
) -> tuple[Float64[np.ndarray, "view point 2"], Float64[np.ndarray, "view point"]]:
    """Image positions (x right, y down, in units of the image side, 0 to 1) and depths along the camera z axis."""
    rotation = cameras.cam2world[:, :3, :3].astype(np.float64)
    offset = points[None].astype(np.float64) - cameras.cam2world[:, None, :3, 3]
    in_camera = np.einsum("vji,vpj->vpi", rotation, offset)
    homogeneous = np.einsum("vij,vpj->vpi", cameras.intrinsics.astype(np.float64), in_camera)
    return homogeneous[..., :2] / homogeneous[..., 2:], in_camera[..., 2]
