"""The embedded generator: analytic heads that need no weights and whose truth is known.

A head is a signed distance and a colour, both steered by 64 standard normal numbers (`traits`). Its
density is a linear function of the signed distance near the surface, so marching cubes at SURFACE_LEVEL
finds the surface exactly, by the same path as a neural generator's. Pictures are bit for bit the same
on one machine, whatever was rendered before and however many threads there are.
"""

import hashlib
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int16, Int64, UInt8
from pydantic import Field, field_validator

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.procedural.defects import KINDS, Defect, draw_defect
from spinmeround.panohead_bridge.procedural.lighting import soft_light
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
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode
from spinmeround.panohead_bridge.protocol import FIVE_LANDMARKS
from spinmeround.storage.records import FrozenModel, Identity, Rendering

VERSION = 5
"""Raised whenever any head changes; part of the fingerprint, hence of every artifact's key."""

SURFACE_LEVEL = 10.0
THICKNESS = 0.05
"""Depth below the surface, in world units, at which the density has doubled; it is zero as far outside."""


class ProceduralOptions(FrozenModel):
    """Options of the procedural generator."""

    defect_share: float = Field(default=0.3, ge=0.0, le=1.0, description="Share of heads that get a labelled defect")
    defect_kinds: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="The kinds of defects that are drawn; by default all"
    )
    defect_strengths: tuple[float, float] = Field(
        default=(0.25, 1.0), description="Least and largest strength of a defect, within 0 (faint) to 1 (gross)"
    )
    truncation: float = Field(default=1.0, ge=0.0, le=2.0, description="Factor on the latent (psi): 0 is the mean head")

    @field_validator("defect_kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = set(kinds or ()) - set(KINDS)
        if unknown:
            raise ValueError(f"expected kinds among {', '.join(KINDS)}; got {', '.join(sorted(unknown))}")
        return kinds

    @field_validator("defect_strengths")
    @classmethod
    def _ordered_strengths(cls, strengths: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 <= strengths[0] <= strengths[1] <= 1.0:
            raise ValueError(f"expected 0 <= least <= largest <= 1, got {strengths}")
        return strengths


class ProceduralGenerator:
    """Analytic heads; see `panohead_bridge.protocol.HeadGenerator`."""

    name = "procedural"
    box_warp = 1.0

    def __init__(self, options: ProceduralOptions | None = None) -> None:
        self.options = options or ProceduralOptions()
        content = f"{self.name} {VERSION} {self.options.model_dump_json()}"
        self.fingerprint = f"procedural-{VERSION}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        self._scene = lru_cache(maxsize=2)(self._make_scene)
        self._surface = lru_cache(maxsize=2)(self._make_surface)

    def sample(self, seed: int) -> Identity:
        """The identity of a seed: truncation times LATENT_SIZE standard normal numbers.

        Raises:
            ValueError: the seed is negative.
        """
        latent = _random(seed, "identity").standard_normal(LATENT_SIZE) * self.options.truncation
        return Identity(seed=seed, latent=latent.astype(np.float32))

    def defect(self, identity: Identity) -> Defect | None:
        """The defect of a head, by its seed; for measurement only, no stage of the dataset asks for it."""
        options = self.options
        return draw_defect(
            _random(identity.seed, "defect"), options.defect_share, options.defect_kinds, options.defect_strengths
        )

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras; five samples a pixel, depth at the pixel's centre."""
        surface = self._surface(*_key(identity), cells_for(resolution))
        return _develop(trace(surface, self._scene_of(identity).shade, cameras, resolution))

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        """10 * (1 - signed distance / THICKNESS), clipped to 0 and 20."""
        return density_of_distance(self.signed_distance(identity, points))

    def signed_distance(
        self, identity: Identity, points: Float32[np.ndarray, "point 3"]
    ) -> Float32[np.ndarray, " point"]:
        """Distance to the surface in world units, negative inside; a first-order bound away from it."""
        return in_chunks(self._scene_of(identity).distance, points)

    def surface_normal(
        self, identity: Identity, points: Float32[np.ndarray, "point 3"]
    ) -> Float32[np.ndarray, "point 3"]:
        """Unit gradients of the signed distance, outwards."""
        return unit(gradient(self._scene_of(identity).distance, points))

    def labels(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Int64[np.ndarray, " point"]:
        """What each point near the surface is, as its place in `procedural.regions.LABELS`."""
        return in_chunks(self._scene_of(identity).labels, points)

    def render_labels(
        self, identity: Identity, cameras: Cameras, resolution: int
    ) -> Int16[np.ndarray, "view height width"]:
        """What each pixel's centre shows, as its place in `procedural.regions.LABELS`; BACKGROUND (-1) is nothing.

        A pixel has a label exactly where `render` gives it a depth.
        """
        surface = self._surface(*_key(identity), cells_for(resolution))
        return trace_labels(surface, self._scene_of(identity).labels, cameras, resolution)

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"]:
        """Eyes, nose tip and mouth corners, on the surface as seen from the front; NaN rows where cut off."""
        return np.array(list(self._scene_of(identity).places(FIVE_LANDMARKS).values()), np.float32)

    def named_landmarks(self, identity: Identity) -> dict[str, Float32[np.ndarray, "3"]]:
        """The five and more by name, in the world: where a look along an axis first meets the head.

        They lie on the outermost surface: on hair or glasses where those cover the place. NaN where the place is
        cut off, as by a clipped volume. Left and right are those of the frontal picture.
        """
        return {name: np.array(place, np.float32) for name, place in self._scene_of(identity).places().items()}

    def interpolate(self, start: Identity, end: Identity, share: float) -> Identity:
        """See `interpolate`."""
        return interpolate(start, end, share)

    def _scene_of(self, identity: Identity) -> Scene:
        return self._scene(*_key(identity))

    def _make_scene(self, seed: int, latent: bytes) -> Scene:
        identity = Identity(seed=seed, latent=np.frombuffer(latent, np.float32))
        return Scene.of(decode(identity.latent), self.defect(identity), _random(seed, "damage"))

    def _make_surface(self, seed: int, latent: bytes, cells: int) -> TracedSurface:
        return TracedSurface.of(self._scene(seed, latent).distance, soft_light, cells)


def _key(identity: Identity) -> tuple[int, bytes]:
    return identity.seed, identity.latent.astype(np.float32).tobytes()


def density_of_distance(distance: Float32[np.ndarray, " point"]) -> Float32[np.ndarray, " point"]:
    """SURFACE_LEVEL on the surface, linear within THICKNESS of it."""
    scaled = SURFACE_LEVEL * (1.0 - distance / np.float32(THICKNESS))
    return np.clip(scaled, 0.0, 2.0 * SURFACE_LEVEL).astype(np.float32)


def interpolate(start: Identity, end: Identity, share: float) -> Identity:
    """An identity between two, its latent again standard normal; it keeps the seed (so the defect) of `start`."""
    angle = 0.5 * np.pi * share
    latent = np.cos(angle) * start.latent + np.sin(angle) * end.latent
    return Identity(seed=start.seed, latent=latent.astype(np.float32))


def _random(seed: int, purpose: str) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    salt = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, salt])


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
