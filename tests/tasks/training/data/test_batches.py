"""Which heads and views a training step sees, what is read of them, and random backgrounds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.autoencoder import as_images, encode_batches, load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.loading.params import ViewParams
from spinmeround.tasks.loading.samples import HeadViews
from spinmeround.tasks.loading.tensors import on_colour
from spinmeround.tasks.loading.view_draws import nearest_views
from spinmeround.tasks.training.data.batches import TrainingBatches
from spinmeround.tasks.training.data.draws import GroupDraw, draw_groups
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import GroupParams, MultiViewPhase, TrainingPhase

MakeTrainParams = Callable[..., TrainParams]
CAMERAS = ViewGrid().cameras()
PAPER = MultiViewPhase()


def phase(*groups: GroupParams) -> TrainingPhase:
    return TrainingPhase(steps=1, groups=groups)


def draw(of: TrainingPhase, step: int, *, batch: int = 1, cameras: Cameras = CAMERAS) -> GroupDraw:
    return draw_groups(of, [0], lambda _: cameras, batch=batch, seed=0, step=step)


@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**7))
def test_a_draw_is_a_function_of_seed_step_and_index(seed: int, step: int) -> None:
    """Equal numbers give equal draws, whatever the batch; 8 different views; the first one shows part of the face."""
    four, two = (draw_groups(PAPER, range(5, 25), lambda _: CAMERAS, batch=n, seed=seed, step=step) for n in (4, 2))
    assert (four.views[:2] == two.views).all()
    assert (four.subjects[:2] == two.subjects).all()
    assert four.views.shape == (4, 8)
    assert all(len(set(row)) == 8 for row in four.views.tolist())
    assert set(four.subjects.tolist()) <= set(range(5, 25))
    azimuth = (CAMERAS.azimuth_deg[four.views[:, 0]] + 180) % 360 - 180
    assert (np.abs(azimuth) <= 90.01).all()


def test_kinds_of_groups_are_drawn_by_weight() -> None:
    """0, 1 and 3 conditioning views in a third of 3000 steps each; with weights 2 and 1, in two thirds and a third."""
    counts = np.bincount([draw(PAPER, step).conditioning for step in range(3000)], minlength=4)
    assert counts[2] == 0
    assert (np.abs(counts[[0, 1, 3]] - 1000) < 100).all()
    weighted = phase(GroupParams(conditioning=0, targets=8, weight=2), GroupParams(conditioning=1, targets=7))
    counts = np.bincount([draw(weighted, step).conditioning for step in range(3000)], minlength=2)
    assert (np.abs(counts - [2000, 1000]) < 100).all()


def test_too_few_views_are_refused() -> None:
    """Eight views cannot be drawn from five."""
    with pytest.raises(ValueError, match="expected 8 views"):
        draw(PAPER, 0, cameras=CAMERAS[:5])


def test_a_phase_needs_groups() -> None:
    """An empty list of groups is refused by name."""
    with pytest.raises(ValueError, match="groups: expected at least one kind of group, got none"):
        TrainingPhase(steps=1, groups=())


def test_a_kind_of_group_sets_its_batch() -> None:
    """Known numbers: 32 single views or 4 groups of 8, with a mean of 32 views per step; weights enter the mean."""
    groups = phase(GroupParams(conditioning=0, targets=1, batch=32), GroupParams(conditioning=1, targets=7, batch=4))
    assert {draw(groups, step, batch=9).views.shape for step in range(20)} == {(32, 1), (4, 8)}
    assert groups.views_per_step(9) == 32
    assert PAPER.views_per_step(4) == 32
    weighted = phase(GroupParams(conditioning=0, targets=1, weight=3), GroupParams(conditioning=1, targets=4))
    assert weighted.views_per_step(2) == (3 * 2 + 10) / 4


def test_each_head_has_views_of_its_own() -> None:
    """Of two heads whose view 0 and view 1 change places, the first views of a group face the front in both."""
    cameras = {0: CAMERAS[[50, 62, 60]], 1: CAMERAS[[62, 50, 60]]}  # 50 is the frontal view, the others the back
    one = phase(GroupParams(conditioning=1, targets=1, facing_deg=10))
    drawn = [draw_groups(one, [0, 1], cameras.__getitem__, batch=8, seed=0, step=step) for step in range(4)]
    first = {(int(head), int(view[0])) for each in drawn for head, view in zip(each.subjects, each.views, strict=True)}
    assert first == {(0, 0), (1, 1)}


def test_a_kind_of_group_limits_the_azimuth_of_its_first_view() -> None:
    """Single views from all sides of the face, groups of 8 that start within 20 degrees of the front, where the grid
    has three azimuths; an azimuth behind the head is refused."""
    groups = phase(
        GroupParams(conditioning=0, targets=1, batch=4),
        GroupParams(conditioning=1, targets=7, batch=4, facing_deg=20),
    )
    first: dict[int, set[int]] = {1: set(), 8: set()}
    for step in range(300):
        views = draw(groups, step).views
        first[views.shape[1]] |= {round((CAMERAS.azimuth_deg[view] + 180) % 360 - 180) for view in views[:, 0]}
    assert first[8] == {-14, 0, 14}
    assert len(first[1]) == 13
    with pytest.raises(ValueError, match="facing_deg"):
        GroupParams(conditioning=0, targets=1, facing_deg=100)


def test_nearest_views_are_nearest_by_angle() -> None:
    """On the paper's grid, neighbours of the frontal view are 14.4 degrees away in azimuth and 15 in elevation. The
    ring is closed, and at 30 degrees of elevation neighbours in azimuth are only 12.5 degrees away."""
    assert set(nearest_views(CAMERAS, 62, 3).tolist()) == {61, 62, 63}
    assert set(nearest_views(CAMERAS, 62, 5).tolist()) == {37, 61, 62, 63, 87}
    assert set(nearest_views(CAMERAS, 50, 3).tolist()) == {50, 51, 74}
    assert nearest_views(CAMERAS, 100, 3).tolist() == [100, 101, 124]
    assert sorted(nearest_views(CAMERAS, 7, 125).tolist()) == list(range(125))


def test_a_kind_of_group_has_its_own_neighbourhood() -> None:
    """All views but the first are among the 12 nearest to a random view; without `nearest` they are not. A
    neighbourhood that is smaller than the group, or of a single view, is refused."""
    around = [set(nearest_views(CAMERAS, view, 12).tolist()) for view in range(len(CAMERAS))]
    groups = phase(GroupParams(conditioning=3, targets=5, nearest=12), GroupParams(conditioning=1, targets=7))
    together: dict[int, list[bool]] = {3: [], 1: []}
    seen: set[int] = set()
    for step in range(300):
        drawn = draw(groups, step, batch=2)
        for views in drawn.views.tolist():
            assert len(set(views)) == 8
            together[drawn.conditioning].append(any(set(views[1:]) <= near for near in around))
            seen |= set(views[1:]) if drawn.conditioning == 3 else set()
    assert all(together[3])
    assert not any(together[1])
    assert len(seen) == len(CAMERAS)
    with pytest.raises(ValueError, match="nearest: expected 0, or at least the group's 8 views, got 5"):
        GroupParams(conditioning=3, targets=5, nearest=5)
    with pytest.raises(ValueError, match="nearest: expected 0 for a single view, got 4"):
        GroupParams(conditioning=0, targets=1, nearest=4)


def test_another_background_is_what_compositing_gives() -> None:
    """Round trip: a half-transparent red pixel on white, moved to blue."""
    red, white, blue = np.array([1.0, -1, -1]), np.ones(3), np.array([-1.0, -1, 1])
    mask = np.array([[[0, 128, 255]]], np.uint8)
    alpha = mask[..., None] / 255
    on_white = np.rint(((alpha * red + (1 - alpha) * white) + 1) * 127.5).astype(np.uint8)
    tensors = (torch.from_numpy(array) for array in (on_white, mask, blue.astype(np.float32)))
    moved = on_colour(*tensors)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(moved, (alpha * red + (1 - alpha) * blue)[0], atol=0.01)


@pytest.mark.parametrize("memory_mb", [0, 64], ids=["read on demand", "held in memory"])
def test_training_reads_what_the_loader_reads(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, memory_mb: int
) -> None:
    """A batch holds the loader's own tensors of the heads and views that the step draws."""
    data = HeadDataset.open(dataset)
    batches = TrainingBatches(data, data.split("train"), train_params(memory_mb=memory_mb), encode_params)
    everything = HeadViews(data, range(len(data)), ViewParams(arrays=("latents",), views=data.views))
    for step in (0, 3, 9):
        drawn, batch = batches.draw(step), batches.read(step)
        for row, (subject, views) in enumerate(zip(drawn.subjects.tolist(), drawn.views.tolist(), strict=True)):
            sample = everything[subject]
            order = [sample["views"].tolist().index(view) for view in views]
            assert torch.equal(batch.latents[row], sample["latents"][order].float())
            assert torch.equal(batch.cam2world[row], sample["cam2world"][order])
            assert torch.equal(batch.intrinsics[row], sample["intrinsics"][order])
            assert torch.equal(batch.identity[row], sample["identity"])


def test_random_backgrounds_are_encoded_again(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the image latents of the drawn share change; on white they equal the stored ones."""
    data = HeadDataset.open(dataset)

    def latents(share: float) -> torch.Tensor:
        params = train_params(random_background=share, batch=8)
        return TrainingBatches(data, data.split("train"), params, encode_params).read(5).latents

    stored, all_recoloured, half = latents(0.0), latents(1.0), latents(0.5)
    assert torch.equal(all_recoloured[:, :, 4:], stored[:, :, 4:])
    assert (all_recoloured[:, :, :4] - stored[:, :, :4]).abs().flatten(1).amax(1).min() > 0.01
    changed = (half != stored).flatten(1).any(1)
    assert 0 < changed.sum() < 8
    assert torch.equal(half[changed], all_recoloured[changed])
    white = lambda rgb, mask, colour: on_colour(rgb, mask, torch.ones(3))  # noqa: E731
    monkeypatch.setattr("spinmeround.tasks.training.data.pictures.on_colour", white)
    torch.testing.assert_close(latents(1.0), stored, atol=5e-3, rtol=0)


def test_reference_normals_are_encoded_with_their_group(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams
) -> None:
    """In the frame `reference` the first view has the stored normal latents, of its own camera's frame; the others are
    those of its pictures turned by the first view's rotation."""
    data = HeadDataset.open(dataset)
    encode = encode_params.model_copy(update={"normals_frame": "reference"})
    batches = TrainingBatches(data, data.split("train"), train_params(), encode)
    draw, batch = batches.draw(9), batches.read(9)
    stored = TrainingBatches(data, data.split("train"), train_params(), encode_params).read(9).latents
    torch.testing.assert_close(batch.latents[:, :, :4], stored[:, :, :4])
    torch.testing.assert_close(batch.latents[:, 0, 4:], stored[:, 0, 4:], atol=5e-3, rtol=5e-3)
    assert (batch.latents[:, 1:, 4:] - stored[:, 1:, 4:]).abs().max() > 0.01
    vae = load_autoencoder(autoencoder_path(encode))
    for row, (subject, views) in enumerate(zip(draw.subjects.tolist(), draw.views.tolist(), strict=True)):
        images = as_images(data.read_views(subject, views, ("normals",))["normals"])
        first = torch.from_numpy(data.cameras(subject)["cam2world"][views[0], :3, :3])
        turned = torch.einsum("ji,vjhw->vihw", first, images)
        torch.testing.assert_close(batch.latents[row, :, 4:], encode_batches(vae, turned, 8), atol=1e-5, rtol=1e-5)


def test_a_group_is_conditioned_on_its_first_view(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedding of the first conditioning view where it has one; the head's for groups without conditioning views,
    for views without an embedding, and if asked for."""
    data, row = HeadDataset.open(dataset), np.arange(512, dtype=np.float32)

    def embeddings(self: HeadDataset, subject: int, views: Sequence[int], arrays: Sequence[str]) -> dict[str, Any]:
        assert list(arrays) == ["identity_views"]
        return {
            "identity_views": np.stack([row + 1000 * subject + view if view % 2 else row * np.nan for view in views])
        }

    monkeypatch.setattr(HeadDataset, "read_views", embeddings)
    seen = set()
    for kind in ("view", "mean"):
        batches = TrainingBatches(data, data.split("train"), train_params(identity=kind), encode_params)
        for step in range(12):
            drawn, batch = batches.draw(step), batches.read(step)
            for subject, view, found in zip(drawn.subjects, drawn.views[:, 0], batch.identity.numpy(), strict=True):
                own = kind == "view" and drawn.conditioning and view % 2
                seen.add((kind, bool(drawn.conditioning), bool(own)))
                expected = row + 1000 * subject + view if own else data.identities[subject]
                np.testing.assert_array_equal(found, expected)
    assert {("view", True, True), ("view", True, False), ("view", False, False), ("mean", True, False)} <= seen
