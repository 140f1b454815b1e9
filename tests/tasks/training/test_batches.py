"""Which heads and views a step sees, and other backgrounds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path, load_autoencoder
from spinmeround.tasks.loading.tensors import on_colour
from spinmeround.tasks.loading.view_draws import nearest_views
from spinmeround.tasks.training.batches import LatentSource, draw_group, recolour, step_rng
from spinmeround.tasks.training.params import Grouping

CAMERAS = ViewGrid().cameras()
PAPER = Grouping(steps=1, conditioning=(0, 1, 3), targets=(8, 7, 5))


@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**7))
def test_a_group_is_a_function_of_seed_and_step(seed: int, step: int) -> None:
    """The same numbers give the same group; 8 different views; the first given one shows part of the face."""
    first, second = (draw_group(PAPER, range(5, 25), CAMERAS, 4, step_rng(seed, step, 0)) for _ in range(2))
    assert (first.views == second.views).all()
    assert (first.subjects == second.subjects).all()
    assert first.views.shape == (4, 8)
    assert all(len(set(row)) == 8 for row in first.views.tolist())
    assert set(first.subjects.tolist()) <= set(range(5, 25))
    azimuth = (CAMERAS.azimuth_deg[first.views[:, 0]] + 180) % 360 - 180
    assert (np.abs(azimuth) <= 90.01).all()


def test_all_numbers_of_conditioning_views_are_equally_likely() -> None:
    """0, 1 and 3 each in about a third of 3000 steps."""
    drawn = [draw_group(PAPER, [0], CAMERAS, 1, step_rng(0, step, 0)).conditioning for step in range(3000)]
    counts = np.bincount(drawn, minlength=4)
    assert counts[2] == 0
    assert (np.abs(counts[[0, 1, 3]] - 1000) < 100).all()


def test_too_few_views_are_named() -> None:
    """Eight views cannot be drawn from five."""
    with pytest.raises(ValueError, match="expected 8 views"):
        draw_group(PAPER, [0], CAMERAS[:5], 1, step_rng(0, 0, 0))


def test_groupings_must_pair_up() -> None:
    """As many numbers of targets as of conditioning views."""
    with pytest.raises(ValueError, match="equally long"):
        Grouping(steps=1, conditioning=(0, 1), targets=(8,))


def test_a_pair_has_its_own_number_of_groups() -> None:
    """Known numbers: 32 single views or 4 groups of 8, and their mean of 32 views a step; a list too short is named."""
    grouping = Grouping(steps=1, conditioning=(0, 1), targets=(1, 7), batches=(32, 4))
    drawn = {draw_group(grouping, [0], CAMERAS, 9, step_rng(0, step, 0)).views.shape for step in range(20)}
    assert drawn == {(32, 1), (4, 8)}
    assert grouping.views_a_step(9) == 32
    assert PAPER.views_a_step(4) == 32
    with pytest.raises(ValueError, match=r"batches: expected none or 2 numbers from 1, one a pair, got \[32\]"):
        Grouping(steps=1, conditioning=(0, 1), targets=(1, 7), batches=(32,))


def test_a_pair_has_its_own_range_of_first_views() -> None:
    """Single views from all sides of the face, groups of 8 that begin within 20 degrees of the front, where the grid
    has three azimuths; an azimuth behind the head is named."""
    grouping = Grouping(steps=1, conditioning=(0, 1), targets=(1, 7), facing_deg=(90, 20))
    first: dict[int, set[int]] = {1: set(), 8: set()}
    for step in range(300):
        views = draw_group(grouping, [0], CAMERAS, 4, step_rng(0, step, 0)).views
        first[views.shape[1]] |= {round((CAMERAS.azimuth_deg[view] + 180) % 360 - 180) for view in views[:, 0]}
    assert first[8] == {-14, 0, 14}
    assert len(first[1]) == 13
    with pytest.raises(ValueError, match=r"facing_deg: expected none or 2 azimuths .* got \[90.0, 100.0\]"):
        Grouping(steps=1, conditioning=(0, 1), targets=(1, 7), facing_deg=(90, 100))


def test_views_near_to_one_are_found_by_angle() -> None:
    """On the paper's grid: the frontal view's neighbours in azimuth are 14.4 degrees away, those in elevation 15; the
    ring closes, and near to 30 degrees of elevation the neighbours in azimuth are nearer, 12.5 degrees."""
    assert set(nearest_views(CAMERAS, 62, 3).tolist()) == {61, 62, 63}
    assert set(nearest_views(CAMERAS, 62, 5).tolist()) == {37, 61, 62, 63, 87}
    assert set(nearest_views(CAMERAS, 50, 3).tolist()) == {50, 51, 74}
    assert nearest_views(CAMERAS, 100, 3).tolist() == [100, 101, 124]
    assert sorted(nearest_views(CAMERAS, 7, 125).tolist()) == list(range(125))


def test_a_pair_has_its_own_neighbourhood() -> None:
    """All views but the first are among the 12 nearest to one view, which may be any; without neighbourhood they are
    not; one smaller than the group is named."""
    around = [set(nearest_views(CAMERAS, view, 12).tolist()) for view in range(len(CAMERAS))]
    grouping = Grouping(steps=1, conditioning=(3, 1), targets=(5, 7), nearest=(12, 0))
    together: dict[int, list[bool]] = {3: [], 1: []}
    seen: set[int] = set()
    for step in range(300):
        group = draw_group(grouping, [0], CAMERAS, 2, step_rng(0, step, 0))
        for views in group.views.tolist():
            assert len(set(views)) == 8
            together[group.conditioning].append(any(set(views[1:]) <= near for near in around))
            seen |= set(views[1:]) if group.conditioning == 3 else set()
    assert all(together[3])
    assert not any(together[1])
    assert len(seen) == len(CAMERAS)
    with pytest.raises(ValueError, match=r"nearest: expected none or 2 numbers.* views \[8, 8\] or 0.*, got \[5, 0\]"):
        Grouping(steps=1, conditioning=(3, 1), targets=(5, 7), nearest=(5, 0))
    with pytest.raises(ValueError, match=r"nearest: .* got \[4\]"):
        Grouping(steps=1, conditioning=(0,), targets=(1,), nearest=(4,))


def test_another_background_is_what_compositing_gives() -> None:
    """Round trip by compositing: a half-transparent red pixel on white, moved to blue."""
    red, white, blue = np.array([1.0, -1, -1]), np.ones(3), np.array([-1.0, -1, 1])
    mask = np.array([[[0, 128, 255]]], np.uint8)
    alpha = mask[..., None] / 255
    on_white = np.rint(((alpha * red + (1 - alpha) * white) + 1) * 127.5).astype(np.uint8)
    tensors = (torch.from_numpy(array) for array in (on_white, mask, blue.astype(np.float32)))
    moved = on_colour(*tensors)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(moved, (alpha * red + (1 - alpha) * blue)[0], atol=0.01)


def test_recolouring_encodes_anew(dataset: Path, encode_params: EncodeParams) -> None:
    """Share 0 changes nothing; share 1 changes image latents only, and on white it finds the stored ones."""
    data = HeadDataset.open(dataset)
    subjects = data.split("train")
    group = draw_group(
        Grouping(steps=1, conditioning=(1,), targets=(2,)),
        subjects,
        Cameras(**data.cameras()),
        2,
        step_rng(0, 0, 0),
    )
    latents = LatentSource(data, subjects, 64).read(group)
    autoencoder = load_autoencoder(autoencoder_path(encode_params))

    class White(np.random.Generator):
        def uniform(self, *arguments: object) -> np.ndarray:
            return np.ones(3)

    kept = recolour(latents, group, 0.0, data, autoencoder, np.random.default_rng(0))
    assert torch.equal(kept, latents)
    changed = recolour(latents, group, 1.0, data, autoencoder, np.random.default_rng(0))
    assert torch.equal(changed[:, :, 4:], latents[:, :, 4:])
    assert (changed[:, :, :4] - latents[:, :, :4]).abs().max() > 0.01
    white = recolour(latents, group, 1.0, data, autoencoder, White(np.random.PCG64(0)))
    assert torch.allclose(white, latents, atol=5e-3)
