"""The batches of `adapt` on prepared pictures: each a function of (seed, step, index)."""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Float32
from torch import Tensor

from spinmeround.models.identity.params import EMBEDDING_SIZE
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.training.data.batches import GroupBatch, StepBatches
from spinmeround.tasks.training.data.draws import VIEWS, GroupDraw, Share, draw_kind
from spinmeround.tasks.training.data.statistics import Moments
from spinmeround.tasks.training.params import TrainParams

_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class PreparedFaces:
    """The shards of a source: the keys and the folders of their artifacts."""

    keys: tuple[str, ...]
    folders: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class FaceArrays:
    """The arrays of one shard, mapped into memory."""

    about: dict[str, Any]
    identities: Float32[np.ndarray, "picture 512"]
    latents: Float16[np.ndarray, "picture channel h w"]

    @classmethod
    def open(cls, folder: Path) -> "FaceArrays":
        """The artifact of a shard."""
        about = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
        count, shape = about["count"], tuple(about["shape"])
        if not count:  # an empty file can't be mapped
            nothing = np.zeros((0, EMBEDDING_SIZE), "<f4")
            return cls(about=about, identities=nothing, latents=np.zeros((0, 0, 0, 0), "<f2"))
        return cls(
            about=about,
            identities=np.memmap(folder / "identities.f32", "<f4", "r", shape=(count, EMBEDDING_SIZE)),
            latents=np.memmap(folder / "latents.f16", "<f2", "r", shape=(count, *shape)),
        )


class FacePictures(StepBatches):
    """The batches of a training on the pictures of these shards, by step; of each, the `share` of one process.

    The subjects of a draw are numbers of pictures.
    """

    def __init__(self, folders: Sequence[Path], params: TrainParams, share: Share = range) -> None:
        self.params, self.share, self.shards = params, share, [FaceArrays.open(folder) for folder in folders]
        self._ends = [*accumulate(len(shard.identities) for shard in self.shards)]
        _check_dropped(self.shards, params.adapt.faces.most_dropped)
        normalises = params.unet.latent_statistics
        self._statistics = Moments.of(self._latents(), halves=1).statistics() if normalises else None

    def __len__(self) -> int:
        return self._ends[-1]

    def draw(self, step: int, share: Share | None = None) -> GroupDraw:
        """The pictures of a step, by default of this process's share."""
        params = self.params
        batch = draw_kind(params.phase, seed=params.draws_seed, step=step).batch or params.batch
        indices = tuple((share or self.share)(batch))
        drawn = [int(draw_rng(params.draws_seed, step, index, VIEWS).integers(len(self))) for index in indices]
        views = np.zeros((len(indices), 1), np.int64)
        return GroupDraw(subjects=np.array(drawn), views=views, conditioning=0, indices=indices, batch=batch)

    def read_groups(self, draw: GroupDraw, step: int) -> GroupBatch:
        """The batch of a draw. A picture has no camera; those of its group are zero."""
        places, samples = self._places(draw), len(draw.subjects)
        stored = np.stack([self.shards[shard].latents[row] for shard, row in places])
        latents = torch.from_numpy(stored)[:, None].float()
        return GroupBatch(
            latents=self._statistics.normalised_images(latents) if self._statistics else latents,
            cam2world=torch.zeros(samples, 1, 4, 4),
            intrinsics=torch.zeros(samples, 1, 3, 3),
            identity=torch.from_numpy(np.stack([self.shards[shard].identities[row] for shard, row in places])),
            conditioning=draw.conditioning,
            heads=self._names(draw),
            views=draw.views,
            indices=draw.indices,
            batch=draw.batch,
        )

    def described(self, step: int) -> str:
        """The pictures of the whole batch of a step, in words."""
        return "pictures: " + ", ".join(self._names(self.draw(step, range)))

    def _latents(self) -> Iterator[Tensor]:
        """The latents of all pictures, in parts."""
        for shard in self.shards:
            for start in range(0, len(shard.latents), _AT_ONCE):
                yield torch.from_numpy(np.array(shard.latents[start : start + _AT_ONCE]))

    def _names(self, draw: GroupDraw) -> tuple[str, ...]:
        return tuple(str(self.shards[shard].about["names"][row]) for shard, row in self._places(draw))

    def _places(self, draw: GroupDraw) -> list[tuple[int, int]]:
        """Shard and row of each picture of a draw."""
        shards = [bisect_right(self._ends, number) for number in draw.subjects.tolist()]
        starts = [0, *self._ends]
        return [(shard, number - starts[shard]) for shard, number in zip(shards, draw.subjects.tolist(), strict=True)]


def _check_dropped(shards: Sequence[FaceArrays], most: float) -> None:
    """Raises SpinMeRoundError, with the commonest reason, if too many pictures can't be used, or all of them."""
    dropped = [reason for shard in shards for reason in shard.about["dropped"].values()]
    used = sum(shard.about["count"] for shard in shards)
    if used and len(dropped) <= most * (used + len(dropped)):
        return
    (reason, count), *_ = Counter(dropped).most_common(1) or [("no picture", 0)]
    raise SpinMeRoundError(
        f"train.adapt.faces: expected at most {most:.0%} of the pictures to be dropped, found {len(dropped)} of "
        f"{used + len(dropped)}, {count} of them with: {reason}; see dropped in faces.json of the stage faces, or "
        "raise train.adapt.faces.most_dropped"
    )
