"""Which heads and views a training step sees, and their latents.

What a step sees is a function of (seed, step) alone, so training that was interrupted goes on with the
very batches that it would have had. The first views of a group are the conditioning ones, the first of
them shows part of the face (|azimuth| up to 90 degrees); no view stands twice in a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.models import AutoencoderKL
from einops import rearrange
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from storage.dataset import HeadDataset
from tasks.encode import encode_images
from tasks.train_params import Grouping

LATENT_ARRAYS = ("latents/rgb", "latents/normals")


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
    azimuth_deg: Float32[np.ndarray, " all_views"],
    batch: int,
    rng: np.random.Generator,
) -> Group:
    """Heads and views of one step; raises ValueError where the dataset has too few views."""
    if grouping.largest > len(azimuth_deg):
        raise ValueError(f"train: expected {grouping.largest} views a head or more, the dataset has {len(azimuth_deg)}")
    choice = int(rng.integers(len(grouping.conditioning)))
    given, targets = grouping.conditioning[choice], grouping.targets[choice]
    facing = np.flatnonzero(np.abs((azimuth_deg.astype(np.float64) + 180) % 360 - 180) <= 90 + 1e-3)
    if not len(facing):
        raise ValueError("train: expected a view with |azimuth| up to 90 degrees, the dataset has none")
    rows = []
    for _ in range(batch):
        order = rng.permutation(len(azimuth_deg))
        if given:
            first = rng.choice(facing)
            order = np.concatenate([[first], order[order != first]])
        rows.append(order[: given + targets])
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
        arrays = self.dataset.read_views(subject, list(views), LATENT_ARRAYS)
        both = np.concatenate([arrays[name] for name in LATENT_ARRAYS], axis=1)
        return torch.from_numpy(both.astype(np.float32))


def recolour(
    latents: Float[Tensor, "batch view channel h w"],
    group: Group,
    share: float,
    dataset: HeadDataset,
    autoencoder: AutoencoderKL,
    rng: np.random.Generator,
) -> Float[Tensor, "batch view channel h w"]:
    """The same groups, a `share` of them on a random colour each instead of white, encoded anew."""
    recoloured = latents.clone()
    for sample in np.flatnonzero(rng.random(len(latents)) < share):
        arrays = dataset.read_views(int(group.subjects[sample]), group.views[sample].tolist(), ("rgb", "mask"))
        images = on_colour(arrays["rgb"], arrays["mask"], rng.uniform(-1.0, 1.0, 3).astype(np.float32))
        encoded = encode_images(autoencoder, images, batch=len(images))
        recoloured[sample, :, : encoded.shape[1]] = encoded
    return recoloured


def on_colour(rgb: np.ndarray, mask: np.ndarray, colour: Float32[np.ndarray, "3"]) -> Float[Tensor, "view 3 h w"]:
    """Bytes on white to pictures in [-1, 1] on another colour: c = c_white - (1 - alpha) (white - colour)."""
    alpha = mask[..., None].astype(np.float32) / 255
    picture = rgb.astype(np.float32) / 127.5 - 1 - (1 - alpha) * (1 - colour)
    return rearrange(torch.from_numpy(picture), "v h w c -> v c h w")
