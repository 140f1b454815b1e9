"""Captured heads become a dataset: pictures, cameras and landmarks agree, and what is missing is declared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, project
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.storage.dataset import HeadDataset, verify
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.captured.params import CaptureParams, LayoutName
from spinmeround.tasks.captured.run import Imported, Networks, import_captured
from tests.support.weights import write_recognition
from tests.tasks.captured.studio import (
    BALL,
    COLOURS,
    POINTS,
    RADIUS,
    DotFinder,
    Rig,
    dots,
    save,
    write_facescape,
    write_nerfstudio,
    write_nersemble,
)

PORTRAIT = Rig(size=(550, 802), focal=1700.0)
LANDSCAPE = Rig(size=(480, 360), focal=1100.0, azimuths=(-80, -40, -10, 15, 45, 85, 140, -150), unit=1.3)
BENT = Rig(size=(400, 600), focal=1300.0, unit=260.0, distortion=(-0.12, 0.3, 1e-3, -2e-3, 0.05))
PARAMS = CaptureParams(side=96, validation_share=0.0, test_share=0.5)

Import = Callable[..., Imported]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> ArcFaceEmbedder:
    return ArcFaceEmbedder(write_recognition(tmp_path_factory.mktemp("network") / "recognition.onnx"))


@pytest.fixture
def run(embedder: ArcFaceEmbedder, tmp_path: Path) -> Import:
    """Imports a folder into heads.zarr; fields of the parameters may be changed."""

    def imported(source: Path, layout: LayoutName, wrong: int = 0, **changes: object) -> Imported:
        networks = Networks(finder=DotFinder(wrong), embedder=embedder, fingerprints={"embed": "test"})
        params = PARAMS.model_copy(update=changes)
        return import_captured(source, layout, tmp_path / "heads.zarr", params, networks, lambda done, total: None)

    return imported


def reprojection(path: Path) -> float:
    """The largest distance, in pixels, of the dots in a dataset's pictures from the known points by its cameras."""
    data, worst, seen = HeadDataset.open(path), 0.0, 0
    for subject in range(len(data)):
        cameras = Cameras(**data.cameras(subject))
        rgb = data.read_views(subject, range(data.views), ["rgb"])["rgb"]
        places = project(cameras, POINTS)[0] * rgb.shape[1] - 0.5
        for view in np.flatnonzero(np.abs(cameras.azimuth_deg) < 50):
            found = dots(rgb[view], COLOURS)
            worst, seen = max(worst, float(np.linalg.norm(found - places[view], axis=-1).max())), seen + 1
    assert seen >= 2
    return worst


def write(layout: str, root: Path) -> tuple[LayoutName, dict[str, object]]:
    """A folder of one head in a layout; returns the layout's name and parameters."""
    if layout == "facescape":
        write_facescape(root / "7", BENT, invalid=(1,))
        return "facescape", {}
    if layout.startswith("nersemble"):
        write_nersemble(root / "018", PORTRAIT, version=layout.split()[1])
        return "nersemble", {"sequence": "EXP-1-head", "timestep": 2}
    write_nerfstudio(root / "anna", BENT if layout == "nerfstudio bent" else LANDSCAPE, normals=False)
    return "nerfstudio", {}


LAYOUTS = ("nerfstudio", "nerfstudio bent", "nersemble 1", "nersemble frames", "nersemble video", "facescape")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cameras_reproject_known_points(run: Import, tmp_path: Path, layout: str) -> None:
    """In each layout, of any lens, size and unit, known points are where the pictures show them, to half a pixel."""
    name, changes = write(layout, tmp_path / "capture")
    found = run(tmp_path / "capture", name, **changes)
    assert found.left_out == {}
    path = tmp_path / "heads.zarr"
    assert reprojection(path) < 0.5
    data = HeadDataset.open(path)
    landmarks = np.array(data.attributes["captured"]["landmarks"][data.ids[0]])
    np.testing.assert_allclose(landmarks, POINTS[:5], atol=2e-3)
    assert verify(path, digest=found.digest) == []


def test_invalid_views_are_left_out_and_back_views_declared(run: Import, tmp_path: Path) -> None:
    """FaceScape's invalid view is not used; a rig in front of the face has no back views, one around the head does."""
    write_facescape(tmp_path / "capture" / "7", BENT, invalid=(1,))
    assert run(tmp_path / "capture", "facescape").views == len(BENT.azimuths) - 1
    front = HeadDataset.open(tmp_path / "heads.zarr").attributes["captured"]
    assert (front["back_views"], front["with_background"]) == (False, ["facescape-7"])
    assert front["max_azimuth_deg"] == pytest.approx(85, abs=0.5)


def test_masks_normals_and_back_views(run: Import, tmp_path: Path) -> None:
    """The ball is cut out on white, its normals are those of a ball in the frame of datasets, to 3 degrees."""
    write_nerfstudio(tmp_path / "capture" / "anna", LANDSCAPE)
    found = run(tmp_path / "capture", "nerfstudio")
    data = HeadDataset.open(tmp_path / "heads.zarr")
    assert (found.without_normals, data.has_normals(0), "without_normals" in data.attributes) == (0, True, False)
    assert data.attributes["captured"]["back_views"]
    assert data.attributes["captured"]["with_background"] == []
    pictures, cameras = data.read_views(0, range(data.views)), Cameras(**data.cameras(0))
    assert (pictures["rgb"][pictures["mask"] == 0] >= 253).all()
    share = (pictures["mask"] > 127).mean(axis=(1, 2))
    np.testing.assert_allclose(share, np.pi * (RADIUS / (2.7 / 4.2647)) ** 2, rtol=0.05)
    normals = decode_normals(pictures["normals"], pictures["mask"])
    middle = project(cameras, BALL[None])[0][:, 0] * PARAMS.side - 0.5
    for view, (x, y) in enumerate(np.rint(middle).astype(int)):
        towards = cameras.cam2world[view, :3, 3] / np.linalg.norm(cameras.cam2world[view, :3, 3])
        assert normals[view, y, x] @ towards > np.cos(np.radians(3))


def test_heads_without_normals_are_declared(run: Import, tmp_path: Path) -> None:
    """Of two heads the one whose frames name no normals is listed, and its map is background everywhere."""
    for name, normals in (("anna", True), ("bert", False)):
        write_nerfstudio(tmp_path / "capture" / name, LANDSCAPE, normals=normals)
    assert run(tmp_path / "capture", "nerfstudio").without_normals == 1
    data = HeadDataset.open(tmp_path / "heads.zarr")
    assert data.attributes["without_normals"] == ["bert"]
    assert [data.has_normals(subject) for subject in range(2)] == [True, False]
    assert (data.read_views(1, range(data.views), ["normals"])["normals"] == 128).all()


def test_a_wrong_detection_is_outvoted(run: Import, tmp_path: Path) -> None:
    """One face found elsewhere, with its landmarks exchanged, changes nothing."""
    write_facescape(tmp_path / "capture" / "7", BENT)
    run(tmp_path / "capture", "facescape", wrong=1)
    assert reprojection(tmp_path / "heads.zarr") < 0.5


def test_heads_have_the_views_of_the_one_with_the_fewest(run: Import, tmp_path: Path) -> None:
    """Six and four pictures: both heads get four, spread over the cameras; with more, the second is left out."""
    write_facescape(tmp_path / "capture" / "1", BENT)
    write_facescape(tmp_path / "capture" / "2", BENT, invalid=(0, 5))
    assert run(tmp_path / "capture", "facescape").views == 4
    data = HeadDataset.open(tmp_path / "heads.zarr")
    azimuth = [data.cameras(subject)["azimuth_deg"] for subject in range(2)]
    assert (np.diff(azimuth, axis=1) > 0).all()
    np.testing.assert_allclose(azimuth[0][[0, -1]], [-80, 85], atol=0.5)
    path = tmp_path / "again"
    path.mkdir()
    (tmp_path / "heads.zarr").rename(path / "heads.zarr")
    assert run(tmp_path / "capture", "facescape", views=5).left_out.keys() == {"facescape-2"}


def _cut_off(folder: Path) -> None:
    (folder / "2/1_neutral/params.json").write_text('{"0_K": ')


def _reflected(folder: Path) -> None:
    path = folder / "2/1_neutral/params.json"
    found = json.loads(path.read_text())
    found["0_Rt"][0] = [-value for value in found["0_Rt"][0]]
    path.write_text(json.dumps(found))


def _faceless(folder: Path) -> None:
    for path in (folder / "2/1_neutral").glob("*.jpg"):
        save(path, np.random.default_rng(0).integers(0, 60, (600, 400, 3)).astype(np.uint8))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(_cut_off, r"params\.json.*JSON"), (_reflected, r"0_Rt: expected a rigid"), (_faceless, "face in two pictures")],
    ids=["cut off", "reflected", "faceless"],
)
def test_a_bad_head_is_left_out_with_the_reason(
    run: Import, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """The other head is imported; the dataset and the result name the one that is not; alone it is an error."""
    for subject in ("1", "2"):
        write_facescape(tmp_path / "capture" / subject, BENT)
    damage(tmp_path / "capture")
    found = run(tmp_path / "capture", "facescape")
    assert found.left_out.keys() == {"facescape-2"}
    data = HeadDataset.open(tmp_path / "heads.zarr")
    assert data.ids == ("facescape-1",)
    assert data.attributes["counts"]["quarantined"] == 1
    (tmp_path / "heads.zarr").rename(tmp_path / "other.zarr")
    with pytest.raises(DatasetError, match=reason):
        run(tmp_path / "capture" / "2", "facescape")


@pytest.mark.parametrize(
    ("layout", "message"),
    [("nerfstudio", r"transforms\.json"), ("nersemble", "--sequence"), ("facescape", r"params\.json")],
)
def test_a_folder_of_another_layout_is_refused(run: Import, tmp_path: Path, layout: LayoutName, message: str) -> None:
    """The error names what the layout needs."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "empty", layout)
    assert not (tmp_path / "heads.zarr").exists()
