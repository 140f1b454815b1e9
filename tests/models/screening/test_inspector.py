"""The inspector: its input, its network and its scores."""

from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.screening.evidence import Evidence
from spinmeround.models.screening.inspection import SIDE, STRIDE, VIEWS, Inspection
from spinmeround.models.screening.inspection_scores import inspection, inspection_map, inspection_peak
from spinmeround.models.screening.inspector import Inspector, packed
from spinmeround.models.screening.inspector_network import InspectorNetwork, features, inspection_loss, mirrored
from spinmeround.storage.records import Rendering
from spinmeround.tasks.embedded.inspector import write_inspector

RING = ViewGrid(azimuths=VIEWS, elevations_deg=(0.0,))


def rendering(side: int = SIDE) -> Rendering:
    """Random previews with depths around the radius of the ring, and none in their upper half."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(2.6, 2.8, (VIEWS, side, side)).astype(np.float32)
    depth[:, : side // 2] = np.nan
    rgb = rng.integers(0, 256, (VIEWS, side, side, 3), np.uint8)
    return Rendering(rgb=rgb, mask=np.where(np.isnan(depth), 0, 255).astype(np.uint8), depth=depth)


def evidence_of(inspection: Inspection | None = None) -> Evidence:
    """The evidence of an empty cube with these previews."""
    density = np.zeros((9, 9, 9), np.float32)
    return Evidence(
        density=density,
        level=10.0,
        box_warp=1.0,
        previews=rendering(),
        cameras=RING.cameras(),
        inspection=inspection,
    )


def test_depth_is_relative_to_the_head_and_its_cube() -> None:
    """A depth of the ring's radius is 0, one side of the cube beyond is 1; there is none beside the head."""
    previews = rendering()
    previews.depth[0, 40, 10], previews.depth[0, 40, 11] = 2.7, 4.7
    found = packed(previews, RING.cameras(), box_warp=2.0)
    assert found[0, 4, 40, 10] == pytest.approx(0.0, abs=1e-6)
    assert found[0, 4, 40, 11] == pytest.approx(1.0, abs=1e-6)
    assert not found[:, 4:, : SIDE // 2].any()
    assert np.array_equal(found[:, 0], previews.rgb[..., 0].astype(np.float32) / 255.0)


def test_previews_of_another_size_are_scaled() -> None:
    """Previews of twice the side are averaged over two by two pixels."""
    found = packed(rendering(2 * SIDE), RING.cameras(), 1.0)
    expected = rendering(2 * SIDE).rgb[..., 0].reshape(VIEWS, SIDE, 2, SIDE, 2).mean(axis=(2, 4)) / 255.0
    assert np.allclose(found[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "grid", [ViewGrid(azimuths=6, elevations_deg=(0.0,)), ViewGrid(azimuths=8, elevations_deg=(10.0,))]
)
def test_previews_that_are_no_ring_are_refused(grid: ViewGrid) -> None:
    """The error names the field and both remedies."""
    count = len(grid.cameras())
    previews = rendering()
    few = Rendering(rgb=previews.rgb[:count], mask=previews.mask[:count], depth=previews.depth[:count])
    with pytest.raises(ValueError, match=r"sample\.previews: expected 8 azimuths.*score\.inspector='none'"):
        packed(few, grid.cameras(), 1.0)


def test_a_mirrored_ring_shows_the_mirrored_head() -> None:
    """The preview from azimuth a becomes the flipped one from -a, and mirroring twice changes nothing."""
    pictures = torch.arange(VIEWS * 2.0).reshape(1, VIEWS, 1, 1, 2)
    found = mirrored(pictures)
    assert found[0, 1, 0, 0].tolist() == pictures[0, VIEWS - 1, 0, 0].flip(0).tolist()
    assert found[0, 0, 0, 0].tolist() == pictures[0, 0, 0, 0].flip(0).tolist()
    assert torch.equal(mirrored(found), pictures)


def test_relief_shows_a_bump_of_a_smooth_surface() -> None:
    """On a slope nothing is rough but a bump of a hundredth of the cube."""
    previews = torch.zeros(1, VIEWS, 6, SIDE, SIDE)
    previews[:, :, 4] = torch.linspace(-0.1, 0.1, SIDE)
    previews[:, :, 5] = 1.0
    previews[0, 2, 4, 30, 30] -= 0.01
    relief = features(previews)[:, :, 5]
    assert relief[0, 0, 5:-5, 5:-5].abs().max() < 1e-3
    assert relief[0, 2].argmin() == 30 * SIDE + 30


def test_the_exported_network_equals_the_trained_one(tmp_path: Path) -> None:
    """onnxruntime computes the same log-odds and map as torch, to float32's precision."""
    torch.manual_seed(0)
    network = InspectorNetwork((8, 8, 8)).eval()
    write_inspector(network, tmp_path / "inspector.onnx")
    found = Inspector(tmp_path / "inspector.onnx").inspect(rendering(), RING.cameras(), 1.0)
    with torch.no_grad():
        log_odds, cells = network(torch.from_numpy(packed(rendering(), RING.cameras(), 1.0))[None])
    assert found.log_odds == pytest.approx(log_odds.item(), abs=1e-4)
    assert np.allclose(found.cells, cells[0].numpy(), atol=1e-4)


def test_another_network_is_refused(tmp_path: Path) -> None:
    """A file of another network is named with the shapes that were found."""
    from spinmeround.models.identity.face_network import FaceNetwork
    from spinmeround.tasks.embedded.onnx_file import onnx_file

    (tmp_path / "faces.onnx").write_bytes(onnx_file(FaceNetwork(), torch.zeros(2, 3, 64, 64), ["faces"]))
    with pytest.raises(ValueError, match=r"inspector: expected the shapes of an inspector.*faces\.onnx"):
        Inspector(tmp_path / "faces.onnx")


def test_the_loss_is_small_only_where_the_network_is_right() -> None:
    """Log-odds with the right signs give a loss near 0, the opposite ones a large loss."""
    changed = torch.zeros(2, VIEWS, SIDE, SIDE)
    changed[1, 3, 20, 20] = 1.0
    cells = torch.full((2, VIEWS, SIDE // STRIDE, SIDE // STRIDE), -20.0)
    cells[1, 3, 5, 5] = 20.0
    log_odds, labels = torch.tensor([-20.0, 20.0]), torch.tensor([0.0, 1.0])
    assert inspection_loss(log_odds, cells, labels, changed) < 1e-6
    assert inspection_loss(-log_odds, -cells, labels, changed) > 20.0


def test_scores_and_map_of_an_inspection() -> None:
    """The head's log-odds, the mean of its four largest cells, and their probability where the head is visible."""
    cells = np.full((VIEWS, SIDE // STRIDE, SIDE // STRIDE), -8.0, np.float32)
    cells[0, 8, 7:9], cells[0, 9, 7:9] = 4.0, 2.0
    evidence = evidence_of(inspection=Inspection(log_odds=1.5, cells=cells))
    assert inspection(evidence) == 1.5
    assert inspection_peak(evidence) == 3.0
    shown = inspection_map(evidence)
    assert shown is not None
    assert shown.shape == evidence.visible.shape
    assert shown.max() > 0.8
    assert not shown[~evidence.visible].any()
    assert inspection(evidence_of()) is inspection_peak(evidence_of()) is inspection_map(evidence_of()) is None
