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
from jaxtyping import Float32, Float64, UInt8
from pydantic import BaseModel

from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.models.geometry.normals import encode_normals, fill_normals_under_mask, world_normals_to_camera
from spinmeround.models.identity.alignment import align_faces, project_landmarks
from spinmeround.models.identity.params import CROP_SIDE
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.tasks.embedded.params import FaceViews, OrbitViews

Made = TypeVar("Made")

GENERATOR = GeneratorConfig(name="procedural", options={"defect_share": 0.0})
"""The generator of all pictures that the embedded weights are trained on."""

LICENCE = "Apache-2.0: procedural heads, no real person"


@cache
def _generator() -> ProceduralGenerator:
    generator = make_generator(GENERATOR)
    if not isinstance(generator, ProceduralGenerator):
        raise TypeError(f"procedural generator: expected ProceduralGenerator, got {type(generator).__name__}")
    return generator


def generator_fingerprint() -> str:
    """Fingerprint of the procedural generator that renders the images."""
    return _generator().fingerprint


def face_angles(seed: int, views: FaceViews) -> Float64[np.ndarray, "crop 2"]:
    """Azimuth and elevation in degrees of each crop of `face_crops`."""
    highest = (views.max_azimuth_deg, views.max_elevation_deg)
    within = np.random.default_rng([seed, 1]).uniform(-1.0, 1.0, (views.views, 2))
    return np.asarray(within.astype(np.float32) * highest)


def face_crops(seed: int, views: FaceViews) -> UInt8[np.ndarray, "crop 112 112 3"]:
    """Aligned crops of one head from the cameras at `face_angles`, with random jitter on the landmarks.

    The resolutions take turns: crop i has the side `resolutions[i % len(resolutions)]`.
    """
    generator, rng = _generator(), np.random.default_rng([seed, 4])
    identity = generator.sample(seed)
    azimuth, elevation = face_angles(seed, views).T
    crops = np.empty((views.views, CROP_SIDE, CROP_SIDE, 3), np.uint8)
    for turn, resolution in enumerate(views.resolutions):
        part = slice(turn, None, len(views.resolutions))
        cameras = orbit(azimuth[part], elevation[part])
        landmarks = project_landmarks(cameras, generator.landmarks(identity), resolution)
        jitter = rng.normal(0.0, views.landmark_jitter * resolution, landmarks.shape)
        rgb = generator.render(identity, cameras, resolution).rgb
        crops[part] = align_faces(rgb, (landmarks + jitter).astype(np.float32))
    return crops


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


def orbit_cameras(seed: int, views: OrbitViews) -> Cameras:
    """Cameras of a head's pictures: one in each of `views` equal sectors of azimuth, the first round the front.

    Azimuths are uniform in their sector and elevations between both limits, so every head is seen from all sides.
    """
    within = np.random.default_rng([0 if views.shared else seed, 2]).uniform(-1.0, 1.0, (2, views.views))
    sectors = orbit_sectors(views) + within[0] * 180.0 / views.views
    return orbit(sectors, views.max_elevation_deg * within[1])


def orbit_sectors(views: OrbitViews) -> Float64[np.ndarray, " view"]:
    """Azimuths of the centres of the sectors that `orbit_cameras` draws from, in degrees."""
    return np.arange(views.views) * (360.0 / views.views)


def face_landmarks(seed: int) -> Float32[np.ndarray, "5 3"]:
    """Eyes, nose tip and mouth corners of a head, in the world frame."""
    generator = _generator()
    return generator.landmarks(generator.sample(seed))


def head_pictures(seed: int, views: OrbitViews) -> UInt8[np.ndarray, "view height width 7"]:
    """RGB on white, mask and encoded normals of one head, in this channel order, from `orbit_cameras`.

    Normals are in the frame of each camera (x right, y down, z forward), as the model encodes them by default. The
    outline, where a pixel's centre misses the head, has the nearest normal.
    """
    generator = _generator()
    identity = generator.sample(seed)
    cameras = orbit_cameras(seed, views)
    rendering = generator.render(identity, cameras, views.resolution)
    found = generator.rendered_normals(identity, cameras, rendering)
    in_camera = world_normals_to_camera(found.normals, cameras)
    encoded = encode_normals(fill_normals_under_mask(in_camera, found.hit, rendering.mask), rendering.mask)
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
