"""Single pictures of the heads of a dataset: views that show part of the face, each with its own embedding."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.loading.reader import read_view_identity
from spinmeround.tasks.training.data.batches import GroupBatch, TrainingBatches
from spinmeround.tasks.training.data.draws import GroupDraw, Share
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.statistics import head_statistics


class FaceBatches(TrainingBatches):
    """The batches of `adapt` on heads: groups of one view, without normals.

    `train.identity` selects the embedding of the view itself or the mean of the head. The UNet of single pictures
    holds no statistics of latents, so these are normalised here.
    """

    reads_normals = False

    def __init__(
        self,
        data: HeadDataset,
        subjects: Sequence[int],
        params: TrainParams,
        encode: EncodeParams,
        share: Share = range,
    ) -> None:
        super().__init__(data, subjects, params, encode, share)
        normalises = params.unet.latent_statistics
        self._statistics = head_statistics(data, subjects, params, encode) if normalises else None

    def encoded(self, groups: GroupBatch) -> GroupBatch:
        """The batch with its pictures encoded, and with the latents of the images alone."""
        groups = super().encoded(groups)
        images = groups.latents[:, :, : groups.latents.shape[2] // 2]
        return replace(groups, latents=self._statistics.normalised_images(images) if self._statistics else images)

    def _identities(self, draw: GroupDraw) -> Float32[Tensor, "sample 512"]:
        if self.params.identity == "mean":
            return super()._identities(draw)
        rows = [
            read_view_identity(self._data, subject, views[0])
            for subject, views in zip(draw.subjects.tolist(), draw.views.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(rows))
