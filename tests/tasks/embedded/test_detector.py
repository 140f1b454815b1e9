"""The recipe of the embedded face detector: labels, targets, augmentation and export."""

from pathlib import Path

import numpy as np
import torch

from spinmeround.models.identity.face_heatmap import HeatmapFaceFinder
from spinmeround.models.identity.face_network import FaceNetwork
from spinmeround.tasks.embedded.detector import (
    augment_pictures,
    labels,
    paste_faces,
    targets,
    train_detector,
    without_covered,
)
from spinmeround.tasks.embedded.onnx_file import onnx_file
from spinmeround.tasks.embedded.params import DetectorParams

PARAMS = DetectorParams(steps=2, batch=4)


def test_labels_follow_the_angle_of_the_face() -> None:
    """A frontal face is there, one seen from behind is absent, one in profile is neither."""
    found = labels(np.float32([(30, 34, 10, 20), (30, 34, 10, 150), (30, 34, 10, 85)]), PARAMS)
    assert found[0, 0].tolist() == [30, 34, 10]
    assert found[1, 0].tolist() == [0, 0, 0]
    assert torch.isnan(found[2]).all()


def test_heat_is_largest_in_the_cell_of_the_face() -> None:
    """The heat of a face peaks at its cell; a picture with an unknown face has no known cell but at another face."""
    heat, size = targets(torch.tensor([[[29.5, 33.5, 20.0]], [[0.0, 0.0, 0.0]], [[torch.nan] * 3]]), 64)
    assert divmod(int(heat[0].argmax()), 16) == (8, 7)
    assert size[0, 8, 7] == torch.tensor(2.0).log()
    assert heat[1].abs().max() == 0
    assert torch.isnan(heat[2]).all()


def test_faces_move_with_their_pictures() -> None:
    """A bright dot at the label of a face is at its label after mirroring, turning, scaling and shifting."""
    pictures, faces = torch.full((12, 3, 64, 64), -1.0), torch.zeros(12, 1, 3)
    for index in range(12):
        row, column = 20 + 2 * index, 44 - 2 * index
        pictures[index, :, row - 1 : row + 2, column - 1 : column + 2] = 1.0
        faces[index, 0] = torch.tensor([float(column), float(row), 10.0])
    shown, moved = augment_pictures(pictures, faces, torch.Generator().manual_seed(2))
    for picture, (column, row, size) in zip(shown, moved[:, 0].tolist(), strict=True):
        bright = torch.nn.functional.avg_pool2d(picture.mean(dim=0)[None, None], 3, 1, 1)[0, 0].argmax()
        assert abs(divmod(int(bright), 64)[0] - row) < 2.5
        assert abs(divmod(int(bright), 64)[1] - column) < 2.5
        assert 7.0 < size < 13.0


def test_pasted_faces_are_where_they_are_said_to_be() -> None:
    """The donor's dot appears at the pasted place, and a face that it covers no longer counts."""
    donors = torch.full((6, 3, 64, 64), -1.0)
    donors[:, :, 31:34, 31:34] = 1.0
    shown, pasted = paste_faces(
        torch.full((6, 3, 64, 64), -1.0),
        donors,
        torch.tensor([[32.0, 32.0, 10.0]] * 6),
        1.0,
        torch.Generator().manual_seed(0),
    )
    for picture, (column, row, _) in zip(shown, pasted[:, 0].tolist(), strict=True):
        bright = picture.mean(dim=0).argmax()
        assert abs(divmod(int(bright), 64)[0] - row) < 2.5
        assert abs(divmod(int(bright), 64)[1] - column) < 2.5
    assert (without_covered(pasted + torch.tensor([1.0, 0.0, 0.0]), pasted) == 0).all()
    far = pasted + torch.tensor([40.0, 0.0, 0.0])
    assert torch.equal(without_covered(far, pasted), far)


def test_training_is_reproducible_and_its_export_is_read(tmp_path: Path) -> None:
    """Equal seeds give equal weights, and the finder runs the exported network."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (8, 64, 64, 3), np.uint8)
    faces = np.float32([(30, 34, 10, 20), (30, 34, 10, 150)] * 4)
    network, again = (train_detector(pictures, faces, PARAMS) for _ in range(2))
    pairs = zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    (tmp_path / "detector.onnx").write_bytes(onnx_file(FaceNetwork(), torch.zeros(2, 3, 64, 64), "faces"))
    found = HeatmapFaceFinder(tmp_path / "detector.onnx").find(pictures[0])
    assert all(face.score >= 0.2 for face in found)
