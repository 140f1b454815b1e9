"""The embedded generator: analytic heads that need no weights and whose ground truth is known.

A head is a signed distance and a colour, both functions of 64 standard normal numbers (`traits`). Its
density is a function of the signed distance that is SURFACE_LEVEL on the surface, so marching cubes finds
the surface on the same path as a neural generator's. The option `rendering` chooses pictures of that
surface (`tracing`) or of the soft volume that the density describes (`volume`). Pictures are identical bit
for bit on one machine, independent of earlier renderings and of the number of threads.

Importing this module loads no torch; the first head that is computed does (`heads`).
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int16, Int64, UInt8

from spinmeround.models.geometry.cameras import Cameras, pixel_rays
from spinmeround.panohead_bridge.procedural.description import TraitValue, describe
from spinmeround.panohead_bridge.procedural.options import Defect, ProceduralOptions, draw_defects, random_of
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode
from spinmeround.panohead_bridge.protocol import FIVE_LANDMARKS, Inversion
from spinmeround.storage.records import Identity, NormalMaps, Rendering

if TYPE_CHECKING:
    import spinmeround.panohead_bridge.procedural.heads

SURFACE_LEVEL = 10.0
THICKNESS = 0.05
"""Depth below the surface, in world units, at which the density has doubled; it is zero as far outside."""


class ProceduralGenerator:
    """Analytic heads; implements `panohead_bridge.protocol.HeadGenerator`."""

    name = "procedural"
    box_warp = 1.0

    def __init__(self, options: ProceduralOptions | None = None) -> None:
        self.options = options or ProceduralOptions()
        self.fingerprint = self.options.fingerprint()

    @cached_property
    def _heads(self) -> "spinmeround.panohead_bridge.procedural.heads.ProceduralHeads":
        from spinmeround.panohead_bridge.procedural.heads import ProceduralHeads

        return ProceduralHeads(self.defects, self.options)

    def sample(self, seed: int) -> Identity:
        """The identity of a seed: truncation times LATENT_SIZE standard normal numbers.

        Raises:
            ValueError: the seed is negative.
        """
        latent = random_of(seed, "identity").standard_normal(LATENT_SIZE) * self.options.truncation
        return Identity(seed=seed, latent=latent.astype(np.float32))

    def defect(self, identity: Identity) -> Defect | None:
        """The main defect of a head, from its seed; for measurement only, no stage of the dataset uses it."""
        return next(iter(self.defects(identity)), None)

    def defects(self, identity: Identity) -> tuple[Defect, ...]:
        """All defects of a head, the main one first."""
        return draw_defects(identity.seed, self.options)

    def traits(self, identity: Identity) -> dict[str, TraitValue]:
        """What a person would say about a head: see `procedural.description.describe`."""
        return describe(decode(identity.latent))

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras; five rays a pixel, depth at the pixel's centre.

        A volume's depth is the mean along the central ray, NaN where that ray's alpha is below 0.5.
        """
        return self._heads.render(identity, cameras, resolution)

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        """SURFACE_LEVEL on the surface, twice that inside, 0 outside.

        Linear within THICKNESS of the surface; a volume's is 20 * sigmoid(-signed distance / softness), the same
        density that its pictures show.
        """
        distance = self.signed_distance(identity, points)
        if self.options.rendering == "volume":
            return soft_density(distance, self.options.volume_softness)
        return density_of_distance(distance)

    def signed_distance(
        self, identity: Identity, points: Float32[np.ndarray, "point 3"]
    ) -> Float32[np.ndarray, " point"]:
        """Distance to the surface in world units, negative inside; a first-order bound away from it."""
        return self._heads.signed_distance(identity, points)

    def surface_normal(
        self, identity: Identity, points: Float32[np.ndarray, "point 3"]
    ) -> Float32[np.ndarray, "point 3"]:
        """Unit gradients of the signed distance, outwards."""
        return self._heads.surface_normal(identity, points)

    def rendered_normals(self, identity: Identity, cameras: Cameras, rendering: Rendering) -> NormalMaps:
        """World normals of the true surface at the pixel centres of pictures of this head."""
        origins, directions = pixel_rays(cameras, rendering.depth.shape[-1])
        along = rendering.depth / np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
        points = (origins + along[..., None] * directions).astype(np.float32)
        hit = np.isfinite(rendering.depth)
        normals = np.zeros_like(points)
        normals[hit] = self.surface_normal(identity, points[hit])
        return NormalMaps(normals=normals, hit=hit)

    def invert(
        self,
        rgb: UInt8[np.ndarray, "view height width 3"],
        mask: UInt8[np.ndarray, "view height width"],
        cameras: Cameras,
        targets: Cameras,
        options: Mapping[str, Any],
    ) -> Inversion:
        """See `fitting`; the head found has no defect."""
        from spinmeround.panohead_bridge.procedural.fitting import Fit, FitOptions

        clean = ProceduralGenerator(self.options.model_copy(update={"defect_share": 0.0}))
        fit = Fit(clean._heads.render_surface, rgb, mask, cameras, FitOptions(**options))
        identity = fit()
        rendering = clean.render(identity, targets, rgb.shape[1])
        normals = clean.rendered_normals(identity, targets, rendering)
        return Inversion(rendering=rendering, normals=normals, error=fit.error(identity))

    def labels(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Int64[np.ndarray, " point"]:
        """Region of each point near the surface, as its index in `procedural.anatomy.regions.LABELS`."""
        return self._heads.labels(identity, points)

    def render_labels(
        self, identity: Identity, cameras: Cameras, resolution: int
    ) -> Int16[np.ndarray, "view height width"]:
        """Index in `procedural.anatomy.regions.LABELS` of each pixel's centre; BACKGROUND (-1) elsewhere.

        A pixel has a label exactly where `render` gives it a depth.
        """
        return self._heads.render_labels(identity, cameras, resolution)

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"]:
        """Eyes, nose tip and mouth corners, on the surface as seen from the front; NaN rows where cut off."""
        return np.array(list(self._heads.scene(identity).places(FIVE_LANDMARKS).values()), np.float32)

    def named_landmarks(self, identity: Identity) -> dict[str, Float32[np.ndarray, "3"]]:
        """The five landmarks and more by name, in the world: where a ray along an axis first meets the head.

        They lie on the outermost surface: on hair or glasses where those cover the place. NaN where the place is
        cut off, as by a clipped volume. Left and right are those of the frontal picture.
        """
        places: dict[str, Any] = self._heads.scene(identity).places()
        return {name: np.array(place, np.float32) for name, place in places.items()}

    def interpolate(self, start: Identity, end: Identity, share: float) -> Identity:
        """See `interpolate`."""
        return interpolate(start, end, share)


def density_of_distance(distance: Float32[np.ndarray, " point"]) -> Float32[np.ndarray, " point"]:
    """SURFACE_LEVEL on the surface, linear within THICKNESS of it."""
    scaled = SURFACE_LEVEL * (1.0 - distance / np.float32(THICKNESS))
    return np.clip(scaled, 0.0, 2.0 * SURFACE_LEVEL).astype(np.float32)


def soft_density(distance: Float32[np.ndarray, " point"], softness: float) -> Float32[np.ndarray, " point"]:
    """SURFACE_LEVEL on the surface; falls off as a logistic function of this width."""
    density: np.ndarray = 2.0 * SURFACE_LEVEL * np.exp(-np.logaddexp(0.0, distance.astype(np.float64) / softness))
    return density.astype(np.float32)


def interpolate(start: Identity, end: Identity, share: float) -> Identity:
    """An identity between two, its latent again standard normal; it keeps the seed (so the defect) of `start`."""
    angle = 0.5 * np.pi * share
    latent = np.cos(angle) * start.latent + np.sin(angle) * end.latent
    return Identity(seed=start.seed, latent=latent.astype(np.float32))
