"""Images of procedural heads for training the embedded weights: face crops, RGB and normal maps.

All heads are free of defects. A head is a function of its seed, its views and jitter are functions of (seed, purpose),
so the images do not depend on the number of heads, their order or the number of processes.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import BaseModel

from spinmeround.models.geometry.cameras import orbit, pixel_rays
from spinmeround.models.geometry.normals import encode_normals
from spinmeround.models.identity.alignment import align_faces, project_landmarks
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.tasks.embedded.params import FaceViews, OrbitViews

Made = TypeVar("Made")


@cache
def _generator() -> ProceduralGenerator:
    generator = make_generator(GeneratorConfig(name="procedural", options={"defect_share": 0.0}))
    if not isinstance(generator, ProceduralGenerator):
        raise TypeError(f"procedural generator: expected ProceduralGenerator, got {type(generator).__name__}")
    return generator


def generator_fingerprint() -> str:
    """Fingerprint of the procedural generator that renders the images."""
    return _generator().fingerprint


def face_crops(seed: int, views: FaceViews) -> UInt8[np.ndarray, "crop 112 112 3"]:
    """Aligned crops of one head from random frontal cameras, with random jitter on the landmarks."""
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


def posed_pictures(
    seed: int, views: OrbitViews
) -> tuple[UInt8[np.ndarray, "view h w 3"], Float32[np.ndarray, "view 4"]]:
    """RGB of one head from random cameras, and the face in each.

    A face is its centre (column, row) in pixels, its size (both as `models.identity.face_network` has them) and the
    angle between the camera and the direction that the face looks in, in degrees.
    """
    generator, rng = _generator(), np.random.default_rng([seed, 3])
    identity = generator.sample(seed)
    azimuth = rng.uniform(-180.0, 180.0, views.views)
    cameras = orbit(azimuth, rng.uniform(-views.max_elevation_deg, views.max_elevation_deg, views.views))
    landmarks = generator.landmarks(identity).astype(np.float64)
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    right = landmarks[1] - landmarks[0]
    forward = np.cross(right, eyes - mouth)
    towards = cameras.cam2world[:, :3, 3] - 0.5 * (eyes + mouth)
    cosine = towards @ forward / np.linalg.norm(towards, axis=-1) / np.linalg.norm(forward)
    places = project_landmarks(cameras, np.stack([eyes, mouth]), views.resolution)
    faces = [
        *places.mean(axis=1).T,
        np.linalg.norm(places[:, 0] - places[:, 1], axis=-1),
        np.degrees(np.arccos(cosine)),
    ]
    return generator.render(identity, cameras, views.resolution).rgb, np.stack(faces, axis=-1).astype(np.float32)


def head_pictures(seed: int, views: OrbitViews) -> UInt8[np.ndarray, "view height width 7"]:
    """RGB on white, mask and encoded normals of one head, in this channel order, from random cameras.

    Normals are in the frame of each camera (x right, y down, z forward), as the model encodes them by default.
    """
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
    normals = np.einsum("vwc,vijw->vijc", cameras.cam2world[:, :3, :3], normals).astype(np.float32)
    encoded = encode_normals(normals, np.where(hit, rendering.mask, 0).astype(np.uint8))
    return np.concatenate([rendering.rgb, rendering.mask[..., None], encoded], axis=-1)


def render_split(
    make: Callable[..., Made], views: BaseModel, *, first_seed: int, heads: int, held_out: int, workers: int
) -> tuple[list[Made], list[Made]]:
    """`make(seed, views=views)` for `heads` seeds from `first_seed` on, and for the `held_out` seeds after them."""
    seen = range(first_seed, first_seed + heads)
    unseen = range(seen.stop, seen.stop + held_out)
    return render_heads(make, seen, views, workers), render_heads(make, unseen, views, workers)


def render_heads(make: Callable[..., Made], seeds: range, views: BaseModel, workers: int) -> list[Made]:
    """`make(seed, views=views)` for each seed, in order, computed by `workers` processes."""
    one = partial(make, views=views)
    if workers <= 1:
        return [one(seed) for seed in seeds]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, seeds, chunksize=8))
