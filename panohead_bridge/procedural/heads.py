"""The geometry and pictures of procedural heads, computed with torch and Embree.

Scenes and traced surfaces of the last two heads are cached, because stages request the same head many times.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int16, Int64, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.procedural.lighting import soft_light
from spinmeround.panohead_bridge.procedural.options import Defect
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import (
    Samples,
    TracedSurface,
    cells_for,
    gradient,
    in_chunks,
    trace,
    trace_labels,
    unit,
)
from spinmeround.panohead_bridge.procedural.traits import decode
from spinmeround.storage.records import Identity, Rendering


class ProceduralHeads:
    """Scenes of heads; `defects_of` gives a head's defects."""

    def __init__(self, defects_of: Callable[[Identity], Sequence[Defect]]) -> None:
        self._defects_of = defects_of
        self._scene = lru_cache(maxsize=2)(self._make_scene)
        self._surface = lru_cache(maxsize=2)(self._make_surface)

    def scene(self, identity: Identity) -> Scene:
        """The head as signed distance and colour."""
        return self._scene(*_key(identity))

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras; five samples a pixel, depth at the pixel's centre."""
        surface = self._surface(*_key(identity), cells_for(resolution))
        return _develop(trace(surface, self.scene(identity).shade, cameras, resolution))

    def render_labels(
        self, identity: Identity, cameras: Cameras, resolution: int
    ) -> Int16[np.ndarray, "view height width"]:
        """Index in `regions.LABELS` of what each pixel's centre shows; BACKGROUND (-1) where it shows nothing."""
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
        return TracedSurface.of(self._scene(seed, latent).distance, soft_light, cells)


def _key(identity: Identity) -> tuple[int, bytes]:
    return identity.seed, identity.latent.astype(np.float32).tobytes()


def _develop(samples: Samples) -> Rendering:
    """Samples to pictures: mean of linear light over each pixel, on white, with the square root as gamma."""
    linear = samples.radiance.mean(axis=3)
    alpha = samples.hit.mean(axis=3, dtype=np.float32)
    return Rendering(
        rgb=_to_bytes(np.sqrt(linear)), mask=_to_bytes(alpha), depth=np.ascontiguousarray(samples.depth[..., 0])
    )


def _to_bytes(values: Float32[np.ndarray, "*axis"]) -> UInt8[np.ndarray, "*axis"]:
    levels: np.ndarray = np.rint(np.clip(values, 0.0, 1.0) * 255.0)
    return levels.astype(np.uint8)
