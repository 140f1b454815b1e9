"""A head as voxels, cropped symmetrically about the plane x = 0, with distances to its surface."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.ndimage import distance_transform_edt

DENT_RADIUS, BUMP_RADIUS = 0.08, 0.015
"""Radii of the balls that roll over the head from outside and from inside, in sides of the cube."""

PADDING = 0.09
"""Empty space kept around the head, in sides of the cube; more than DENT_RADIUS."""


@dataclass(frozen=True, kw_only=True)
class Solid:
    """Voxels [x, y, z] of a head; lengths are in sides of the cube, the origin is the cube's centre."""

    inside: Bool[np.ndarray, "x y z"]
    voxel: float
    corner: tuple[float, float, float]

    @staticmethod
    def of(inside: Bool[np.ndarray, "x y z"]) -> "Solid":
        """The head in a grid over the full cube; a part that touches the bottom of the cube continues below it."""
        voxel = 1.0 / (inside.shape[0] - 1)
        pad = int(np.ceil(PADDING / voxel))
        occupied = np.argwhere(inside | inside[::-1])
        if not len(occupied):
            return Solid(inside=np.zeros((1, 1, 1), bool), voxel=voxel, corner=(0.0, 0.0, 0.0))
        low, high = occupied.min(axis=0), occupied.max(axis=0) + 1
        cropped = np.pad(inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], pad)
        if low[1] == 0:
            cropped[:, :pad] = cropped[:, pad : pad + 1]
        x, y, z = ((low - pad) * voxel - 0.5).tolist()
        return Solid(inside=cropped, voxel=voxel, corner=(x, y, z))

    def axis(self, dimension: int) -> Float64[np.ndarray, "x y z"]:
        """Coordinates of the voxels along x, y or z, shaped for broadcasting."""
        coordinates = self.corner[dimension] + self.voxel * np.arange(self.inside.shape[dimension])
        shape = [1, 1, 1]
        shape[dimension] = -1
        return coordinates.reshape(shape)

    @cached_property
    def volume(self) -> int:
        """Number of voxels inside, at least 1."""
        return max(int(self.inside.sum()), 1)

    @cached_property
    def outside_distance(self) -> Float32[np.ndarray, "x y z"]:
        """Distance to the head; zero inside."""
        return self._distance(self.inside)

    @cached_property
    def dents(self) -> Float32[np.ndarray, "x y z"]:
        """Depth of each voxel below the surface that a ball of DENT_RADIUS reaches (closing); zero elsewhere."""
        unreached = self._distance(self.outside_distance > DENT_RADIUS)
        return np.where(self.inside, 0.0, np.maximum(unreached - DENT_RADIUS, 0.0)).astype(np.float32)

    @cached_property
    def bumps(self) -> Float32[np.ndarray, "x y z"]:
        """Height of each voxel above what a ball of BUMP_RADIUS fills from inside (opening); zero elsewhere."""
        heights = np.zeros(self.inside.shape, np.float32)
        edge = int(PADDING / self.voxel)  # most of the padding is far from any bump
        core = tuple(slice(edge, max(size - edge, edge)) for size in self.inside.shape)
        inside = self.inside[core]
        unfilled = self._distance(self._distance(~inside) > BUMP_RADIUS)
        heights[core] = np.where(inside, np.maximum(unfilled - BUMP_RADIUS, 0.0), 0.0)
        return heights

    def _distance(self, to: Bool[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
        """Distance to the nearest true voxel; 1 if there is none."""
        if not to.any():
            return np.full(to.shape, 1.0, np.float32)
        return np.asarray(distance_transform_edt(~to) * self.voxel, np.float32)
