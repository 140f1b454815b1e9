"""Reads samples, each some views of one head, from a dataset into the memory of a batch.

All batches come from here: the loader reads the views that it draws, the training reads those of its groups.
A sample has these arrays, and a batch has them with a leading sample axis:

    rgb, normals [P, H, W, 3] u8, mask [P, H, W] u8        as on disk, see `storage.dataset`; in memory as planes
    rgb, normals [P, 3, H, W] f32                          instead, in [-1, 1], with the dtype float32
    latents [P, 2 C, h, w] f16                             image latents, then normal latents
    cam2world [P, 4, 4], intrinsics [P, 3, 3] f32
    identity [512] f32
    views [P], subject [] i64
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int64
from torch import Tensor

from spinmeround.storage.codec import reordered
from spinmeround.storage.dataset import HeadDataset, map_views
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.loading.batch_memory import BatchLayout, Field, PackedBatch, plain_fields
from spinmeround.tasks.loading.params import ArrayName, PictureType
from spinmeround.tasks.loading.tensors import to_unit_range

_PLANES = (2, 0, 1)
"""(height, width, channel) as (channel, height, width)."""

LatentHalf = Float16[np.ndarray, "view channel h w"]
"""The latents of the images or of the normals of a head's views."""

LATENT_HALVES = ("latents/rgb", "latents/normals")

_VIEWS_AT_ONCE = 4
"""Views converted to floats at once: their bytes fit into a core's cache."""


class SampleReader:
    """Reads the named arrays of samples, by default with the cameras of the views and the identity of the head."""

    def __init__(
        self,
        dataset: HeadDataset,
        arrays: Sequence[ArrayName],
        *,
        cameras: bool = True,
        identity: bool = True,
        dtype: PictureType = "uint8",
    ) -> None:
        self.dtype = dtype
        self.dataset, self.arrays, self.cameras, self.identity = dataset, tuple(arrays), cameras, identity
        self._held: dict[int, tuple[LatentHalf, LatentHalf]] = {}

    def hold_latents(self, subjects: Sequence[int], memory_mb: int) -> None:
        """Read the latents of all `subjects` into memory if they fit into `memory_mb` MiB, otherwise map their files.

        Neither happens to compressed latents and those in an object store.
        """
        chunk = self.dataset.layout("latents/rgb").chunk
        size = 2 * int(np.prod(chunk.shape)) * chunk.dtype.itemsize * self.dataset.views * len(subjects)
        if size <= memory_mb * 2**20:
            views = range(self.dataset.views)
            for subject in subjects:
                held = read_latents(self.dataset, subject, views)
                self._held[subject] = (held[:, : chunk.shape[0]], held[:, chunk.shape[0] :])
        else:
            self._map_latents(subjects)

    def _map_latents(self, subjects: Sequence[int]) -> None:
        for subject in subjects:
            image, normals = (map_views(self.dataset, subject, name) for name in LATENT_HALVES)
            if image is None or normals is None:
                return
            self._held[subject] = (image, normals)

    def fields(self, views: int) -> dict[str, Field]:
        """The arrays of a sample with so many views, as they are laid out in memory."""
        fields: dict[str, Field] = {
            name: self._latents_field(views) if name == "latents" else self._image_field(name, views)
            for name in self.arrays
        }
        cameras = {"cam2world": ((views, 4, 4), "f4"), "intrinsics": ((views, 3, 3), "f4")}
        fields |= plain_fields(cameras if self.cameras else {})
        fields |= plain_fields({"identity": ((512,), "f4")} if self.identity else {})
        return fields | plain_fields({"views": ((views,), "i8"), "subject": ((), "i8")})

    def read(
        self, subjects: Int64[np.ndarray, " sample"], views: Int64[np.ndarray, "sample view"]
    ) -> dict[str, Tensor]:
        """Read a batch: sample i is of head `subjects[i]`. Raises DatasetError if a file is missing or damaged."""
        layout, samples = BatchLayout(self.fields(views.shape[1])), len(subjects)
        block = self.dataset.memory.empty((layout.size(samples),), np.dtype(np.uint8))
        out = layout.arrays(block, samples)
        for row, (subject, chosen) in enumerate(zip(subjects.tolist(), views, strict=True)):
            self.fill(out, row, subject, chosen)
        return PackedBatch(layout, samples, torch.from_numpy(block)).tensors()

    def fill(self, out: Mapping[str, np.ndarray], row: int, subject: int, views: Int64[np.ndarray, " view"]) -> None:
        """Read one sample into row `row` of the arrays of a batch."""
        chosen = views.tolist()
        images: dict[str, np.ndarray] = {name: out[name][row] for name in self.arrays if name != "latents"}
        if images:
            self._fill_images(images, subject, chosen)
        if "latents" in self.arrays and subject in self._held:
            channels = out["latents"].shape[2] // 2
            for half, part in zip(self._held[subject], (slice(None, channels), slice(channels, None)), strict=True):
                out["latents"][row][:, part] = half[views]
        elif "latents" in self.arrays:
            read_latents(self.dataset, subject, chosen, out["latents"][row])
        if self.cameras:
            cameras = self.dataset.cameras(subject)
            out["cam2world"][row] = cameras["cam2world"][views]
            out["intrinsics"][row] = cameras["intrinsics"][views]
        if self.identity:
            out["identity"][row] = self.dataset.identities[subject]
        out["views"][row], out["subject"][row] = views, subject

    def _fill_images(self, out: Mapping[str, np.ndarray], subject: int, views: Sequence[int]) -> None:
        """Decode into `out` where a chunk is stored as it is wanted, otherwise convert what was decoded."""
        stored = {name: self._stored(name, room) for name, room in out.items()}
        self.dataset.read_into(subject, views, stored)
        for name, decoded in stored.items():
            if decoded is out[name]:
                continue
            order = self.dataset.layout(name).chunk.order
            for start in range(0, len(views), _VIEWS_AT_ONCE):
                part = slice(start, start + _VIEWS_AT_ONCE)
                _convert(reordered(decoded[part], order, _PLANES), out[name][part])

    def _stored(self, name: str, room: np.ndarray) -> np.ndarray:
        """Where to decode the views of an array that ends up in `room`."""
        chunk = self.dataset.layout(name).chunk
        if chunk.dtype == room.dtype and chunk.stored_shape == room.shape[1:] and chunk.order in ((0, 1), _PLANES):
            return room
        return self.dataset.memory.empty((len(room), *chunk.stored_shape), chunk.dtype)

    def _image_field(self, name: str, views: int) -> Field:
        chunk = self.dataset.layout(name).chunk
        if name == "mask":
            return Field(shape=(views, *chunk.shape), dtype=chunk.dtype)
        shape = (views, *(chunk.shape[axis] for axis in _PLANES))
        if self.dtype == "float32":
            return Field(shape=shape, dtype=np.dtype(np.float32))
        return Field(shape=shape, dtype=chunk.dtype, axes=(0, 2, 3, 1))

    def _latents_field(self, views: int) -> Field:
        chunk = self.dataset.layout("latents/rgb").chunk
        if chunk.stored_shape != chunk.shape:
            raise DatasetError(
                f"{self.dataset.files.root}: latents: expected untransposed chunks, found the axis order {chunk.order}"
            )
        return Field(shape=(views, 2 * chunk.shape[0], *chunk.shape[1:]), dtype=chunk.dtype)


def _convert(planes: np.ndarray, out: np.ndarray) -> None:
    if out.dtype == planes.dtype:
        out[...] = planes
    else:
        to_unit_range(torch.from_numpy(planes), torch.from_numpy(out))


def read_view_identity(dataset: HeadDataset, subject: int, view: int | None = None) -> Float32[np.ndarray, " 512"]:
    """The embedding of a view of a head; that of the head for no view, or one without an embedding of its own."""
    if view is not None:
        found = dataset.read_views(subject, [view], ["identity_views"])["identity_views"][0]
        if np.isfinite(found).all():
            return np.asarray(found)
    return np.asarray(dataset.identities[subject])


def read_latents(
    dataset: HeadDataset, subject: int, views: Sequence[int], out: np.ndarray | None = None
) -> Float16[np.ndarray, "view channel h w"]:
    """Image latents, then normal latents, of some views of one head; written into `out` if it is given."""
    chunk = dataset.layout("latents/rgb").chunk
    if out is None:
        out = dataset.memory.empty((len(views), 2 * chunk.shape[0], *chunk.shape[1:]), chunk.dtype)
    halves = {"latents/rgb": out[:, : chunk.shape[0]], "latents/normals": out[:, chunk.shape[0] :]}
    dataset.read_into(subject, views, halves)
    return out
