"""The recipe of the embedded inspector: heads, augmentation, training and measurement."""

import numpy as np
import torch

from spinmeround.models.screening.inspection import SIDE, VIEWS
from spinmeround.tasks.embedded.inspector import (
    Inspected,
    Rings,
    augmented,
    inspected_head,
    measure_inspector,
    train_inspector,
)
from spinmeround.tasks.embedded.params import InspectorParams


def drawn(count: int) -> Inspected:
    """Grey discs; every second one has a bright spot that is its change."""
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    disc = rows**2 + columns**2 < 24**2
    heads = []
    for index in range(count):
        previews = np.zeros((VIEWS, 6, SIDE, SIDE), np.float32)
        previews[:, :3] = np.where(disc, 0.4, 1.0)
        previews[:, 3] = previews[:, 5] = disc
        changed, rng = np.zeros((VIEWS, SIDE, SIDE), bool), np.random.default_rng(index)
        if index % 2:
            row, column = rng.integers(20, 40, 2)
            changed[index % VIEWS, row : row + 6, column : column + 6] = True
            previews[:, 0][changed] = 0.9
        heads.append((previews, changed, 0.5 * (index % 2)))
    return Inspected.of(heads, least_changed=1)


def test_the_changed_pixels_are_those_that_differ():
    """A clean head has none; of a changed one they are on the head, and some are there."""
    previews, changed, strength = inspected_head(50_000_000, Rings())
    assert previews.shape == (VIEWS, 6, SIDE, SIDE)
    assert strength == 0.0
    assert not changed.any()
    previews, changed, strength = inspected_head(60_000_000, Rings(changed=True))
    assert strength > 0.0
    assert changed.any()
    assert not (changed & (previews[:, 5] == 0)).any()


def test_changes_that_nobody_sees_do_not_count():
    """A head whose change shows in fewer pixels than asked is left out; clean heads stay."""
    previews, changed = np.zeros((VIEWS, 6, SIDE, SIDE), np.float32), np.zeros((VIEWS, SIDE, SIDE), bool)
    changed[0, 0, :3] = True
    heads = [(previews, changed, 0.4), (previews, np.zeros_like(changed), 0.0)]
    assert Inspected.of(heads, least_changed=4).strength.tolist() == [0.0]
    assert len(Inspected.of(heads, least_changed=3).strength) == 2


def test_changes_move_with_their_pictures():
    """After mirroring, the pixels marked as changed are still the bright ones; backgrounds stay white."""
    heads = drawn(16)
    previews, changed = augmented(
        heads.previews.float(), heads.changed.float(), torch.Generator().manual_seed(0)
    )
    marked = changed > 0
    unmarked = (previews[:, :, 3] > 0) & ~marked
    assert previews[:, :, 0][marked].min() > previews[:, :, 0][unmarked].mean()
    assert (changed != heads.changed.float()).any()
    assert previews[:, :, :3].permute(0, 1, 3, 4, 2)[previews[:, :, 3] == 0].mean() > 0.95


def test_training_finds_spots():
    """A few steps tell discs with a spot from those without, on discs that were not trained on."""
    params = InspectorParams(steps=60, batch=8, learning_rate=3e-3, average=0.9)
    network = train_inspector(drawn(32), params)
    rest = drawn(64)
    unseen = Inspected(rest.previews[32:], rest.changed[32:], rest.strength[32:])
    assert measure_inspector(network, unseen)["area"] > 0.9
