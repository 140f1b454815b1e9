"""A head as voxels in its own frame, symmetric about x = 0, with distances to its surface."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy.ndimage import distance_transform_edt, map_coordinates

from spinmeround.models.screening.frame import HeadFrame

DENT_RADIUS, BUMP_RADIUS = 0.08, 0.015
"""Radii of the balls that roll over the head from outside and from inside, in sides of the cube."""

PADDING = 0.09
"""Empty space kept around the head, in sides of the cube; more than DENT_RADIUS."""


@dataclass(frozen=True, kw_only=True)
class Solid:
    """Voxels [x, y, z] of a head; lengths are in sides of the cube, coordinates those of its frame."""

    inside: Bool[np.ndarray, "x y z"]
    voxel: float
    corner: tuple[float, float, float]

    @staticmethod
    def of(
        density: Float32[np.ndarray, "x y z"],
        level: float,
        corner: Float64[np.ndarray, "3"],
        voxel: float,
        frame: HeadFrame,
    ) -> "Solid":
        """The head in a grid of samples; a part that touches the bottom of the grid continues below it.

        `corner` is the position of the first sample, relative to the cube's centre; `voxel` is their distance.
        """
        occupied = np.argwhere(density > level)
        if not len(occupied):
            return Solid(inside=np.zeros((1, 1, 1), bool), voxel=voxel, corner=(0.0, 0.0, 0.0))
        ends = np.stack([occupied.min(axis=0), occupied.max(axis=0)]) * voxel + corner
        corners = frame.local(np.array(list(product(*ends.T))))
        low, high = corners.min(axis=0), corners.max(axis=0)
        high[0] = max(-low[0], high[0])
        low[0] = -high[0]  # the grid mirrors itself
        pad = int(np.ceil(PADDING / voxel))
        count = np.ceil((high - low) / voxel).astype(int) + 1 + 2 * pad
        first = low - pad * voxel
        first[0] = -0.5 * voxel * (count[0] - 1)
        places = np.stack(np.meshgrid(*(first[i] + voxel * np.arange(count[i]) for i in range(3)), indexing="ij"), -1)
        # zeros around all faces but the bottom, which repeats
        bordered = np.pad(density, ((1, 1), (0, 1), (1, 1)))
        nodes = (frame.world(places) - corner) / voxel + np.array([1.0, 0.0, 1.0])
        sampled = map_coordinates(bordered, np.moveaxis(nodes, -1, 0), order=1, mode="nearest")
        x, y, z = first.tolist()
        return Solid(inside=sampled > level, voxel=voxel, corner=(x, y, z))

    def axis(self, dimension: int) -> Float64[np.ndarray, "x y z"]:
        """Coordinates of the voxels along x, y or z, shaped for broadcasting."""
        coordinates = self.corner[dimension] + self.voxel * np.arange(self.inside.shape[dimension])
        shape = [1, 1, 1]
        shape[dimension] = -1
        return coordinates.reshape(shape)

    def at(
        self, values: Float[np.ndarray, "x y z"], local: Float[np.ndarray, "point 3"]
    ) -> Float64[np.ndarray, " point"]:
        """Values of the voxels at points of the frame, interpolated."""
        nodes = (local - np.array(self.corner)) / self.voxel
        return np.asarray(map_coordinates(values, nodes.T, output=np.float64, order=1, mode="nearest"))

    @cached_property
    def volume(self) -> int:
        """Number of voxels inside, at least 1."""
        return max(int(self.inside.sum()), 1)

    @cached_property
    def outside_distance(self) -> Float32[np.ndarray, "x y z"]:
        """Distance to the head; zero inside."""
        return self._distance(self.inside)

    @cached_property
    def inside_distance(self) -> Float32[np.ndarray, "x y z"]:
        """Distance to the space around the head; zero outside and in most of the padding."""
        distances = np.zeros(self.inside.shape, np.float32)
        distances[self._core] = self._distance(~self.inside[self._core])
        return distances

    @cached_property
    def dents(self) -> Float32[np.ndarray, "x y z"]:
        """Depth of each voxel below the surface that a ball of DENT_RADIUS reaches (closing); zero elsewhere."""
        unreached = self._distance(self.outside_distance > DENT_RADIUS)
        return np.where(self.inside, 0.0, np.maximum(unreached - DENT_RADIUS, 0.0)).astype(np.float32)

    @cached_property
    def bumps(self) -> Float32[np.ndarray, "x y z"]:
        """Height of each voxel above what a ball of BUMP_RADIUS fills from inside (opening); zero elsewhere."""
        heights = np.zeros(self.inside.shape, np.float32)
        inside, deep = self.inside[self._core], self.inside_distance[self._core] > BUMP_RADIUS
        heights[self._core] = np.where(inside, np.maximum(self._distance(deep) - BUMP_RADIUS, 0.0), 0.0)
        return heights

    @property
    def _core(self) -> tuple[slice, ...]:
        """The grid without most of its padding."""
        edge = int(PADDING / self.voxel)
        return tuple(slice(edge, max(size - edge, edge)) for size in self.inside.shape)

    def _distance(self, to: Bool[np.ndarray, "x y z"]) -> Float32[np.ndarray, "x y z"]:
        """Distance to the nearest true voxel; 1 if there is none."""
        if not to.any():
            return np.full(to.shape, 1.0, np.float32)
        return np.asarray(distance_transform_edt(~to) * self.voxel, np.float32)
