"""FID and KID of all predicted pictures of an evaluation, if the weights of their feature network are there."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from spinmeround.models.metrics.definitions import METRICS
from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.heads import HeadScorer, ScoredHead
from spinmeround.tasks.evaluation.params import TRUTH, Metrics
from spinmeround.tasks.loading.view_images import read_views

if TYPE_CHECKING:
    from torch import nn

_NAMES = [name for name, metric in METRICS.items() if metric.of_set]


def set_metrics(
    data: HeadDataset, scorer: HeadScorer, heads: Sequence[ScoredHead], network: "nn.Module | Missing"
) -> tuple[dict[str, Metrics], dict[str, str]]:
    """The metrics by prediction, by features of `network`, and the reason for each that is missing."""
    names = [name for name in heads[0].scores if name != TRUTH]
    pictures = sum(len(head.views.targets) for head in heads)
    if pictures < 2:
        network = Missing("one picture has no distribution")
    if isinstance(network, Missing):
        nothing: Metrics = dict.fromkeys(_NAMES)
        return dict.fromkeys(names, nothing), dict.fromkeys(_NAMES, network.reason)
    from spinmeround.models.metrics.distribution import FeatureDistances  # torchmetrics is slow to import

    distances = FeatureDistances(network, (read_views(data, h.views.subject, h.views.targets).rgb for h in heads))

    def predicted(name: str) -> Iterator[UInt8[np.ndarray, "view height width 3"]]:
        return (scorer.pictures(name, head).rgb for head in heads)

    return {name: dict(distances(predicted(name))) for name in names}, {}
