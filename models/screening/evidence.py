"""Input of screening: a coarse density grid and a ring of small images of one head.

Lengths are in sides of the head's cube, so that scores do not depend on `box_warp`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.meshes import DensityField
from spinmeround.models.screening.solid import Solid
from spinmeround.storage.records import Rendering


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Screening input of one head.

    `density` holds samples at the nodes of a regular grid over the cube of side `box_warp` (world units); a node is
    inside if its sample is above `level`. `previews` are images from `cameras`, all around. `back_similarity` is the
    cosine between embeddings of the face and of the same place on the back of the head, None without a network.
    """

    density: Float32[np.ndarray, "x y z"]
    level: float
    box_warp: float
    previews: Rendering
    cameras: Cameras
    back_similarity: float | None = None

    @cached_property
    def inside(self) -> Bool[np.ndarray, "x y z"]:
        """Which nodes of the grid are inside the head."""
        return self.density > self.level

    @cached_property
    def solid(self) -> Solid:
        """The head as voxels."""
        return Solid.of(self.inside)

    def view(self, azimuth_deg: float) -> int:
        """Index of the preview nearest to an azimuth."""
        return int(np.abs((self.cameras.azimuth_deg - azimuth_deg + 180.0) % 360.0 - 180.0).argmin())


ScoreFunction = Callable[[Evidence], float | None]


def refined_density_grid(
    density: DensityField, box_warp: float, cells: int, level: float
) -> Float32[np.ndarray, "x y z"]:
    """Samples at the (cells + 1)^3 nodes of the cube's grid, exact near the surface, at less than half the cost.

    Samples every second node first. Nodes in between are sampled only where a nearby sample is above half of `level`
    and another below 1.5 times `level`; all others copy a neighbour on the same side of the level. Structures thinner
    than two cells that stay below half of `level` at all coarse nodes are missed.

    Raises:
        ValueError: if `cells` is odd or below 2.
    """
    if cells < 2 or cells % 2:
        raise ValueError(f"cells: expected an even number from 2, got {cells}")
    axis = np.linspace(-box_warp / 2, box_warp / 2, cells + 1).astype(np.float32)
    coarse = _sampled(density, axis[::2], np.indices((cells // 2 + 1,) * 3).reshape(3, -1).T)
    coarse = coarse.reshape((cells // 2 + 1,) * 3)
    near = (ndimage.maximum_filter(coarse, 3) > 0.5 * level) & (ndimage.minimum_filter(coarse, 3) < 1.5 * level)
    fine, refined = (_doubled(values)[: cells + 1, : cells + 1, : cells + 1] for values in (coarse, near))
    nodes = np.argwhere(ndimage.binary_dilation(refined))
    fine[tuple(nodes.T)] = _sampled(density, axis, nodes)
    return fine


def _sampled(density: DensityField, axis: np.ndarray, nodes: np.ndarray, chunk: int = 1 << 18) -> np.ndarray:
    """Densities at grid nodes, in chunks."""
    parts = [density(axis[nodes[start : start + chunk]]) for start in range(0, len(nodes), chunk)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _doubled(values: np.ndarray) -> np.ndarray:
    """Each value repeated twice along every axis."""
    for dimension in range(3):
        values = np.repeat(values, 2, axis=dimension)
    return values
