"""Reads samples, each some views of one head, from a dataset into the memory of a batch.

All batches come from here: the loader reads the views that it draws, the training reads those of its groups.
A sample has these arrays, and a batch has them with a leading sample axis:

    rgb, normals [P, H, W, 3] u8, mask [P, H, W] u8        as on disk, see `storage.dataset`
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

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.loading.batch_memory import BatchLayout, Field, PackedBatch, plain_fields
from spinmeround.tasks.loading.params import ArrayName


class SampleReader:
    """Reads the named arrays of samples, by default with the cameras of the views and the identity of the head."""

    def __init__(
        self, dataset: HeadDataset, arrays: Sequence[ArrayName], *, cameras: bool = True, identity: bool = True
    ) -> None:
        self.dataset, self.arrays, self.cameras, self.identity = dataset, tuple(arrays), cameras, identity
        self._held: dict[int, Float16[np.ndarray, "view channel h w"]] = {}

    def hold_latents(self, subjects: Sequence[int], memory_mb: int) -> None:
        """Read the latents of all `subjects` into memory if they fit into `memory_mb` MiB."""
        chunk = self.dataset.layout("latents/rgb").chunk
        size = 2 * int(np.prod(chunk.shape)) * chunk.dtype.itemsize * self.dataset.views * len(subjects)
        if size <= memory_mb * 2**20:
            views = range(self.dataset.views)
            self._held = {subject: read_latents(self.dataset, subject, views) for subject in subjects}

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
            self.dataset.read_into(subject, chosen, images)
        if "latents" in self.arrays and subject in self._held:
            out["latents"][row] = self._held[subject][views]
        elif "latents" in self.arrays:
            read_latents(self.dataset, subject, chosen, out["latents"][row])
        if self.cameras:
            cameras = self.dataset.cameras(subject)
            out["cam2world"][row] = cameras["cam2world"][views]
            out["intrinsics"][row] = cameras["intrinsics"][views]
        if self.identity:
            out["identity"][row] = self.dataset.identities[subject]
        out["views"][row], out["subject"][row] = views, subject

    def _image_field(self, name: str, views: int) -> Field:
        chunk = self.dataset.layout(name).chunk
        axes = (0, *(int(axis) + 1 for axis in np.argsort(chunk.order)))
        return Field(shape=(views, *chunk.stored_shape), dtype=chunk.dtype, axes=axes)

    def _latents_field(self, views: int) -> Field:
        chunk = self.dataset.layout("latents/rgb").chunk
        if chunk.stored_shape != chunk.shape:
            raise DatasetError(
                f"{self.dataset.files.root}: latents: expected untransposed chunks, found the axis order {chunk.order}"
            )
        return Field(shape=(views, 2 * chunk.shape[0], *chunk.shape[1:]), dtype=chunk.dtype)


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
