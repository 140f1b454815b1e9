"""What all exchanges share: heads out of a dataset and into one, pictures as PNG, folders that appear whole.

Nothing that comes from outside is believed: names are checked before they become files, sizes before anything is
decoded, and arrays are never unpickled.
"""

import io
import json
import re
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
from spinmeround.storage.errors import ConfigError, DatasetError, environment_errors
from spinmeround.storage.files import owned_folder, rename_folder
from spinmeround.storage.manifests import stated_version
from spinmeround.storage.records import FrozenModel

SIDECAR = "dataset.json"
LARGEST_PART = 1024**3
"""No file of one head is larger; a claim of more is not believed."""
Told = Callable[[int, int], None]


class Sidecar(FrozenModel):
    """`dataset.json` beside exported heads: what a dataset says of itself."""

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
    """A folder to fill, which gets the name `target` when the block ends well. Raises ConfigError where it is taken."""
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise ConfigError(f"--to {target}: expected a free name, found something there; choose another")
    if not target.parent.is_dir():
        raise ConfigError(f"--to {target}: expected a folder that exists to put it in, found no {target.parent}")
    with environment_errors(target):
        temp = target.parent / f".{target.name}.tmp"
        with owned_folder(temp, "exchange") as folder:
            (folder / "new").mkdir()
            yield folder / "new"
            rename_folder(folder / "new", target)
        with suppress(OSError):
            temp.rmdir()


def sidecar(dataset: HeadDataset) -> Sidecar:
    """What stands in `dataset.json`."""
    own = ("ids", "schema", "schema_version")
    return Sidecar(
        digest=dataset.digest,
        heads=len(dataset),
        views=dataset.views,
        height=dataset.sizes["height"],
        width=dataset.sizes["width"],
        codec=codec_of(read_metadata(dataset.path / "rgb")),
        attributes={name: value for name, value in dataset.attributes.items() if name not in own},
    )


def read_sidecar(folder: Path) -> Sidecar:
    """The sidecar of an exported folder. Raises DatasetError where it is missing, broken or too new."""
    path = folder / SIDECAR
    try:
        data = path.read_bytes()
        if (version := stated_version(data)) > SCHEMA_VERSION:
            raise DatasetError(f"{path}: schema version {version}; use a newer version of the software")
        found = Sidecar.model_validate_json(data)
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: expected {SIDECAR} of an export, found {' '.join(str(error).split())}") from error
    if not (1 <= found.height <= MAX_SIDE and 1 <= found.width <= MAX_SIDE and 1 <= found.views <= MAX_SIDE):
        raise DatasetError(f"{path}: expected sizes from 1 to {MAX_SIDE}")
    return found


def check_id(id: str) -> str:
    """The id itself, if it can be a file's name. Raises DatasetError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}", id):
        raise DatasetError(f"head {id!r}: expected letters, digits, - and _ in an id that is to name files")
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


def build_dataset(heads: Iterable[HeadArrays], about: Sidecar, target: Path, told: Told) -> str:
    """A dataset of these heads at `target`, checked by `verify` before it appears; returns its digest."""
    with new_folder(target) as folder:
        entries = []
        parts = folder.with_name("parts")
        for head in heads:
            write_head(parts / check_id(head.id), head, about.codec)
            entries.append(HeadEntry(id=head.id, folder=parts / head.id))
            told(len(entries), about.heads)
        if len(entries) != about.heads:
            raise DatasetError(f"import: expected {about.heads} heads, as {SIDECAR} says, found {len(entries)}")
        folder.rmdir()
        info = assemble(folder, entries, about.attributes)
        if problems := verify(folder):
            raise DatasetError(f"import: what was read is no consistent dataset: {problems[0]}")
    return info.digest


def png(picture: UInt8[np.ndarray, "height width *channel"]) -> bytes:
    """A picture as the bytes of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stream, "PNG")
    return stream.getvalue()


def from_png(data: bytes, about: Sidecar, channels: int, name: str) -> UInt8[np.ndarray, "height width *channel"]:
    """The picture in a PNG of the expected size. Raises DatasetError that names it."""
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (about.width, about.height) or image.mode != mode:
                raise DatasetError(
                    f"{name}: expected {about.width} x {about.height} {mode}, found {image.size} {image.mode}"
                )
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{name}: expected a PNG, found {error}") from error


def float_array(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """float32 of nested lists. Raises DatasetError where they have another shape."""
    try:
        found = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{name}: expected numbers of shape {shape}, found {error}") from error
    if found.shape != shape:
        raise DatasetError(f"{name}: expected shape {shape}, found {found.shape}")
    return found


def json_text(value: Mapping[str, Any]) -> bytes:
    """JSON of a mapping, NaN refused."""
    return json.dumps(value, indent=1, allow_nan=False).encode()
