"""Heads as volumes: density falls softly around the signed distance, and a pixel is the mean over its rays.

A ray that meets a flat surface head on keeps the share sigmoid(s / softness) of its light down to signed distance s,
so its expected depth is the surface's; silhouettes and thin parts become translucent (`passage`). As softness falls
to zero, pictures become those of `tracing`.

Each of a pixel's five rays takes its colour at one depth, drawn from the ray's own weights. The five are stratified,
with an offset that is random for each pixel of each view: noise of the kind that random samples along rays have. As in
a trained volume, radiance is constant across the soft layer: that of the surface below the sample.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16, Int64

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.procedural.options import random_of
from spinmeround.panohead_bridge.procedural.passage import DistanceGrid, Passage, march
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import SUBPIXELS, TracedSurface, first_hits, in_chunks, rays
from spinmeround.storage.records import Identity

QUANTILES = 5
"""Depths along a pixel's central ray whose mean is the expected depth."""

HALF = 0.5
"""Least alpha of a central ray that has a depth and a label, as for PanoHead's depth."""

FAINT = 1e-3
"""Alpha up to which a ray shows the background alone."""

FINE = 0.12
"""Softness, in widths of a picture that shows 0.63 world units, from which one ray a pixel draws smooth edges."""

RAYS = 4 * 65536
"""Rays per chunk; only one in five is marched."""

Vectors = Float32[np.ndarray, "point 3"]


@dataclass(frozen=True)
class VolumeSamples:
    """Result of the rays: linear light on white, alpha, and the expected depth at pixel centres (NaN below HALF)."""

    radiance: Float32[np.ndarray, "view height width subpixel 3"]
    alpha: Float32[np.ndarray, "view height width subpixel"]
    depth: Float32[np.ndarray, "view height width"]


@dataclass(frozen=True)
class Volume:
    """A head as a soft volume around its traced surface."""

    scene: Scene
    grid: DistanceGrid
    surface: TracedSurface
    softness: float

    def trace(
        self, cameras: Cameras, resolution: int, offsets: Float32[np.ndarray, "view height width"]
    ) -> VolumeSamples:
        """Five rays a pixel; `offsets`, 0 to 1, shift the shares of the weights at which rays take their colour."""
        shape, count = (len(cameras), resolution, resolution, len(SUBPIXELS)), len(SUBPIXELS)
        radiance = np.ones((int(np.prod(shape)), 3), np.float32)
        alpha, depth = np.zeros(len(radiance), np.float32), np.full(offsets.size, np.nan, np.float32)
        stride = count if self.softness * resolution >= FINE else 1
        for index, origins, directions in rays(cameras, resolution, chunk=RAYS):
            passage = march(self.grid, origins[::stride], directions[::stride], self.softness)
            marched = np.arange(len(index)) // stride
            alpha[index] = passage.alpha[marched]
            met = np.flatnonzero(alpha[index] > FAINT)
            pixel, subpixel = np.divmod(index[met], count)
            share = (offsets.reshape(-1)[pixel] + subpixel.astype(np.float32) / count) % np.float32(1.0)
            along = passage.depth_at(marched[met], share)
            light = self._radiance(origins[met] + along[:, None] * directions[met])
            radiance[index[met]] += alpha[index[met], None] * (light - 1.0)
            central = (subpixel == 0) & (alpha[index[met]] >= HALF)
            depth[pixel[central]] = _expected_depth(passage, marched[met[central]])
        return VolumeSamples(radiance.reshape(*shape, 3), alpha.reshape(shape), depth.reshape(shape[:3]))

    def labels(self, cameras: Cameras, resolution: int) -> Int16[np.ndarray, "view height width"]:
        """The label below the median depth of each pixel's central ray, where `trace` gives a depth; else -1."""
        shown = np.full((len(cameras), resolution, resolution), -1, np.int16)
        for index, origins, directions in rays(cameras, resolution, SUBPIXELS[:1]):
            passage = march(self.grid, origins, directions, self.softness)
            met = np.flatnonzero(passage.alpha >= HALF)
            along = passage.depth_at(met, np.full(len(met), 0.5, np.float32))
            places, _ = self._surface_below(origins[met] + along[:, None] * directions[met])
            shown.reshape(-1)[index[met]] = in_chunks(self.scene.labels, places)
        return shown

    def _radiance(self, points: np.ndarray) -> Vectors:
        places, light = self._surface_below(points)
        _, *colour = in_chunks(self.scene.shade, places)
        radiance: Vectors = np.square(np.stack(colour, axis=-1)) * light
        return radiance

    def _surface_below(self, points: np.ndarray) -> tuple[Vectors, Vectors]:
        """The surface point to which the gradient leads from each sample, and the light there."""
        points = points.astype(np.float32)
        distance, normals = self.grid.with_normals(points)
        lift = np.maximum(-distance, 0.0) + self.grid.cell
        starts = points + lift[:, None] * normals
        hits = first_hits(self.surface, starts, -normals)
        fall, light = lift + distance, np.tile(self.surface.light.mean(axis=0), (len(points), 1))
        light[hits.ray] = hits.light
        near = np.abs(hits.distance - fall[hits.ray]) < self.grid.cell  # else the ray has met another part
        fall[hits.ray[near]] = hits.distance[near]
        return starts - fall[:, None] * normals, light


def _expected_depth(passage: Passage, ray: Int64[np.ndarray, " ray"]) -> Float32[np.ndarray, " ray"]:
    """Mean depth of rays by their weights."""
    total = np.zeros(len(ray))
    for quantile in range(QUANTILES):
        total += passage.depth_at(ray, np.full(len(ray), (quantile + 0.5) / QUANTILES, np.float32))
    return (total / QUANTILES).astype(np.float32)


@dataclass(frozen=True)
class Noise:
    """Random numbers of each pixel: a function of head, camera and resolution, independent of the other cameras."""

    offsets: Float32[np.ndarray, "view height width"]
    grain: Float32[np.ndarray, "view height width 3"]

    @staticmethod
    def of(identity: Identity, cameras: Cameras, resolution: int) -> "Noise":
        drawn = [_random_of_view(identity, cameras[[view]]) for view in range(len(cameras))]
        offsets = [rng.random((resolution, resolution), np.float32) for rng in drawn]
        grain = [rng.standard_normal((resolution, resolution, 3), np.float32) for rng in drawn]
        return Noise(np.stack(offsets), np.stack(grain))


def _random_of_view(identity: Identity, camera: Cameras) -> np.random.Generator:
    content = b"".join(v.tobytes() for v in (identity.latent, camera.cam2world, camera.intrinsics))
    return random_of(identity.seed, f"view {hashlib.sha256(content).hexdigest()}")
