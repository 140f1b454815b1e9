"""The pictures that a step encodes again: random backgrounds, and normals in the frame of a group's first view.

Reading and encoding are apart: reading touches only files, so that it can run in another process; encoding runs on the
device of the autoencoder, all pictures of a step in one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from spinmeround.models.diffusion.latents import Autoencoder
from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.autoencoder import encode_batches
from spinmeround.tasks.loading.reader import SampleReader
from spinmeround.tasks.loading.tensors import on_colour, planes
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.training.data.draws import COLOURS, GroupDraw


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is encoded again of the groups of a step: `rows` on the colours `colours`, and normals of all or of none."""

    rows: tuple[int, ...]
    colours: Float32[Tensor, "row 3"]
    rgb: UInt8[Tensor, "row view height width 3"] | None
    mask: UInt8[Tensor, "row view height width"] | None
    normals: UInt8[Tensor, "sample view height width 3"] | None


class PictureReader:
    """Reads the pictures of a draw that are encoded again; the colour of a sample is a function of its index."""

    def __init__(self, data: HeadDataset, *, share: float, seed: int, normals: bool) -> None:
        self.share, self.seed = share, seed
        self._images = SampleReader(data, ("rgb", "mask"), cameras=False, identity=False)
        self._normals = SampleReader(data, ("normals",), cameras=False, identity=False) if normals else None

    def read(self, draw: GroupDraw, step: int) -> Pictures | None:
        """The pictures of a step; None if none is encoded again. Raises DatasetError for a damaged file."""
        rows, colours = self._recoloured(draw.indices, step)
        if not rows and self._normals is None:
            return None
        images = self._images.read(draw.subjects[rows], draw.views[rows]) if rows else {}
        return Pictures(
            rows=tuple(rows),
            colours=torch.tensor(np.array(colours, np.float32)).reshape(-1, 3),
            rgb=images.get("rgb"),
            mask=images.get("mask"),
            normals=self._normals.read(draw.subjects, draw.views)["normals"] if self._normals else None,
        )

    def _recoloured(self, indices: Sequence[int], step: int) -> tuple[list[int], list[Float32[np.ndarray, " 3"]]]:
        """The rows that get another background, and their colours in [-1, 1]."""
        rows, colours = [], []
        for row, index in enumerate(indices if self.share else ()):
            rng = draw_rng(self.seed, step, index, COLOURS)
            if rng.random() < self.share:
                rows.append(row)
                colours.append(rng.uniform(-1.0, 1.0, 3).astype(np.float32))
        return rows, colours


class PictureEncoder:
    """Puts the latents of pictures into those of their groups; encodes `at_once` pictures in a batch, 0: all of them.

    `precision` is the type that torch's autocast computes in, None: as the autoencoder's weights.
    """

    def __init__(self, autoencoder: Autoencoder, *, at_once: int = 0, precision: torch.dtype | None = None) -> None:
        self.autoencoder, self.at_once, self.precision = autoencoder, at_once, precision

    def __call__(
        self,
        latents: Float[Tensor, "sample view channel h w"],
        cam2world: Float[Tensor, "sample view 4 4"],
        pictures: Pictures,
    ) -> Float[Tensor, "sample view channel h w"]:
        """The latents, on the CPU, with those of the pictures in the places of the stored ones."""
        device, half = self.autoencoder.device, latents.shape[2] // 2
        views, found, images = latents.shape[1], latents.clone(), []
        if pictures.rgb is not None and pictures.mask is not None:
            given = (each.to(device) for each in (pictures.rgb, pictures.mask, pictures.colours))
            images.append(on_colour(*given).flatten(0, 1))
        if pictures.normals is not None:
            turned = turn_normals(planes(pictures.normals.to(device)), world2frame("reference", cam2world.to(device)))
            images.append(turned.flatten(0, 1))
        encoded = self._encode(torch.cat(images))
        encoded = encoded.reshape(-1, views, *encoded.shape[1:])
        recoloured = len(pictures.rows)
        found[list(pictures.rows), :, :half] = encoded[:recoloured]
        if pictures.normals is not None:
            found[:, :, half:] = encoded[recoloured:]
        return found

    def _encode(self, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n channel h w"]:
        with torch.autocast(images.device.type, self.precision, enabled=self.precision is not None):
            return encode_batches(self.autoencoder, images, self.at_once or len(images))
