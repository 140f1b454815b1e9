"""What screening looks at: a coarse density grid and a ring of small pictures of one head.

Lengths are in sides of the head's cube, so that a score means the same whatever `box_warp` is.
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
    """Cheap evidence on one head.

    `density` holds samples at the nodes of a regular grid over the whole cube of side `box_warp` (world units),
    inside where they are above `level`. `previews` come from `cameras`, all round. `back_similarity` is the cosine
    between the embeddings of the face and of what is in its place on the back of the head, None where no network
    was asked.
    """

    density: Float32[np.ndarray, "x y z"]
    level: float
    box_warp: float
    previews: Rendering
    cameras: Cameras
    back_similarity: float | None = None

    @cached_property
    def inside(self) -> Bool[np.ndarray, "x y z"]:
        return self.density > self.level

    @cached_property
    def solid(self) -> Solid:
        return Solid.of(self.inside)

    def view(self, azimuth_deg: float) -> int:
        """The preview nearest to an azimuth."""
        return int(np.abs((self.cameras.azimuth_deg - azimuth_deg + 180.0) % 360.0 - 180.0).argmin())


def refined_density_grid(
    density: DensityField, box_warp: float, cells: int, level: float
) -> Float32[np.ndarray, "x y z"]:
    """Samples at the (cells + 1)^3 nodes of the cube's grid, exact near the surface at less than half the cost.

    Every other node is sampled first. The nodes between are sampled only where the density nearby is from half
    to one and a half of `level`; elsewhere they repeat a neighbour, which is on the same side of the level. A
    thing thinner than two cells that raises the density at no coarse node to half the level is missed.

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
    parts = [density(axis[nodes[start : start + chunk]]) for start in range(0, len(nodes), chunk)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _doubled(values: np.ndarray) -> np.ndarray:
    for dimension in range(3):
        values = np.repeat(values, 2, axis=dimension)
    return values


ScoreFunction = Callable[[Evidence], float | None]
