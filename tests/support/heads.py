"""Small valid heads, and folders of them, for tests of the dataset."""

import json
from pathlib import Path

import numpy as np
import zarr
from jaxtyping import Float16
from zarr.storage import MemoryStore

from spinmeround.storage.dataset import HeadEntry, write_head, write_latents
from spinmeround.storage.records import HeadArrays


def make_head(seed: int, *, views: int = 4, side: int = 8) -> HeadArrays:
    """A head of random pixels that satisfies the schema; it depends only on the seed and the sizes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((views, side, side), np.uint8)
    mask[:, 2:-2, 2:-2] = rng.integers(1, 256, (views, side - 4, side - 4))
    noise = rng.integers(0, 256, (views, side, side, 3)).astype(np.uint8)
    normals = rng.normal(size=(views, side, side, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    inside = mask[..., None] > 0
    rotation = np.linalg.qr(rng.normal(size=(views, 3, 3)))[0]
    rotation[:, :, 0] *= np.linalg.det(rotation)[:, None]
    cam2world = np.tile(np.eye(4, dtype=np.float32), (views, 1, 1))
    cam2world[:, :3, :3] = rotation
    embeddings = rng.normal(size=(views, 512)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    mean = embeddings[:2].mean(axis=0)
    embeddings[2:] = np.nan
    return HeadArrays(
        id=f"procedural-{seed:06d}",
        seed=seed,
        rgb=np.where(inside, noise, np.uint8(255)),
        mask=mask,
        normals=np.where(inside, np.round((normals + 1) / 2 * 255).astype(np.uint8), np.uint8(128)),
        cam2world=cam2world,
        intrinsics=np.tile(np.diag([4.0, 4.0, 1.0]).astype(np.float32), (views, 1, 1)),
        azimuth=np.linspace(0, 90, views).astype(np.float32),
        elevation=np.zeros(views, np.float32),
        identity=(mean / np.linalg.norm(mean)).astype(np.float32),
        identity_views=embeddings,
    )


def write_heads(root: Path, seeds: range, **sizes: int) -> list[HeadEntry]:
    """Write the arrays of the heads with these seeds below `root`."""
    heads = [make_head(seed, **sizes) for seed in seeds]
    for head in heads:
        write_head(root / head.id, head)
    return [HeadEntry(id=head.id, folder=root / head.id) for head in heads]


def write_all_latents(root: Path, ids: list[str], *, views: int = 4) -> list[HeadEntry]:
    """Write groups of random latents for these heads below `root`."""
    for number, id in enumerate(ids):
        latents = all_latents(number, views=views)
        write_latents(root / id, latents[0], latents[1])
    return [HeadEntry(id=id, folder=root / id) for id in ids]


def all_latents(number: int, *, views: int = 4) -> Float16[np.ndarray, "2 view 4 2 2"]:
    """The random latents of the head with this number: RGB, then normals."""
    return np.random.default_rng(number).normal(size=(2, views, 4, 2, 2)).astype(np.float16)


def zarr_of(folder: Path) -> zarr.Group:
    """The arrays in the folder of one head as a Zarr group, made of the metadata and the chunks as they are."""
    index = json.loads((folder / "arrays.json").read_text())
    group: dict[str, bytes] = {"zarr.json": b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'}
    for name, metadata in index["arrays"].items():
        group[f"{name}/zarr.json"] = json.dumps(metadata).encode()
        group[f"{name}/c" + ".0" * len(metadata["shape"])] = (folder / f"{name}.chunk").read_bytes()
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    return zarr.open_group(MemoryStore({name: buffer.from_bytes(data) for name, data in group.items()}), mode="r")


def flip_bit(path: Path, position: float = 0.5) -> None:
    """Flip one bit of a file, at this fraction of its length, in a new copy, so that its hard links stay unchanged."""
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 16
    path.unlink()
    path.write_bytes(data)
