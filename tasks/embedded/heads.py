"""The dataset that the shipped multiview model is trained on: heads straight from the procedural generator.

A build renders 125 views a head, screens it, and takes normals from its mesh. Here a head has a few views from cameras
of its own (`pictures.orbit_cameras`), no defects, and the normals of its true surface, at a small part of the cost.
Files and layout are those of any published dataset. Its azimuths and elevations are those of the sectors' centres.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals, encode_normals
from spinmeround.models.identity.alignment import project_landmarks
from spinmeround.models.identity.arcface import embed_views
from spinmeround.models.identity.params import ViewRange
from spinmeround.storage.dataset import (
    DatasetInfo,
    HeadEntry,
    publish,
    read_pictures,
    record_version,
    write_head,
    write_latents,
)
from spinmeround.storage.records import HeadArrays
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.embedded.params import HeadsParams, OrbitViews
from spinmeround.tasks.embedded.pictures import (
    GENERATOR,
    LICENCE,
    face_landmarks,
    generator_fingerprint,
    head_pictures,
    orbit_cameras,
    orbit_sectors,
)
from spinmeround.tasks.heads.autoencoder import encode_views, load_autoencoder
from spinmeround.tasks.heads.embed import cached_embedder, recognition_path
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path, publish_latents
from spinmeround.tasks.heads.generator import generator_record

FRONTAL = ViewRange(max_azimuth_deg=30.0, max_elevation_deg=90.0)
"""Views whose mean embedding is a head's identity: every head has some at any elevation."""

FACING = ViewRange(max_azimuth_deg=90.0, max_elevation_deg=90.0)


def head_arrays(
    seed: int,
    views: OrbitViews,
    pictures: UInt8[np.ndarray, "view height width 7"],
    landmarks: Float32[np.ndarray, "5 3"],
) -> HeadArrays:
    """A head of the dataset from its `head_pictures` and `face_landmarks`."""
    cameras = orbit_cameras(seed, views)
    rgb, mask = np.ascontiguousarray(pictures[..., :3]), np.ascontiguousarray(pictures[..., 3])
    in_camera = decode_normals(pictures[..., 4:], mask)
    normals = np.einsum("vij,vhwj->vhwi", cameras.cam2world[:, :3, :3], in_camera)
    positions = project_landmarks(cameras, landmarks, views.resolution)
    head = embed_views(
        cached_embedder(recognition_path("embedded")), rgb, positions, FRONTAL.select(cameras), FACING.select(cameras)
    )
    return HeadArrays(
        id=f"procedural-{seed:06d}",
        seed=seed,
        rgb=rgb,
        mask=mask,
        normals=encode_normals(normals, mask),
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=orbit_sectors(views).astype(np.float32),
        elevation=np.zeros(views.views, np.float32),
        identity=head.identity,
        identity_views=head.views,
    )


def make_heads_dataset(
    params: HeadsParams, encode: EncodeParams, folder: Path, report: Callable[[str], None]
) -> DatasetInfo:
    """Render, publish and encode the heads into `folder`. Equal parameters give an equal digest."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as parts:
        entries = []
        for done, entry in enumerate(_written(params, Path(parts)), start=1):
            entries.append(entry)
            if done % 100 == 0:
                report(f"heads: rendered {done} of {params.heads}")
        info = publish(folder, entries, _attributes(params))
        record_version(folder, info.digest, len(entries))
        latents = {
            entry.id: encode_head(entry.folder, orbit_cameras(seed, params.views), encode)
            for entry, seed in zip(entries, params.seeds, strict=True)
        }
        publish_latents(info.path, latents, encode)
    return info


def _written(params: HeadsParams, folder: Path) -> Iterator[HeadEntry]:
    """The heads in order, each in a folder of its own."""
    write, seeds = partial(_write_head, views=params.views, folder=folder), params.seeds
    if params.workers == 1:
        yield from map(write, seeds)
        return
    with ProcessPoolExecutor(params.workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, seeds, chunksize=4)


def _write_head(seed: int, views: OrbitViews, folder: Path) -> HeadEntry:
    head = head_arrays(seed, views, head_pictures(seed, views), face_landmarks(seed))
    write_head(folder / head.id, head)
    return HeadEntry(id=head.id, folder=folder / head.id)


def encode_head(folder: Path, cameras: Cameras, encode: EncodeParams) -> Path:
    """The latents of a head that `write_head` wrote, in a folder beside its own."""
    autoencoder, pictures = load_autoencoder(autoencoder_path(encode)), read_pictures(folder, "rgb", "normals")
    frame, out = encode.stored_frame, folder.with_suffix(".latents")
    latents = encode_views(
        autoencoder, pictures["rgb"], pictures["normals"], cameras.cam2world, frame=frame, batch=encode.batch
    )
    write_latents(out, *latents)
    return out


def _attributes(params: HeadsParams) -> dict[str, Any]:
    """The attributes of the dataset; they depend only on what decides its content."""
    counts = Counts(asked=params.heads, screened_out={}, dropped=0, quarantined=0, written=params.heads)
    return {
        "generator": generator_record(GENERATOR),
        "fingerprints": {"generator": generator_fingerprint(), "embed": fingerprint(recognition_path("embedded"))},
        "parameters": {"heads": params.key_values(), "embed": {"frontal": FRONTAL.model_dump(mode="json")}},
        "counts": asdict(counts),
        "split": {"validation": params.validation_share, "test": params.test_share},
        "licence": LICENCE,
    }
