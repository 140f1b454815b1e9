"""Common parts of all exchange formats: reading and building datasets, PNG pictures, folders that appear complete.

Imported files are untrusted: names are checked before they become files, sizes before anything is decoded, and arrays
are never unpickled.
"""

import io
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import ValidationError

from spinmeround.storage.codec import codec_of
from spinmeround.storage.dataset import (
    MAX_SIDE,
    SCHEMA_VERSION,
    HeadArrays,
    HeadDataset,
    HeadEntry,
    PixelCodec,
    assemble,
    read_metadata,
    verify,
    write_head,
)
from spinmeround.storage.errors import ConfigError, DatasetError, environment_errors, one_line, validation_message
from spinmeround.storage.files import owned_folder, rename_folder
from spinmeround.storage.manifests import stated_version
from spinmeround.storage.records import FrozenModel

SIDECAR = "dataset.json"
LARGEST_PART = 1024**3
"""Maximum size of one file of a head, in bytes; larger ones are refused."""

OnProgress = Callable[[int, int], None]
"""A progress callback: (done, total)."""

CHANNELS = {"rgb": 3, "mask": 1, "normals": 3}
"""Pictures of a head and their number of channels."""


class Sidecar(FrozenModel):
    """`dataset.json` next to exported heads: digest, sizes, codec and attributes of the dataset."""

    schema_version: Literal[1] = 1
    digest: str
    heads: int
    views: int
    height: int
    width: int
    codec: PixelCodec
    attributes: dict[str, Any]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `target` when the block succeeds. Raises ConfigError if `target` exists."""
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise ConfigError(f"--to {target}: expected a path that does not exist, found one that does; choose another")
    if not target.parent.is_dir():
        raise ConfigError(f"--to {target}: expected an existing parent folder, found no {target.parent}")
    with environment_errors(target):
        temp = target.parent / f".{target.name}.tmp"
        with owned_folder(temp, "exchange") as folder:
            (folder / "new").mkdir()
            yield folder / "new"
            rename_folder(folder / "new", target)
        with suppress(OSError):
            temp.rmdir()


def sidecar(dataset: HeadDataset) -> Sidecar:
    """The content of `dataset.json`."""
    separate = ("ids", "schema", "schema_version")
    return Sidecar(
        digest=dataset.digest,
        heads=len(dataset),
        views=dataset.views,
        height=dataset.sizes["height"],
        width=dataset.sizes["width"],
        codec=codec_of(read_metadata(dataset.path / "rgb")),
        attributes={name: value for name, value in dataset.attributes.items() if name not in separate},
    )


def read_sidecar(folder: Path) -> Sidecar:
    """The sidecar of an exported folder. Raises DatasetError if it is missing, invalid or of a newer schema."""
    path = folder / SIDECAR
    try:
        data = path.read_bytes()
        if (version := stated_version(data)) > SCHEMA_VERSION:
            raise DatasetError(
                f"{path}: schema version {version}, this software reads up to {SCHEMA_VERSION}; use a newer version"
            )
        found = Sidecar.model_validate_json(data)
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: expected the {SIDECAR} of an export, found {validation_message(error)}") from error
    sizes = (found.height, found.width, found.views)
    if not all(1 <= size <= MAX_SIDE for size in sizes):
        raise DatasetError(f"{path}: expected height, width and views from 1 to {MAX_SIDE}, found {sizes}")
    return found


def check_id(id: str) -> str:
    """The id, if it is a safe file name. Raises DatasetError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}", id):
        raise DatasetError(f"head {id!r}: expected an id of at most 200 letters, digits, - and _")
    return id


def head_arrays(dataset: HeadDataset, subject: int) -> HeadArrays:
    """All arrays of one head."""
    views = dataset.read_views(subject, range(dataset.views), ["rgb", "normals", "mask", "identity_views"])
    cameras = dataset.cameras(subject)
    return HeadArrays(
        id=check_id(dataset.ids[subject]),
        seed=int(dataset.seeds[subject]),
        rgb=views["rgb"],
        mask=views["mask"],
        normals=views["normals"],
        cam2world=cameras["cam2world"],
        intrinsics=cameras["intrinsics"],
        azimuth=cameras["azimuth_deg"],
        elevation=cameras["elevation_deg"],
        identity=dataset.identities[subject],
        identity_views=views["identity_views"],
    )


def build_dataset(heads: Iterable[HeadArrays], about: Sidecar, target: Path, on_progress: OnProgress) -> str:
    """Build a dataset of these heads, and move it to `target` if `verify` finds no problem; returns its digest."""
    with new_folder(target) as folder:
        entries = []
        parts = folder.with_name("parts")
        for head in heads:
            write_head(parts / check_id(head.id), head, about.codec)
            entries.append(HeadEntry(id=head.id, folder=parts / head.id))
            on_progress(len(entries), about.heads)
        if len(entries) != about.heads:
            raise DatasetError(f"import: expected {about.heads} heads according to {SIDECAR}, found {len(entries)}")
        folder.rmdir()
        info = assemble(folder, entries, about.attributes)
        if problems := verify(folder):
            raise DatasetError(f"import: expected a consistent dataset, found {problems[0]}")
    return info.digest


def png(picture: UInt8[np.ndarray, "height width *channel"]) -> bytes:
    """A picture encoded as PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "PNG")
    return stream.getvalue()


def from_png(data: bytes, about: Sidecar, channels: int, name: str) -> UInt8[np.ndarray, "height width *channel"]:
    """The decoded picture. Raises DatasetError with `name` if it is no PNG of the expected size and mode."""
    mode = {1: "L", 3: "RGB"}[channels]
    expected = f"{name}: expected {about.width} x {about.height} {mode}"
    try:
        if (size := _png_size(data)) != (about.width, about.height):
            raise DatasetError(f"{expected}, found {size[0]} x {size[1]}")
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (about.width, about.height) or image.mode != mode:
                raise DatasetError(f"{expected}, found {image.width} x {image.height} {image.mode}")
            return np.asarray(image)
    except DatasetError:
        raise
    except Exception as error:  # Pillow raises what it meets: OSError, SyntaxError, IndexError, ...
        raise DatasetError(f"{name}: expected a PNG, found {one_line(error)}") from error


def _png_size(data: bytes) -> tuple[int, int]:
    """(width, height) in the header of a PNG, read before Pillow allocates anything. Raises ValueError."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 24:
        raise ValueError(f"bytes that begin with {data[:8]!r}")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def float_shapes(views: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a head's float32 arrays."""
    return {
        "azimuth": (views,),
        "elevation": (views,),
        "cam2world": (views, 4, 4),
        "intrinsics": (views, 3, 3),
        "identity": (512,),
        "identity_views": (views, 512),
    }


def float_array(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Nested lists as a float32 array. Raises DatasetError if they have another shape."""
    try:
        found = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{name}: expected numbers of shape {shape}, found {error}") from error
    if found.shape != shape:
        raise DatasetError(f"{name}: expected shape {shape}, found {found.shape}")
    return found


def json_text(value: Mapping[str, Any]) -> bytes:
    """JSON of a mapping. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=1, allow_nan=False).encode()
