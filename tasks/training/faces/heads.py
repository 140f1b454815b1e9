"""Single pictures of the heads of a dataset: views that show part of the face, each with its own embedding."""

from collections.abc import Sequence
from dataclasses import replace

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.data.batches import GroupBatch, TrainingBatches
from spinmeround.tasks.training.data.draws import Share
from spinmeround.tasks.training.data.statistics import head_statistics
from spinmeround.tasks.training.params import TrainParams


class FaceBatches(TrainingBatches):
    """The batches of `adapt` on heads: groups of one view, without normals.

    `train.identity` selects the embedding of the view itself or the mean of the head. The UNet of single pictures
    holds no statistics of latents, so these are normalised here.
    """

    reads_normals = False
    gives_view = True

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
