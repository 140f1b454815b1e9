"""The inspector: random anomalies, its input, its network and its scores."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.screening.evidence import Evidence
from spinmeround.models.screening.inspection import anomalies
from spinmeround.models.screening.inspection.anomalies import CHANGES, differences, painted
from spinmeround.models.screening.inspection.clean_features import CleanFeatures
from spinmeround.models.screening.inspection.findings import Inspection
from spinmeround.models.screening.inspection.inspector import SIDE, Inspector, packed
from spinmeround.models.screening.inspection.network import STRIDE, InspectorNetwork, features, inspection_loss
from spinmeround.models.screening.inspection.places import DEPTH, KNOWN, MASK, Draw, Views, random_place, sampled
from spinmeround.models.screening.inspection_scores import (
    inspection,
    inspection_around,
    inspection_distance,
    inspection_map,
    inspection_peak,
)
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Rendering
from spinmeround.tasks.embedded.inspector import write_inspector

RING = ViewGrid(azimuths=8, elevations_deg=(0.0,))


def discs(count: int, seed: int = 0) -> Views:
    """Views of spheres in random colours, on white."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    height = 20.0**2 - (rows - 31.5).square() - (columns - 31.5).square()
    mask = (height > 0).float().expand(count, 1, 64, 64)
    colour = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(seed))
    depth = -0.01 * height.clamp(min=0.0).sqrt() * mask
    return torch.cat([1.0 - mask * (1.0 - colour), mask, depth, mask], dim=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rendering(side: int = SIDE) -> Rendering:
    """Random previews with depths around the radius of the ring, and none in their upper half."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(2.6, 2.8, (8, side, side)).astype(np.float32)
    depth[:, : side // 2] = np.nan
    rgb = rng.integers(0, 256, (8, side, side, 3), np.uint8)
    return Rendering(rgb=rgb, mask=np.where(np.isnan(depth), 0, 255).astype(np.uint8), depth=depth)


def evidence_of(found: Inspection | None = None) -> Evidence:
    """The evidence of an empty cube with these previews."""
    density = np.zeros((9, 9, 9), np.float32)
    return Evidence(
        density=density, level=10.0, box_warp=1.0, previews=rendering(), cameras=RING.cameras(), inspection=found
    )


def check_views(views: Views) -> None:
    """Colours and mask are shares; depth is finite, and 0 where it is not known."""
    assert torch.isfinite(views).all()
    assert views[:, :DEPTH].min() >= -1e-5
    assert views[:, :DEPTH].max() <= 1.0 + 1e-5
    assert set(views[:, KNOWN].unique().tolist()) <= {0.0, 1.0}
    assert not views[:, DEPTH][views[:, KNOWN] == 0].any()


@pytest.mark.parametrize("change", [change for change, _ in CHANGES], ids=lambda change: change.__name__)
def test_every_change_makes_valid_views(change: Callable[..., Views]) -> None:
    """A change of any kind gives valid views, changes most of them visibly, and leaves its input alone."""
    views, before = discs(24), discs(24)
    more = (discs(24, 1).flip(3),) if change is anomalies.paste else ()
    found = change(views, Draw(generator(), 24), *more)
    check_views(found)
    assert torch.equal(views, before)
    assert differences(views, found)[2].mean() > 0.4


def test_painting_depends_on_the_generator_alone() -> None:
    """Equal seeds paint equal anomalies, other seeds others; most of them are visible."""
    views = discs(24)
    first, again, other = (painted(views, views.flip(3), discs(24, 1), generator(seed)) for seed in (0, 0, 1))
    check_views(first)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert differences(views, first)[2].mean() > 0.7


def test_differences_know_what_is_certain() -> None:
    """A clear change is marked, a faint one is doubtful, and an unchanged view is certainly clean."""
    views, found = discs(3), discs(3)
    found[1, 0, 30:34, 30:34] += 0.2
    found[2, DEPTH, 30:34, 30:34] += 0.004
    changed, certain, anomalous, known = differences(views, found)
    assert changed.sum((1, 2)).tolist() == [0, 16, 0]
    assert (1.0 - certain).sum((1, 2)).tolist() == [0, 0, 16]
    assert anomalous.tolist() == [0, 1, 0]
    assert known.tolist() == pytest.approx([1.0, 0.4, 0.0])


def test_places_are_soft_and_on_the_head() -> None:
    """Weights are shares, and the centres of nearly all places are pixels of the head."""
    views = discs(64)
    place = random_place(Draw(generator(), 64), views)
    assert 0.0 <= place.weight.min() <= place.weight.max() <= 1.0
    rows, columns = place.row[:, 0, 0].long(), place.column[:, 0, 0].long()
    assert views[torch.arange(64), MASK, rows, columns].mean() > 0.95


def test_sampling_at_its_own_places_changes_nothing() -> None:
    """The identity is exact to float32, and depth does not mix with the background at a half pixel's shift."""
    views = discs(2)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    assert torch.allclose(sampled(views, rows.expand(2, 64, 64), columns.expand(2, 64, 64)), views, atol=1e-4)
    moved = sampled(
        views - 0.5 * views[:, KNOWN:] * _only(DEPTH), rows.expand(2, 64, 64), columns.expand(2, 64, 64) + 0.4
    )
    inside = moved[:, DEPTH][moved[:, KNOWN] > 0]
    assert inside.max() <= -0.5 + 1e-5


def _only(channel: int) -> torch.Tensor:
    chosen = torch.zeros(1, 6, 1, 1)
    chosen[0, channel] = 1.0
    return chosen


def test_depth_is_relative_to_the_cube() -> None:
    """A depth of the ring's radius is 0, one side of the cube beyond is 1; there is none beside the head."""
    previews = rendering()
    previews.depth[0, 40, 10], previews.depth[0, 40, 11] = 2.7, 4.7
    found = packed(previews, RING.cameras(), box_warp=2.0)
    assert found[0, DEPTH, 40, 10] == pytest.approx(0.0, abs=1e-6)
    assert found[0, DEPTH, 40, 11] == pytest.approx(1.0, abs=1e-6)
    assert not found[:, DEPTH : KNOWN + 1, : SIDE // 2].any()
    assert np.array_equal(found[:, 0], previews.rgb[..., 0].astype(np.float32) / 255.0)
    assert found[2, KNOWN + 1 :, 0, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_previews_of_another_size_are_scaled() -> None:
    """Previews of twice the side are averaged over two by two pixels."""
    found = packed(rendering(2 * SIDE), RING.cameras(), 1.0)
    expected = rendering(2 * SIDE).rgb[..., 0].reshape(8, SIDE, 2, SIDE, 2).mean(axis=(2, 4)) / 255.0
    assert np.allclose(found[:, 0], expected, atol=1e-5)
    assert set(np.unique(found[:, KNOWN])) == {0.0, 1.0}
    assert found[:, DEPTH, SIDE // 2 :].min() == pytest.approx(-0.1, abs=0.05)


def test_relief_shows_a_bump_of_a_smooth_surface() -> None:
    """On a slope nothing is rough but a bump of a hundredth of the cube."""
    views = torch.zeros(1, 8, SIDE, SIDE)
    views[:, DEPTH] = torch.linspace(-0.1, 0.1, SIDE)
    views[:, KNOWN] = 1.0
    flat = features(views)[0, 8:10, 5:-5, 5:-5]
    views[0, DEPTH, 30, 30] -= 0.01
    assert flat.abs().max() < 1e-3
    assert (features(views)[0, 8:10].flatten(1).argmin(1) == 30 * SIDE + 30).all()


def test_the_exported_network_equals_the_trained_one(tmp_path: Path) -> None:
    """onnxruntime computes the same log-odds and map as torch, to float32's precision; tilted previews have none."""
    torch.manual_seed(0)
    network = InspectorNetwork((8, 8, 8)).eval()
    views = torch.from_numpy(packed(rendering(), RING.cameras(), 1.0))
    with torch.no_grad():
        log_odds, cells, coarse = network.with_features(views)
    clean = CleanFeatures.of(torch.randn(20, 8, 8, 8, 8), views[:, KNOWN + 1 :, 0, 0], seed=0)
    write_inspector(network, clean, tmp_path / "inspector.onnx")
    inspector = Inspector(tmp_path / "inspector.onnx")
    found = inspector.inspect(rendering(), RING.cameras(), 1.0)
    assert found is not None
    assert np.allclose(found.views, log_odds.numpy(), atol=1e-4)
    assert np.allclose(found.cells, cells.numpy(), atol=1e-4)
    expected = clean(coarse, views[:, KNOWN + 1 :, 0, 0])
    assert np.allclose(found.distances, expected.numpy(), atol=1e-3)
    assert inspector.inspect(rendering(), ViewGrid(azimuths=8, elevations_deg=(20.0,)).cameras(), 1.0) is None


def test_distances_of_clean_features_are_small() -> None:
    """Unseen draws of a correlated Gaussian have a mean squared deviation near 1; a shifted place is the farthest."""
    draws = torch.randn(600, 2, 8, 8, 8, generator=generator())
    draws = torch.einsum("nvcij,cd->nvdij", draws, torch.randn(8, 8, generator=generator(1)) + 2.0 * torch.eye(8))
    directions = torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    clean = CleanFeatures.of(draws[:500], directions, seed=0)
    found = torch.stack([clean(each, directions) for each in draws[500:]]).exp()
    assert 0.6 < found.mean() < 1.2
    draws[500, 1, :, 2, 5] += 30.0
    assert clean(draws[500], directions).argmax() == 64 + 2 * 8 + 5


def test_another_network_is_refused(tmp_path: Path) -> None:
    """A file of another network is named with the shapes that were found."""
    from spinmeround.models.identity.face_network import FaceNetwork
    from spinmeround.tasks.embedded.onnx_file import onnx_file

    (tmp_path / "faces.onnx").write_bytes(onnx_file(FaceNetwork(), torch.zeros(2, 3, 64, 64), "faces"))
    with pytest.raises(ConfigError, match=r"inspector: expected one input.*faces\.onnx"):
        Inspector(tmp_path / "faces.onnx")


def test_the_loss_is_small_only_where_the_network_is_right() -> None:
    """Log-odds with the right signs give a loss near 0, the opposite ones a large one; doubtful views count nothing."""
    changed = torch.zeros(2, SIDE, SIDE)
    changed[1, 20, 20] = 1.0
    cells = torch.full((2, SIDE // STRIDE, SIDE // STRIDE), -20.0)
    cells[1, 5, 5] = 20.0
    log_odds, labels = torch.tensor([-20.0, 20.0]), torch.tensor([0.0, 1.0])
    sure, none = torch.ones(2, SIDE, SIDE), torch.zeros(2)
    assert inspection_loss(log_odds, cells, changed, sure, labels, torch.ones(2)) < 1e-6
    assert inspection_loss(-log_odds, cells, changed, sure, labels, torch.ones(2)) > 10.0
    assert inspection_loss(log_odds, -cells, changed, sure, labels, torch.ones(2)) > 10.0
    assert inspection_loss(-log_odds, cells, changed, sure, labels, none) < 1e-6


def test_scores_and_map_of_an_inspection() -> None:
    """The largest and mean log-odds of the views, the mean of the eight largest cells, and a map of probabilities."""
    cells = np.full((8, SIDE // STRIDE, SIDE // STRIDE), -8.0, np.float32)
    cells[0, 8, 5:9], cells[3, 9, 5:9] = 4.0, 2.0
    distances = np.zeros((8, 8, 8), np.float32)
    distances[2, 3, 4] = 2.5
    views = np.array([1.5, *[-0.5] * 7], np.float32)
    evidence = evidence_of(Inspection(views=views, cells=cells, distances=distances))
    assert inspection(evidence) == 1.5
    assert inspection_around(evidence) == -0.25
    assert inspection_peak(evidence) == 3.0
    assert inspection_distance(evidence) == 2.5
    shown = inspection_map(evidence)
    assert shown is not None
    assert shown.shape == (8, SIDE, SIDE)
    assert shown[0].max() > 0.8 > 0.1 > shown[1].max()
    nothing = evidence_of()
    for score in (inspection, inspection_around, inspection_peak, inspection_distance, inspection_map):
        assert score(nothing) is None
