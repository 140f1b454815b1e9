"""The geometry and pictures of procedural heads, computed with torch and Embree.

Scenes and traced surfaces of the last two heads are cached, because stages request the same head many times.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int16, Int64, Shaped, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.procedural.lighting import soft_light
from spinmeround.panohead_bridge.procedural.options import Defect, ProceduralOptions
from spinmeround.panohead_bridge.procedural.passage import DistanceGrid, reach_of
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import (
    TracedSurface,
    cells_for,
    gradient,
    in_chunks,
    narrow_band,
    trace,
    trace_labels,
    unit,
)
from spinmeround.panohead_bridge.procedural.traits import decode
from spinmeround.panohead_bridge.procedural.volume import Noise, Volume
from spinmeround.storage.records import Identity, Rendering


class ProceduralHeads:
    """Scenes of heads; `defects_of` gives a head's defects, and `options` say how heads are rendered."""

    def __init__(self, defects_of: Callable[[Identity], Sequence[Defect]], options: ProceduralOptions) -> None:
        self._defects_of, self._options = defects_of, options
        self._scene = lru_cache(maxsize=2)(self._make_scene)
        self._surface = lru_cache(maxsize=2)(self._make_surface)
        self._volume = lru_cache(maxsize=2)(self._make_volume)

    def scene(self, identity: Identity) -> Scene:
        """The head as signed distance and colour."""
        return self._scene(*_key(identity))

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras; five samples a pixel, depth at the pixel's centre."""
        if self._options.rendering == "volume":
            return self._render_volume(identity, cameras, resolution)
        return self.render_surface(identity, cameras, resolution, cells_for(resolution))

    def render_surface(self, identity: Identity, cameras: Cameras, resolution: int, cells: int) -> Rendering:
        """Pictures of the surface on a grid of `cells` along the cube's side; a coarse one is quick and rough."""
        surface = self._surface(*_key(identity), cells)
        samples = trace(surface, self.scene(identity).shade, cameras, resolution)
        return _develop(samples.radiance, samples.hit, samples.depth[..., 0])

    def _render_volume(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        volume, noise = self._volume(*_key(identity), cells_for(resolution)), Noise.of(identity, cameras, resolution)
        samples = volume.trace(cameras, resolution, noise.offsets)
        return _develop(samples.radiance, samples.alpha, samples.depth, self._options.volume_grain * noise.grain)

    def render_labels(
        self, identity: Identity, cameras: Cameras, resolution: int
    ) -> Int16[np.ndarray, "view height width"]:
        """Index in `regions.LABELS` of what each pixel's centre shows; BACKGROUND (-1) where it shows nothing."""
        if self._options.rendering == "volume":
            return self._volume(*_key(identity), cells_for(resolution)).labels(cameras, resolution)
        surface = self._surface(*_key(identity), cells_for(resolution))
        return trace_labels(surface, self.scene(identity).labels, cameras, resolution)

    def signed_distance(
        self, identity: Identity, points: Float32[np.ndarray, "point 3"]
    ) -> Float32[np.ndarray, " point"]:
        """Distance to the surface in world units, negative inside."""
        return in_chunks(self.scene(identity).distance, points)

    def surface_normal(
        self, identity: Identity, points: Float32[np.ndarray, "point 3"]
    ) -> Float32[np.ndarray, "point 3"]:
        """Unit gradients of the signed distance, outwards."""
        return unit(gradient(self.scene(identity).distance, points))

    def labels(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Int64[np.ndarray, " point"]:
        """Index in `regions.LABELS` of each point near the surface."""
        return in_chunks(self.scene(identity).labels, points)

    def _make_scene(self, seed: int, latent: bytes) -> Scene:
        identity = Identity(seed=seed, latent=np.frombuffer(latent, np.float32))
        return Scene.of(decode(identity.latent), self._defects_of(identity), seed)

    def _make_surface(self, seed: int, latent: bytes, cells: int) -> TracedSurface:
        distance = self._scene(seed, latent).distance
        return TracedSurface.of(distance, soft_light, narrow_band(distance, cells))

    def _make_volume(self, seed: int, latent: bytes, cells: int) -> Volume:
        scene, reach = self._scene(seed, latent), reach_of(self._options.volume_softness)
        grid = narrow_band(scene.distance, cells, reach)
        surface = TracedSurface.of(scene.distance, soft_light, grid)
        return Volume(scene, DistanceGrid.of(grid, reach), surface, self._options.volume_softness)


def _key(identity: Identity) -> tuple[int, bytes]:
    return identity.seed, identity.latent.astype(np.float32).tobytes()


def _develop(
    radiance: Float32[np.ndarray, "view height width subpixel 3"],
    alpha: Shaped[np.ndarray, "view height width subpixel"],
    depth: Float32[np.ndarray, "view height width"],
    grain: Float32[np.ndarray, "view height width 3"] | float = 0.0,
) -> Rendering:
    """Samples to pictures: mean of linear light over each pixel, on white, with the square root as gamma."""
    covered = alpha.mean(axis=3, dtype=np.float32)
    rgb = np.sqrt(radiance.mean(axis=3)) + covered[..., None] * grain
    return Rendering(rgb=_to_bytes(rgb), mask=_to_bytes(covered), depth=np.ascontiguousarray(depth))


def _to_bytes(values: Float32[np.ndarray, "*axis"]) -> UInt8[np.ndarray, "*axis"]:
    levels: np.ndarray = np.rint(np.clip(values, 0.0, 1.0) * 255.0)
    return levels.astype(np.uint8)
