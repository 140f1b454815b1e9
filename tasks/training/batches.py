"""Which heads and views a training step sees, and their latents.

What a step sees is a function of (seed, step) alone, so training that was interrupted goes on with the
very batches that it would have had. The first views of a group are the conditioning ones. The very
first, given or not, is the one that cameras are relative to: it shows part of the face (|azimuth| up to 90 degrees, or
less where a profile asks for that). The others are any views, or, where a profile asks for that, neighbours.
No view stands twice in a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spinmeround.models.diffusion.groups import PART_OF_THE_FACE_DEG
from spinmeround.models.diffusion.latents import Autoencoder
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import encode_images
from spinmeround.tasks.loading.samples import read_latents
from spinmeround.tasks.loading.tensors import on_colour
from spinmeround.tasks.loading.view_draws import draw_views, facing_views, nearest_views
from spinmeround.tasks.training.params import Grouping


@dataclass(frozen=True, kw_only=True)
class Group:
    """What one step trains on: for each sample a head and its views, the first `conditioning` of them given."""

    subjects: Int64[np.ndarray, " batch"]
    views: Int64[np.ndarray, "batch view"]
    conditioning: int


def step_rng(seed: int, step: int, purpose: int) -> np.random.Generator:
    """The random numbers of one step for one purpose."""
    return np.random.default_rng([seed, step, purpose])


def draw_group(
    grouping: Grouping,
    subjects: Sequence[int],
    cameras: Cameras,
    batch: int,
    rng: np.random.Generator,
) -> Group:
    """Heads and views of one step, `batch` groups where `grouping` does not say how many; `cameras` are those of all
    views of a head.

    Raises ValueError where the dataset has too few views.
    """
    if grouping.largest > len(cameras):
        raise ValueError(f"train: expected {grouping.largest} views a head or more, the dataset has {len(cameras)}")
    choice = int(rng.integers(len(grouping.conditioning)))
    given, targets = grouping.conditioning[choice], grouping.targets[choice]
    batch = grouping.batches[choice] if grouping.batches else batch
    limit_deg = grouping.facing_deg[choice] if grouping.facing_deg else PART_OF_THE_FACE_DEG
    facing = facing_views(cameras.azimuth_deg, limit_deg)
    near = grouping.nearest[choice] if grouping.nearest else 0
    rows = []
    for _ in range(batch):
        others = nearest_views(cameras, int(rng.integers(len(cameras))), near) if near else np.arange(len(cameras))
        rows.append(draw_views(given + targets, facing, others, rng))
    return Group(subjects=rng.choice(np.asarray(subjects), batch), views=np.stack(rows), conditioning=given)


class LatentSource:
    """The latents of a dataset's heads, in memory where all of `subjects` fit into `memory_mb`."""

    def __init__(self, dataset: HeadDataset, subjects: Sequence[int], memory_mb: int) -> None:
        self.dataset = dataset
        self._held: dict[int, Float[Tensor, "view channel h w"]] = {}
        one = self._read(subjects[0], range(1))
        if one.nbytes * dataset.views * len(subjects) <= memory_mb * 2**20:
            self._held = {subject: self._read(subject, range(dataset.views)) for subject in subjects}

    def read(self, group: Group) -> Float[Tensor, "batch view channel h w"]:
        """Image latents, then normal latents, of the group's views."""
        samples = [
            self._held[int(subject)][torch.from_numpy(views)]
            if int(subject) in self._held
            else self._read(int(subject), views.tolist())
            for subject, views in zip(group.subjects, group.views, strict=True)
        ]
        return torch.stack(samples)

    def _read(self, subject: int, views: Sequence[int]) -> Float[Tensor, "view channel h w"]:
        return torch.from_numpy(read_latents(self.dataset, subject, views)).float()


def recolour(
    latents: Float[Tensor, "batch view channel h w"],
    group: Group,
    share: float,
    dataset: HeadDataset,
    autoencoder: Autoencoder,
    rng: np.random.Generator,
) -> Float[Tensor, "batch view channel h w"]:
    """The same groups, a `share` of them on a random colour each instead of white, encoded anew."""
    recoloured = latents.clone()
    for sample in np.flatnonzero(rng.random(len(latents)) < share):
        arrays = dataset.read_views(int(group.subjects[sample]), group.views[sample].tolist(), ("rgb", "mask"))
        rgb, mask = torch.from_numpy(arrays["rgb"]), torch.from_numpy(arrays["mask"])
        images = on_colour(rgb, mask, torch.from_numpy(rng.uniform(-1.0, 1.0, 3).astype(np.float32)))
        encoded = encode_images(autoencoder, images, batch=len(images))
        recoloured[sample, :, : encoded.shape[1]] = encoded
    return recoloured
