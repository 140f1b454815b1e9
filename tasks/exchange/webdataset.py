"""WebDataset: tar shards with one sample per head, for `webdataset` and any tar reader.

    heads-000000.tar     <id>.json                      seed, cameras, angles
                         <id>.identity.npy              float32 (512,)
                         <id>.identity_views.npy        float32 (view, 512), NaN rows without embedding
                         <id>.rgb_000.png, .mask_000.png, .normals_000.png, ...     one picture per view
    dataset.json         digest, sizes, codec and attributes

The same dataset gives the same bytes: members are in the order of the heads, without timestamps or owners.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.storage.dataset import HeadArrays, HeadDataset
from spinmeround.storage.errors import DatasetError, one_line
from spinmeround.tasks.exchange.formats import (
    CHANNELS,
    LARGEST_PART,
    SIDECAR,
    OnProgress,
    Sidecar,
    build_dataset,
    check_id,
    float_array,
    float_shapes,
    from_png,
    head_arrays,
    json_text,
    new_folder,
    png,
    read_sidecar,
    sidecar,
)

_CAMERA = ("cam2world", "intrinsics", "azimuth", "elevation")


def export_webdataset(dataset: HeadDataset, target: Path, heads_per_shard: int, on_progress: OnProgress) -> None:
    """Write all heads as tar shards to the new folder `target`."""
    with new_folder(target) as folder:
        for start in range(0, len(dataset), heads_per_shard):
            with tarfile.open(
                folder / f"heads-{start // heads_per_shard:06d}.tar", "x", format=tarfile.USTAR_FORMAT
            ) as tar:
                for subject in range(start, min(start + heads_per_shard, len(dataset))):
                    for name, data in _parts(head_arrays(dataset, subject)):
                        member = tarfile.TarInfo(f"{dataset.ids[subject]}.{name}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
                    on_progress(subject + 1, len(dataset))
        (folder / SIDECAR).write_text(sidecar(dataset).model_dump_json(indent=1), encoding="utf-8")


def import_webdataset(source: Path, target: Path, on_progress: OnProgress) -> str:
    """Build a dataset at `target` from an export; returns its digest, which equals that of the exported dataset."""
    about = read_sidecar(source)
    return build_dataset(_heads(source, about), about, target, on_progress)


def _parts(head: HeadArrays) -> Iterator[tuple[str, bytes]]:
    """File names and contents of a head."""
    yield "json", json_text({"seed": head.seed} | {name: getattr(head, name).tolist() for name in _CAMERA})
    for name in ("identity", "identity_views"):
        stream = io.BytesIO()
        np.save(stream, getattr(head, name), allow_pickle=False)
        yield f"{name}.npy", stream.getvalue()
    for view in range(len(head.rgb)):
        for name in CHANNELS:
            yield f"{name}_{view:03d}.png", png(getattr(head, name)[view])


def _heads(source: Path, about: Sidecar) -> Iterator[HeadArrays]:
    for shard in sorted(source.glob("heads-*.tar")):
        id, parts = "", dict[str, bytes]()
        for name, data in _members(shard):
            head, _, part = name.partition(".")
            if head != id and parts:
                yield _head(id, parts, about)
                parts = {}
            id = check_id(head)
            if part in parts:
                raise DatasetError(f"{shard.name}: expected {name} once, found it twice")
            parts[part] = data
        if parts:
            yield _head(id, parts, about)


def _members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a tar, read without unpacking to disk."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile() or member.size > LARGEST_PART:
                    raise DatasetError(f"{shard.name}: {member.name}: expected a file of at most {LARGEST_PART} bytes")
                stream = tar.extractfile(member)
                yield member.name, b"" if stream is None else stream.read()
    except (tarfile.TarError, OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{shard}: expected a tar of heads, found {error}") from error


def _head(id: str, parts: Mapping[str, bytes], about: Sidecar) -> HeadArrays:
    pictures = {f"{name}_{view:03d}.png" for name in CHANNELS for view in range(about.views)}
    wanted = {"json", "identity.npy", "identity_views.npy", *pictures}
    if parts.keys() != wanted:
        raise DatasetError(
            f"head {id}: expected {len(wanted)} parts, missing or unknown: {sorted(parts.keys() ^ wanted)[:3]}"
        )
    cameras, shapes = _cameras(id, parts["json"]), float_shapes(about.views)
    stacked = {
        name: np.stack(
            [
                from_png(parts[f"{name}_{view:03d}.png"], about, channels, f"head {id}: {name}_{view:03d}.png")
                for view in range(about.views)
            ]
        )
        for name, channels in CHANNELS.items()
    }
    floats = {name: float_array(cameras.get(name), shapes[name], f"head {id}: {name}") for name in _CAMERA}
    embeddings = {
        name: _npy(parts[f"{name}.npy"], shapes[name], f"head {id}: {name}.npy")
        for name in ("identity", "identity_views")
    }
    return HeadArrays(id=id, seed=cameras["seed"], **stacked, **floats, **embeddings)


def _cameras(id: str, data: bytes) -> dict[str, Any]:
    """The JSON file of a head: its seed, checked, and its cameras, not checked."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"head {id}: expected JSON with a seed and cameras, found {error}") from error
    if not isinstance(found, dict) or type(found.get("seed")) is not int or abs(found["seed"]) >= 2**63:
        raise DatasetError(f"head {id}: expected JSON with a seed of 64 bits and cameras, found another content")
    return found


def _npy(data: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A float32 array of this shape. The header is checked first, so nothing else is allocated or unpickled."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        found, fortran, dtype = read(stream)
    except (
        Exception
    ) as error:  # numpy raises unrelated errors: SyntaxError, TokenError, RecursionError, MemoryError, ...
        raise DatasetError(f"{name}: expected a NumPy file, found {one_line(error, 120)}") from error
    rest = data[stream.tell() :]
    if (found, fortran, dtype) != (shape, False, np.dtype("<f4")) or len(rest) != 4 * int(np.prod(shape)):
        raise DatasetError(f"{name}: expected float32 of shape {shape}, found {dtype} of shape {found}")
    return np.frombuffer(rest, "<f4").reshape(shape)
