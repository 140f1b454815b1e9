"""The arrays of a photographed head: its pictures through the cameras of the dataset, and its embeddings."""

import hashlib

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.normals import decode_normals, encode_normals, fill_normals_under_mask
from spinmeround.models.geometry.resampling import resample
from spinmeround.models.identity.alignment import project_landmarks
from spinmeround.models.identity.arcface import ArcFaceEmbedder, embed_views
from spinmeround.storage.records import HeadArrays
from spinmeround.tasks.captured.params import FRONTAL, CaptureParams
from spinmeround.tasks.captured.placed import PlacedHead
from spinmeround.tasks.captured.scene import read_normals, read_picture
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.pictures.photos import NO_NORMAL


def seed_of(id: str) -> int:
    """The seed of a head that has none, for random choices that depend on it: of the SHA-256 of its id, 62 bits."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big") >> 2


def head_arrays(
    placed: PlacedHead,
    angles: tuple[Float32[np.ndarray, " view"], Float32[np.ndarray, " view"]],
    embedder: ArcFaceEmbedder,
    params: CaptureParams,
) -> tuple[HeadArrays, bool]:
    """The arrays of a head, and whether all its pictures are cut out. `angles` are those of the dataset's views.

    Raises ConfigError or ValueError for pictures that can't be read, a lens that can't be one, normals that contradict
    the mask, and a head of which no frontal picture shows the face.
    """
    pictures = [_resampled(placed, view, params.side) for view in range(len(placed.cameras))]
    rgb, mask = (np.stack([each[part] for each in pictures]) for part in (0, 1))
    normals = np.full(rgb.shape, NO_NORMAL[0], np.uint8)
    if placed.head.has_normals:
        normals = _normals(placed, mask, params.side)
    positions = project_landmarks(placed.cameras, placed.landmarks, params.side)
    facing = EmbedParams().facing.select(placed.cameras)
    identity = embed_views(embedder, rgb, positions, FRONTAL.select(placed.cameras), facing)
    arrays = HeadArrays(
        id=placed.head.id,
        seed=seed_of(placed.head.id),
        rgb=rgb,
        mask=mask,
        normals=normals,
        cam2world=placed.cameras.cam2world,
        intrinsics=placed.cameras.intrinsics,
        azimuth=angles[0],
        elevation=angles[1],
        identity=identity.identity,
        identity_views=identity.views,
    )
    return arrays, all(each[2] for each in pictures)


def _resampled(
    placed: PlacedHead, view: int, side: int
) -> tuple[UInt8[np.ndarray, "side side 3"], UInt8[np.ndarray, "side side"], bool]:
    """RGB on white and alpha, which is 0 beyond the picture; and whether the picture is cut out."""
    captured = placed.head.views[view]
    picture = read_picture(captured)
    channels = np.dstack([picture.rgb, picture.alpha]).astype(np.float32)
    intrinsics = placed.cameras.intrinsics[view].astype(np.float64)
    found = np.rint(resample(channels, captured.camera, intrinsics, side, (255.0, 255.0, 255.0, 0.0)))
    pixels = np.clip(found, 0, 255).astype(np.uint8)
    return pixels[..., :3], pixels[..., 3], picture.cut_out


def _normals(
    placed: PlacedHead, mask: UInt8[np.ndarray, "view side side"], side: int
) -> UInt8[np.ndarray, "view side side 3"]:
    """Encoded normals in the frame of datasets. The outline copies the nearest normal."""
    found, hit = np.zeros((*mask.shape, 3), np.float32), np.zeros(mask.shape, bool)
    for view, captured in enumerate(placed.head.views):
        opaque = (read_picture(captured).alpha > 127).astype(np.uint8)
        vectors = decode_normals(read_normals(captured), opaque)
        channels = np.dstack([vectors, opaque]).astype(np.float32)
        intrinsics = placed.cameras.intrinsics[view].astype(np.float64)
        drawn = resample(channels, captured.camera, intrinsics, side, (0.0, 0.0, 0.0, 0.0))
        turned = drawn[..., :3] @ placed.similarity.rotation.T
        length = np.linalg.norm(turned, axis=-1)
        hit[view] = (drawn[..., 3] > 0.5) & (length > 0.1)
        found[view] = turned / np.maximum(length, 1e-6)[..., None]
    return encode_normals(fill_normals_under_mask(found, hit, mask), mask)
