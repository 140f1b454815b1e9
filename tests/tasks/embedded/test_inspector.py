"""Training of the inspector."""

import numpy as np
import pytest
import torch

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.screening.inspection.places import KNOWN, MASK
from spinmeround.tasks.embedded.inspector import clean_features, clean_ring, measure_inspector, train_inspector
from spinmeround.tasks.embedded.inspector_batches import Rings, draw_batch, lit, posed
from spinmeround.tasks.embedded.params import InspectorParams

SMALL = InspectorParams(channels=(8, 8, 8), steps=3, batch=8, report_every=1, measured_batches=2)
GRID = ViewGrid(azimuths=4, elevations_deg=(0.0,))


@pytest.fixture(scope="module")
def rings() -> Rings:
    """The previews of one head as a surface and one as a volume."""
    return Rings.of([clean_ring(seed, GRID) for seed in (10_000_002, 10_000_003)], GRID.cameras().azimuth_deg)


def test_rings_keep_what_the_network_sees(rings: Rings) -> None:
    """Depth is kept to a 30,000th of the cube, and known on the head; the azimuth of a view is its own."""
    heads, views = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3])
    found = rings.views(heads, views)
    assert found.shape == (4, 6, 64, 64)
    assert (found[:, KNOWN] * (1.0 - found[:, MASK])).mean() < 0.01
    assert 0.05 < found[:, 4].abs().max() < 0.5
    expected = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])
    assert np.allclose(rings.directions(views).numpy(), expected, atol=1e-6)


def test_batches_are_half_clean(rings: Rings) -> None:
    """The first half has no changed pixel and is certain; most of the second half is anomalous; seeds decide all."""
    first, again = (draw_batch(rings, 32, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first.views, again.views)
    assert not first.changed[:16].any()
    assert not first.anomalous[:16].any()
    assert first.certain[:16].all()
    assert first.known[:16].all()
    assert first.anomalous[16:].mean() > 0.6


def test_mirrored_views_have_the_mirrored_azimuth(rings: Rings) -> None:
    """In a large batch the views from the left and the right are equally frequent, though all heads are seen alike."""
    sided = Rings(
        rings.colours[:, 1:2].repeat(1, 2, 1, 1, 1), rings.depth[:, 1:2].repeat(1, 2, 1, 1), torch.tensor([90.0, 90.0])
    )
    batch = draw_batch(sided, 64, torch.Generator().manual_seed(0))
    left = batch.views[:, 6, 0, 0] < 0
    assert 16 < left.sum() < 48
    columns = torch.arange(64.0) * batch.views[:, MASK]
    middle = columns.sum((1, 2)) / batch.views[:, MASK].sum((1, 2))
    clean = slice(0, 32)
    assert (middle[clean][left[clean]].mean() - 31.5) * (middle[clean][~left[clean]].mean() - 31.5) < 0


def test_augmentation_keeps_the_shape(rings: Rings) -> None:
    """Light and noise leave mask and known depth where they are; a pose moves a head by few pixels."""
    views = rings.views(torch.zeros(16, dtype=torch.long), torch.zeros(16, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    bright = lit(views, generator)
    assert torch.equal(bright[:, MASK], views[:, MASK])
    assert torch.equal(bright[:, KNOWN], views[:, KNOWN])
    moved = posed(views, torch.zeros(16, 1, 1, 1, dtype=torch.bool), generator)
    overlap = torch.minimum(moved[:, MASK], views[:, MASK]).sum((1, 2)) / views[:, MASK].sum((1, 2))
    assert overlap.min() > 0.8


def test_training_is_reproducible(rings: Rings) -> None:
    """Equal seeds give equal weights, whose figures are shares; the network is left in evaluation mode."""
    lines: list[str] = []
    first, again = (train_inspector(rings, SMALL, lines.append) for _ in range(2))
    assert not first.training
    assert len(lines) == 6
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert torch.isfinite(clean_features(first, rings, 0)(torch.zeros(4, 8, 8, 8), torch.zeros(4, 2))).all()
    figures = measure_inspector(first, rings, SMALL)
    assert all(0.0 <= value <= 1.0 for name, value in figures.items() if name != "views")
