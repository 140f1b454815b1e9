"""Pictures of procedural heads for training the embedded weights: face crops, RGB and normal maps.

None of the heads has a defect. Every head is drawn from its own seed alone, and its views and jitter from
(seed, purpose), so the pictures do not depend on how many heads are made, in which order or by how many
processes. The seeds lie far above those that datasets use, so no dataset shows a head that the weights were
trained on.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, Field

from spinmeround.models.geometry.cameras import orbit, pixel_rays
from spinmeround.models.geometry.normals import encode_normals
from spinmeround.models.identity.alignment import align_faces, project_landmarks
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.storage.records import FrozenModel

FIRST_SEED = 10_000_000
"""Datasets stay below; the embedded weights are trained and tested on heads from here on."""

Made = TypeVar("Made")


class FaceViews(FrozenModel):
    """Frontal views of a head, from which aligned crops are cut."""

    views: int = Field(12, ge=2, description="Crops of each head")
    max_azimuth_deg: float = Field(35.0, gt=0.0, le=90.0)
    max_elevation_deg: float = Field(20.0, gt=0.0, le=90.0)
    resolutions: tuple[int, ...] = Field((64,), min_length=1, description="Sides of the pictures, taken in turn")
    landmark_jitter: float = Field(
        0.004, ge=0.0, description="Standard deviation of the landmarks' error, in sides of the picture"
    )


class OrbitViews(FrozenModel):
    """Views from all round a head."""

    views: int = Field(8, ge=1, description="Views of each head")
    max_elevation_deg: float = Field(35.0, gt=0.0, le=90.0)
    resolution: int = Field(64, ge=8, description="Side of the pictures")


@cache
def _generator() -> ProceduralGenerator:
    generator = make_generator(GeneratorConfig(name="procedural", options={"defect_share": 0.0}))
    if not isinstance(generator, ProceduralGenerator):
        raise TypeError(f"procedural generator: expected ProceduralGenerator, got {type(generator).__name__}")
    return generator


def generator_fingerprint() -> str:
    """Which version of the procedural generator the pictures come from."""
    return _generator().fingerprint


def face_crops(seed: int, views: FaceViews) -> UInt8[np.ndarray, "crop 112 112 3"]:
    """Aligned crops of one head at random frontal cameras; the landmarks are off by a random jitter."""
    generator, rng = _generator(), np.random.default_rng([seed, 1])
    identity = generator.sample(seed)
    azimuth = rng.uniform(-views.max_azimuth_deg, views.max_azimuth_deg, views.views)
    elevation = rng.uniform(-views.max_elevation_deg, views.max_elevation_deg, views.views)
    crops = []
    for turn, resolution in enumerate(views.resolutions):
        part = slice(turn, None, len(views.resolutions))
        cameras = orbit(azimuth[part], elevation[part])
        landmarks = project_landmarks(cameras, generator.landmarks(identity), resolution)
        jitter = rng.normal(0.0, views.landmark_jitter * resolution, landmarks.shape)
        rgb = generator.render(identity, cameras, resolution).rgb
        crops.append(align_faces(rgb, (landmarks + jitter).astype(np.float32)))
    return np.concatenate(crops)


def head_pictures(seed: int, views: OrbitViews) -> UInt8[np.ndarray, "view height width 7"]:
    """RGB on white, mask and encoded world normals, in this order of channels, from random cameras."""
    generator, rng = _generator(), np.random.default_rng([seed, 2])
    identity = generator.sample(seed)
    azimuth = rng.uniform(-180.0, 180.0, views.views)
    elevation = rng.uniform(-views.max_elevation_deg, views.max_elevation_deg, views.views)
    cameras = orbit(azimuth, elevation)
    rendering = generator.render(identity, cameras, views.resolution)
    origins, directions = pixel_rays(cameras, views.resolution)
    forward = cameras.cam2world[:, None, None, :3, 2]
    along = rendering.depth / np.einsum("vhwi,vhwi->vhw", directions, np.broadcast_to(forward, directions.shape))
    points = (origins + along[..., None] * directions).astype(np.float32)
    hit = np.isfinite(rendering.depth)
    normals = np.zeros_like(points)
    normals[hit] = generator.surface_normal(identity, points[hit])
    encoded = encode_normals(normals, np.where(hit, rendering.mask, 0).astype(np.uint8))
    return np.concatenate([rendering.rgb, rendering.mask[..., None], encoded], axis=-1)


def render_heads(make: Callable[..., Made], seeds: range, views: BaseModel, workers: int) -> list[Made]:
    """What `make` gives for each seed, in the order of the seeds, made by `workers` processes."""
    one = partial(make, views=views)
    if workers <= 1:
        return [one(seed) for seed in seeds]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, seeds, chunksize=8))
