"""Input of screening: a coarse density grid and a ring of small images of one head, and what many scores share.

Lengths are in sides of the head's cube, so that scores do not depend on `box_warp`. A map explains a score: one image
per preview, 0 where nothing is odd.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64
from scipy import ndimage

from spinmeround.models.geometry.cameras import Cameras, pixel_rays, project
from spinmeround.models.geometry.meshes import DensityField
from spinmeround.models.screening.faces import SeenFaces
from spinmeround.models.screening.frame import HeadFrame, Region, head_frame
from spinmeround.models.screening.inspection.findings import Inspection
from spinmeround.models.screening.mirror import fit_mirror_plane
from spinmeround.models.screening.population import Population
from spinmeround.models.screening.solid import Solid
from spinmeround.storage.records import Rendering

Map = Float32[np.ndarray, "view height width"]
"""An image over each preview that shows where a score comes from."""

Kept = tuple[slice, slice, slice]
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Screening input of one head.

    `density` holds samples at the nodes of a regular grid over the cube of side `box_warp` (world units); a node is
    inside if its sample is above `level`. `kept` is the part of the grid that the mesh keeps, None for all of it;
    samples outside of it are empty. `previews` are images from `cameras`, all around. `landmarks` are the head's five
    in the world frame. `back_similarity` is the cosine between embeddings of the face and of the same place on the
    back of the head, None without a network. `faces` are what a detector found, None without one. `population` are the
    heads that this one is compared with. `inspection` is what an inspector network found, None without one.
    """

    density: Float32[np.ndarray, "x y z"]
    level: float
    box_warp: float
    previews: Rendering
    cameras: Cameras
    kept: Kept | None = None
    landmarks: Float32[np.ndarray, "5 3"] | None = None
    back_similarity: float | None = None
    faces: SeenFaces | None = None
    population: Population | None = None
    inspection: Inspection | None = None

    @cached_property
    def inside(self) -> Bool[np.ndarray, "x y z"]:
        """Which nodes of the grid are inside the head."""
        return self.density > self.level

    @cached_property
    def frame(self) -> HeadFrame:
        """The head's frame: its mirror plane, the height of its eyes, and its regions."""
        crown, neck = self._crown_and_neck()
        plane = fit_mirror_plane(self.density, self.level, lowest=neck)
        landmarks = None if self.landmarks is None else self.landmarks / np.float32(self.box_warp)
        return head_frame(plane, landmarks, crown, neck)

    def _crown_and_neck(self) -> tuple[float, float]:
        """Heights of the top of the head and of the narrowest cross-section below the widest one."""
        area = ndimage.gaussian_filter1d(self.inside.sum(axis=(0, 2)).astype(np.float64), 2.0)
        height = np.linspace(-0.5, 0.5, len(area))
        filled = np.flatnonzero(area >= 0.5)
        if not len(filled):
            return 0.2, -0.2
        top, bottom = int(filled[-1]), int(filled[0])
        widest = top - int(area[bottom : top + 1][::-1][: max(1, (top - bottom + 1) * 3 // 5)].argmax())
        below = area[bottom + (widest - bottom) // 8 : widest + 1]
        narrow = np.flatnonzero(below <= 1.05 * below.min()) if len(below) else np.zeros(1, int)
        neck = bottom + (widest - bottom) // 8 + int(narrow[-1])
        return float(height[top]), float(height[neck])

    @cached_property
    def solid(self) -> Solid:
        """The head as voxels in its own frame."""
        voxel = 1.0 / (len(self.density) - 1)
        kept = self.kept or (slice(None),) * 3
        corner = np.array([part.start or 0 for part in kept]) * voxel - 0.5
        return Solid.of(self.density[kept], self.level, corner, voxel, self.frame)

    @cached_property
    def surface(self) -> Float32[np.ndarray, "view height width 3"]:
        """Where each pixel's ray meets the head, in the head's frame; NaN beside it."""
        origins, directions = pixel_rays(self.cameras, self.previews.depth.shape[-1])
        along = np.einsum("vhwi,vi->vhw", directions, self.cameras.cam2world[:, :3, 2])
        points = origins + (self.previews.depth / along)[..., None] * directions
        return np.asarray(self.frame.local(points / self.box_warp), np.float32)

    @cached_property
    def visible(self) -> Bool[np.ndarray, "view height width"]:
        """Pixels of the head that are not on an outline."""
        clear = ndimage.minimum_filter(self.previews.mask, (1, 3, 3)) > 250
        return np.asarray(clear & np.isfinite(self.previews.depth))

    def region(self, name: Region) -> Bool[np.ndarray, "view height width"]:
        """Which visible pixels show a region."""
        return np.asarray(self.visible & self.frame.region(name, self.surface))

    def seen_from(
        self, view: int, local: Float[np.ndarray, "point 3"]
    ) -> tuple[Float64[np.ndarray, "point 2"], Float64[np.ndarray, " point"]]:
        """Pixel (row, column) of points of the head's frame in a preview, and their depths in sides of the cube."""
        places, depths = project(self.cameras[view : view + 1], self.frame.world(local) * self.box_warp)
        return places[0, :, ::-1] * self.previews.depth.shape[-1] - 0.5, depths[0] / self.box_warp

    def once(self, make: "Callable[[Evidence], Made]") -> "Made":
        """The result of a function of this evidence, computed once: several scores share it."""
        if make not in self._made:
            self._made[make] = make(self)
        found: Made = self._made[make]
        return found

    @cached_property
    def _made(self) -> dict[Any, Any]:
        return {}

    def view(self, azimuth_deg: float) -> int:
        """Index of the preview nearest to an azimuth."""
        return int(np.abs((self.cameras.azimuth_deg - azimuth_deg + 180.0) % 360.0 - 180.0).argmin())

    def volume_map(self, values: Float[np.ndarray, "x y z"]) -> Map:
        """Values of the solid's voxels at the visible surface; zero elsewhere."""
        shown = np.zeros(self.visible.shape, np.float32)
        shown[self.visible] = self.solid.at(values, self.surface[self.visible])
        return shown


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
