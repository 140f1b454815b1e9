"""Single pictures of the heads of a dataset: views that show part of the face, each with its own embedding."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from spinmeround.tasks.loading.reader import read_view_identity
from spinmeround.tasks.training.batches import GroupBatch, GroupDraw, TrainingBatches


class FaceBatches(TrainingBatches):
    """The batches of `adapt` on heads: groups of one view, without normals.

    `train.identity` selects the embedding of the view itself or the mean of the head.
    """

    def read_groups(self, draw: GroupDraw, step: int) -> GroupBatch:
        """The batch of a draw of heads and views, with the latents of the images alone."""
        groups = super().read_groups(draw, step)
        return replace(groups, latents=groups.latents[:, :, : groups.latents.shape[2] // 2])

    def _identities(self, draw: GroupDraw) -> Float32[Tensor, "sample 512"]:
        if self.params.identity == "mean":
            return super()._identities(draw)
        rows = [
            read_view_identity(self._data, subject, views[0])
            for subject, views in zip(draw.subjects.tolist(), draw.views.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(rows))
