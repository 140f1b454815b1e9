"""A head as voxels, cut out symmetrically to the plane x = 0, with distances to its surface."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.ndimage import distance_transform_edt

DENT_RADIUS, BUMP_RADIUS = 0.08, 0.015
"""Radii of the balls that are rolled over a head from outside and from inside, in sides of the cube."""

PADDING = 0.09
"""Empty space kept round a head, in sides of the cube; more than DENT_RADIUS."""


@dataclass(frozen=True, kw_only=True)
class Solid:
    """Voxels [x, y, z] of a head; lengths are in sides of the cube, the cube's centre is the origin."""

    inside: Bool[np.ndarray, "x y z"]
    voxel: float
    corner: tuple[float, float, float]

    @staticmethod
    def of(inside: Bool[np.ndarray, "x y z"]) -> "Solid":
        """The head in a grid over the whole cube; what touches the cube's bottom goes on below it."""
        voxel = 1.0 / (inside.shape[0] - 1)
        pad = int(np.ceil(PADDING / voxel))
        occupied = np.argwhere(inside | inside[::-1])
        if not len(occupied):
            return Solid(inside=np.zeros((1, 1, 1), bool), voxel=voxel, corner=(0.0, 0.0, 0.0))
        low, high = occupied.min(axis=0), occupied.max(axis=0) + 1
        cut = np.pad(inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], pad)
        if low[1] == 0:
            cut[:, :pad] = cut[:, pad : pad + 1]
        x, y, z = ((low - pad) * voxel - 0.5).tolist()
        return Solid(inside=cut, voxel=voxel, corner=(x, y, z))

    def axis(self, dimension: int) -> Float64[np.ndarray, "x y z"]:
        """Coordinates of the voxels along x, y or z, shaped to broadcast."""
        places = self.corner[dimension] + self.voxel * np.arange(self.inside.shape[dimension])
        shape = [1, 1, 1]
        shape[dimension] = -1
        return places.reshape(shape)

    @cached_property
    def volume(self) -> int:
        """Voxels inside, at least 1."""
        return max(int(self.inside.sum()), 1)

    @cached_property
    def outside_distance(self) -> Float32[np.ndarray, "x y z"]:
        """Distance to the head; zero inside."""
        return self._distance(self.inside)

    @cached_property
    def dents(self) -> Float32[np.ndarray, "x y z"]:
        """How deep each voxel lies below where a ball of DENT_RADIUS can roll over the head (closing); else zero."""
        unreached = self._distance(self.outside_distance > DENT_RADIUS)
        return np.where(self.inside, 0.0, np.maximum(unreached - DENT_RADIUS, 0.0)).astype(np.float32)

    @cached_property
    def bumps(self) -> Float32[np.ndarray, "x y z"]:
        """How high each voxel stands over what a ball of BUMP_RADIUS can fill from inside (opening); else zero."""
        heights = np.zeros(self.inside.shape, np.float32)
        edge = int(PADDING / self.voxel)  # most of the padding is far from any bump
        core = tuple(slice(edge, max(size - edge, edge)) for size in self.inside.shape)
        inside = self.inside[core]
        unfilled = self._distance(self._distance(~inside) > BUMP_RADIUS)
        heights[core] = np.where(inside, np.maximum(unfilled - BUMP_RADIUS, 0.0), 0.0)
        return heights

    def _distance(self, to: Bool[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
        if not to.any():
            return np.full(to.shape, 1.0, np.float32)
        return np.asarray(distance_transform_edt(~to) * self.voxel, np.float32)
