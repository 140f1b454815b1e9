"""Training an inspector on the previews of a generator's own heads, without labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spinmeround.models.screening.inspection.inspector import levelled
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.embedded.params import InspectorParams
from spinmeround.tasks.heads.sample_files import load_previews

UNSEEN_EVERY, LEAST_HEADS = 10, 20
"""One of so many heads is kept for measuring; and the least number of heads."""


def train_on_previews(
    folders: Sequence[Path], path: Path, params: InspectorParams, box_warp: float, report: Callable[[str], None]
) -> dict[str, float]:
    """Train on the previews of sample artifacts and write the network; returns what it finds on a tenth of the heads.

    Most heads must be clean: what many heads have is normal to the network. Raises ConfigError for too few heads, or
    previews of fewer than two level views.
    """
    from spinmeround.tasks.embedded.inspector import clean_features, measure_inspector, train_inspector, write_inspector
    from spinmeround.tasks.embedded.inspector_batches import Rings, small_ring

    if len(folders) < LEAST_HEADS:
        raise ConfigError(f"plan.heads: expected {LEAST_HEADS} or more heads with previews, got {len(folders)}")
    rings, azimuth_deg = [], np.zeros(0)
    for folder in folders:
        previews = load_previews(folder)
        rendering, cameras = levelled(previews.rendering, previews.cameras)
        if len(cameras) < 2:
            raise ConfigError("sample.previews: expected two or more azimuths at elevation 0, to train an inspector on")
        rings.append(small_ring(rendering, cameras, box_warp))
        azimuth_deg = cameras.azimuth_deg
    seen = [ring for index, ring in enumerate(rings) if index % UNSEEN_EVERY]
    clean = Rings.of(seen, azimuth_deg)
    network = train_inspector(clean, params, report)
    write_inspector(network, clean_features(network, clean, params.seed), path)
    return measure_inspector(network, Rings.of(rings[::UNSEEN_EVERY], azimuth_deg), params)
