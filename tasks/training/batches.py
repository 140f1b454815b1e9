"""The batch of a training step: which heads and views it has, and their latents, cameras and identities.

The kind of group that a step trains on is a function of (seed, step), each sample a function of (seed, step, index), so
an interrupted training resumes with the same batches. The first views of a group are its conditioning views. The very
first view, conditioning or not, is the reference of the cameras and shows part of the face (|azimuth| up to 90 degrees,
or less by `facing_deg`). The other views are any views, or neighbours by `nearest`. All views of a group differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.autoencoder import encode_batches, load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.loading.reader import SampleReader
from spinmeround.tasks.loading.tensors import on_colour
from spinmeround.tasks.loading.view_draws import draw_rng, draw_views, facing_views, nearest_views
from spinmeround.tasks.training.params import GroupParams, TrainingPhase, TrainParams

GROUP, VIEWS, COLOURS, DROPS, NOISE = range(5)
"""Purposes of random numbers: the group and the dropouts and noise of a step, the views and background of a sample."""


@dataclass(frozen=True, kw_only=True)
class GroupDraw:
    """The heads and views of one step: `views[i]` are of head `subjects[i]`, the first `conditioning` of them given."""

    subjects: Int64[np.ndarray, " sample"]
    views: Int64[np.ndarray, "sample view"]
    conditioning: int


@dataclass(frozen=True, kw_only=True)
class GroupBatch:
    """The clean data of one step, on the CPU; the first `conditioning` views of each sample are given.

    `heads` are the ids of the samples' heads.
    """

    latents: Float32[Tensor, "sample view channel h w"]
    """Image latents, then normal latents."""

    cam2world: Float32[Tensor, "sample view 4 4"]
    intrinsics: Float32[Tensor, "sample view 3 3"]
    identity: Float32[Tensor, "sample 512"]
    conditioning: int
    heads: tuple[str, ...]


def draw_groups(
    phase: TrainingPhase, subjects: Sequence[int], cameras: Cameras, *, batch: int, seed: int, step: int
) -> GroupDraw:
    """Draw the heads and views of one step; `batch` is the number of groups if their kind sets none.

    `cameras` are those of all views of a head. Raises ValueError if they are fewer than the views of a group.
    """
    if phase.largest > len(cameras):
        raise ValueError(f"train: expected {phase.largest} views a head or more, the dataset has {len(cameras)}")
    weights = np.array([group.weight for group in phase.groups])
    kind = int(draw_rng(seed, step, 0, GROUP).choice(len(weights), p=weights / weights.sum()))
    group = phase.groups[kind]
    drawn, rows = [], []
    for index in range(group.batch or batch):
        rng = draw_rng(seed, step, index, VIEWS)
        drawn.append(int(rng.choice(np.asarray(subjects))))
        rows.append(_draw_group_views(group, cameras, rng))
    return GroupDraw(subjects=np.array(drawn), views=np.stack(rows), conditioning=group.conditioning)


def _draw_group_views(group: GroupParams, cameras: Cameras, rng: np.random.Generator) -> Int64[np.ndarray, " view"]:
    facing, others = facing_views(cameras.azimuth_deg, group.facing_deg), np.arange(len(cameras))
    if group.nearest:
        others = nearest_views(cameras, int(rng.integers(len(cameras))), group.nearest)
    return draw_views(group.views, facing, others, rng)


class TrainingBatches:
    """The batches of a training on the heads `subjects`, by step."""

    def __init__(self, data: HeadDataset, subjects: Sequence[int], params: TrainParams, encode: EncodeParams) -> None:
        self.subjects, self.params, self._ids = subjects, params, data.ids
        self.cameras = Cameras(**data.cameras(subjects[0]))
        self._latents = SampleReader(data, ("latents",))
        self._latents.hold_latents(subjects, params.memory_mb)
        self._images = SampleReader(data, ("rgb", "mask"), cameras=False, identity=False)
        self._autoencoder = load_autoencoder(autoencoder_path(encode)) if params.random_background else None

    def draw(self, step: int) -> GroupDraw:
        """The heads and views of a step."""
        phase, batch, seed = self.params.phase_at(step), self.params.batch, self.params.seed
        return draw_groups(phase, self.subjects, self.cameras, batch=batch, seed=seed, step=step)

    def read(self, step: int) -> GroupBatch:
        """The batch of a step. Raises DatasetError if a file of the dataset is missing or damaged."""
        draw = self.draw(step)
        batch = self._latents.read(draw.subjects, draw.views)
        return GroupBatch(
            latents=self._recoloured(batch["latents"].float(), draw, step),
            cam2world=batch["cam2world"],
            intrinsics=batch["intrinsics"],
            identity=batch["identity"],
            conditioning=draw.conditioning,
            heads=tuple(self._ids[subject] for subject in draw.subjects),
        )

    def _recoloured(
        self, latents: Float[Tensor, "sample view channel h w"], draw: GroupDraw, step: int
    ) -> Float[Tensor, "sample view channel h w"]:
        """The latents with a share `random_background` of the samples encoded again, each on a random colour."""
        if self._autoencoder is None:
            return latents
        recoloured = latents.clone()
        for sample in range(len(latents)):
            rng = draw_rng(self.params.seed, step, sample, COLOURS)
            if rng.random() >= self.params.random_background:
                continue
            colour = torch.from_numpy(rng.uniform(-1.0, 1.0, 3).astype(np.float32))
            batch = self._images.read(draw.subjects[[sample]], draw.views[[sample]])
            images = on_colour(batch["rgb"][0], batch["mask"][0], colour)
            encoded = encode_batches(self._autoencoder, images, batch=len(images))
            recoloured[sample, :, : encoded.shape[1]] = encoded
        return recoloured
