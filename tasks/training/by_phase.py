"""The batches and the loss of a phase: `adapt` trains on single pictures, the other phases on groups of views."""

from collections.abc import Sequence

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.data.batches import TrainingBatches
from spinmeround.tasks.training.data.draws import Share
from spinmeround.tasks.training.faces.heads import FaceBatches
from spinmeround.tasks.training.faces.loss import FaceLoss
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.step import GroupLoss


def phase_batches(
    data: HeadDataset, subjects: Sequence[int], params: TrainParams, encode: EncodeParams, share: Share = range
) -> TrainingBatches:
    """The batches of a training on the heads `subjects`; of each, the `share` of one process."""
    made = FaceBatches if params.name == "adapt" else TrainingBatches
    return made(data, subjects, params, encode, share)


def phase_loss(networks: Networks, params: TrainParams) -> GroupLoss:
    """The loss of a training's networks."""
    return (FaceLoss if params.name == "adapt" else GroupLoss)(networks, params)
