"""The batch of a training step, or one process's share of it: the latents, cameras and identities of its groups."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.autoencoder import load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.loading.reader import SampleReader, read_view_identity
from spinmeround.tasks.training.data.draws import GroupDraw, Share, draw_groups
from spinmeround.tasks.training.data.pictures import PictureEncoder, PictureReader, Pictures
from spinmeround.tasks.training.model.precision import autocast_dtype
from spinmeround.tasks.training.params import TrainParams


@dataclass(frozen=True, kw_only=True)
class GroupBatch:
    """The clean data of one step or a part of it, on the CPU; the first `conditioning` views of each sample are given.

    `heads` are the ids of the samples' heads, `views` their views, `indices` their positions in the `batch` groups of
    the step. `pictures` are still to be encoded. `has_normals` is None if all heads have normals.
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
    batch: int
    pictures: Pictures | None = None
    has_normals: Bool[Tensor, " sample"] | None = None

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
                batch=self.batch,
                has_normals=None if self.has_normals is None else self.has_normals[rows],
            )


class StepBatches(ABC):
    """The batches of a training, by step."""

    @abstractmethod
    def draw(self, step: int, share: Share | None = None) -> GroupDraw:
        """What a step trains on, by default the share of this process."""

    @abstractmethod
    def read_groups(self, draw: GroupDraw, step: int) -> GroupBatch:
        """What the files hold of a draw; pictures are not encoded."""

    @abstractmethod
    def described(self, step: int) -> str:
        """The whole batch of a step in words."""

    def encoded(self, groups: GroupBatch) -> GroupBatch:
        """The batch with its pictures encoded."""
        return groups

    def read(self, step: int) -> GroupBatch:
        """The batch of a step. Raises DatasetError if a file of the dataset is missing or damaged."""
        return self.encoded(self.read_groups(self.draw(step), step))


class TrainingBatches(StepBatches):
    """The batches of a training on the heads `subjects`, by step; of each, the `share` of one process."""

    reads_normals = True
    """Whether the normals matter."""

    gives_view = False
    """Whether the first view gives the identity, even where it is no conditioning view."""

    def __init__(
        self,
        data: HeadDataset,
        subjects: Sequence[int],
        params: TrainParams,
        encode: EncodeParams,
        share: Share = range,
    ) -> None:
        self.subjects, self.params, self.share, self._data = subjects, params, share, data
        self._latents = SampleReader(data, ("latents",), identity=False)
        self._latents.hold_latents(subjects, params.memory_mb)
        turned = self.reads_normals and params.unet.normals and encode.normals_frame == "reference"
        self.pictures = PictureReader(data, share=params.random_background, seed=params.draws_seed, normals=turned)
        self._encoder: PictureEncoder | None = None
        if turned or params.random_background:
            at_once = params.micro_batch * params.phase.largest
            autoencoder = load_autoencoder(autoencoder_path(encode))
            self._encoder = PictureEncoder(autoencoder, at_once=at_once, precision=autocast_dtype(params.precision))

    def draw(self, step: int, share: Share | None = None) -> GroupDraw:
        """The heads and views of a step, by default of this process's share."""
        return draw_groups(
            self.params.phase,
            self.subjects,
            self.cameras_of,
            batch=self.params.batch,
            seed=self.params.draws_seed,
            step=step,
            share=share or self.share,
        )

    def cameras_of(self, subject: int) -> Cameras:
        """The cameras of all views of a head."""
        return Cameras(**self._data.cameras(subject))

    def described(self, step: int) -> str:
        """Heads and views of the whole batch of a step, in words."""
        draw = self.draw(step, range)
        rows = zip(draw.subjects, draw.views.tolist(), strict=True)
        return "heads and views: " + ", ".join(f"{self._data.ids[head]} {' '.join(map(str, v))}" for head, v in rows)

    def read_groups(self, draw: GroupDraw, step: int) -> GroupBatch:
        """What the files hold of a draw of heads and views, its pictures not encoded; `step` sets the backgrounds."""
        batch = self._latents.read(draw.subjects, draw.views)
        return GroupBatch(
            latents=batch["latents"].float(),
            cam2world=batch["cam2world"],
            intrinsics=batch["intrinsics"],
            identity=self._identities(draw),
            conditioning=draw.conditioning,
            heads=tuple(self._data.ids[subject] for subject in draw.subjects),
            views=draw.views,
            indices=draw.indices,
            batch=draw.batch,
            pictures=self.pictures.read(draw, step) if self._encoder else None,
            has_normals=torch.tensor([self._data.has_normals(subject) for subject in draw.subjects.tolist()]),
        )

    def encoded(self, groups: GroupBatch) -> GroupBatch:
        """The batch with its pictures encoded."""
        if groups.pictures is None or self._encoder is None:
            return groups
        latents = self._encoder(groups.latents, groups.cam2world, groups.pictures)
        return replace(groups, latents=latents, pictures=None)

    def _identities(self, draw: GroupDraw) -> Float[Tensor, "sample 512"]:
        """The embedding that each sample is conditioned on: of its first view if that is given, or of its head."""
        of_view = self.params.identity == "view" and (draw.conditioning or self.gives_view)
        views = draw.views[:, 0].tolist() if of_view else [None] * len(draw.subjects)
        rows = [read_view_identity(self._data, *pair) for pair in zip(draw.subjects.tolist(), views, strict=True)]
        return torch.from_numpy(np.stack(rows))
