"""The batch of a training step: which heads and views it has, and their latents, cameras and identities.

The kind of group that a step trains on is a function of (seed, step), each sample a function of (seed, step, index), so
an interrupted training resumes with the same batches. The first views of a group are its conditioning views. The very
first view, conditioning or not, is the reference of the cameras and shows part of the face (|azimuth| up to 90 degrees,
or less by `facing_deg`). The other views are any views, or neighbours by `nearest`. All views of a group differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.autoencoder import encode_batches, load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.loading.reader import SampleReader, read_view_identity
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
    """The clean data of one step or a part of it, on the CPU; the first `conditioning` views of each sample are given.

    `heads` are the ids of the samples' heads, `views` their views, `indices` their positions in the batch of the step.
    """

    latents: Float32[Tensor, "sample view channel h w"]
    """Image latents, then normal latents."""

    cam2world: Float32[Tensor, "sample view 4 4"]
    intrinsics: Float32[Tensor, "sample view 3 3"]
    identity: Float32[Tensor, "sample 512"]
    conditioning: int
    heads: tuple[str, ...]
    views: Int64[np.ndarray, "sample view"]
    indices: tuple[int, ...]

    def parts(self, size: int) -> Iterator["GroupBatch"]:
        """The batch in parts of at most `size` samples."""
        for start in range(0, len(self.heads), size):
            rows = slice(start, start + size)
            yield GroupBatch(
                latents=self.latents[rows],
                cam2world=self.cam2world[rows],
                intrinsics=self.intrinsics[rows],
                identity=self.identity[rows],
                conditioning=self.conditioning,
                heads=self.heads[rows],
                views=self.views[rows],
                indices=self.indices[rows],
            )


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
        self.subjects, self.params, self._data = subjects, params, data
        self.cameras = Cameras(**data.cameras(subjects[0]))
        self._latents = SampleReader(data, ("latents",), identity=False)
        self._latents.hold_latents(subjects, params.memory_mb)
        self._images = SampleReader(data, ("rgb", "mask"), cameras=False, identity=False)
        self._normals = SampleReader(data, ("normals",), cameras=False, identity=False)
        self._in_reference = encode.normals_frame == "reference"
        encodes = self._in_reference or params.random_background
        self._autoencoder = load_autoencoder(autoencoder_path(encode)) if encodes else None

    def draw(self, step: int) -> GroupDraw:
        """The heads and views of a step."""
        phase, batch, seed = self.params.phase_at(step), self.params.batch, self.params.seed
        return draw_groups(phase, self.subjects, self.cameras, batch=batch, seed=seed, step=step)

    def read(self, step: int) -> GroupBatch:
        """The batch of a step. Raises DatasetError if a file of the dataset is missing or damaged."""
        return self.read_groups(self.draw(step), step)

    def read_groups(self, draw: GroupDraw, step: int) -> GroupBatch:
        """The batch of a draw of heads and views; `step` sets the backgrounds."""
        batch = self._latents.read(draw.subjects, draw.views)
        latents = self._recoloured(batch["latents"].float(), draw, step)
        if self._in_reference:
            latents = self._with_reference_normals(latents, draw, batch["cam2world"])
        return GroupBatch(
            latents=latents,
            cam2world=batch["cam2world"],
            intrinsics=batch["intrinsics"],
            identity=self._identities(draw),
            conditioning=draw.conditioning,
            heads=tuple(self._data.ids[subject] for subject in draw.subjects),
            views=draw.views,
            indices=tuple(range(len(draw.subjects))),
        )

    def _identities(self, draw: GroupDraw) -> Float32[Tensor, "sample 512"]:
        """The embedding that each sample is conditioned on."""
        given = draw.views[:, 0].tolist() if self.params.identity == "view" and draw.conditioning else None
        views = given or [None] * len(draw.subjects)
        rows = [read_view_identity(self._data, *pair) for pair in zip(draw.subjects.tolist(), views, strict=True)]
        return torch.from_numpy(np.stack(rows))

    def _recoloured(
        self, latents: Float[Tensor, "sample view channel h w"], draw: GroupDraw, step: int
    ) -> Float[Tensor, "sample view channel h w"]:
        """The latents with a share `random_background` of the samples encoded again, each on a random colour."""
        if self._autoencoder is None or not self.params.random_background:
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

    def _with_reference_normals(
        self,
        latents: Float[Tensor, "sample view channel h w"],
        draw: GroupDraw,
        cam2world: Float[Tensor, "sample view 4 4"],
    ) -> Float[Tensor, "sample view channel h w"]:
        """The latents with the normals of each group encoded again, in the frame of its first view."""
        assert self._autoencoder is not None
        normals = self._normals.read(draw.subjects, draw.views)["normals"]
        images = normals.movedim(-1, -3).float() / 127.5 - 1
        turned = turn_normals(images, world2frame("reference", cam2world)).flatten(0, 1)
        encoded = encode_batches(self._autoencoder, turned, batch=draw.views.shape[1])
        halves = latents.clone()
        halves[:, :, latents.shape[2] // 2 :] = encoded.reshape(*latents.shape[:2], *encoded.shape[1:])
        return halves
