"""Reconstruction from a folder and from a dataset: views, scores, files and the store."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.hull import visual_hull
from spinmeround.models.metrics.images import psnr
from spinmeround.models.metrics.missing import Missing
from spinmeround.models.reconstruction.params import SplatParams
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.reconstruction.files import MESHES, SCORES, SPLATS, TURNTABLE, copy_reconstruction
from spinmeround.tasks.reconstruction.params import (
    GENERATED_VIEWS,
    FolderSource,
    HeadSource,
    ReconstructParams,
    reconstruction_key,
)
from spinmeround.tasks.reconstruction.ply import read_splats
from spinmeround.tasks.reconstruction.run import make_reconstruction, splats_of
from spinmeround.tasks.reconstruction.scores import drawn, score
from spinmeround.tasks.reconstruction.views import PosedPictures, divided, mask_of_normals, read_folder
from tests.models.reconstruction.balls import CENTRE, RADIUS
from tests.tasks.reconstruction.conftest import QUICK


@pytest.mark.parametrize(("number", "fitted", "held_out"), [(125, 48, 8), (48, 48, 8), (12, 4, 3), (5, 48, 1)])
def test_views_are_divided_evenly(number: int, fitted: int, held_out: int) -> None:
    """No view is both fitted and held out, none is used twice, and no gap is much larger than the others."""
    used, kept = divided(number, fitted=fitted, held_out=held_out)
    assert len(kept) == held_out
    assert len(used) == min(fitted, number - held_out)
    assert len({*used, *kept}) == len(used) + len(kept)
    assert max(np.diff([-1, *kept, number])) <= 2 * number / held_out


@pytest.mark.parametrize("grid", [GENERATED_VIEWS, ViewGrid(), ViewGrid(azimuths=16, elevations_deg=(0.0,))])
def test_held_out_views_are_all_round(grid: ViewGrid) -> None:
    """On grids of any size they have six azimuths or more in all four quarters, and all elevations."""
    cameras = grid.cameras()[divided(grid.views, fitted=48, held_out=8)[1]]
    assert len(set(cameras.azimuth_deg.tolist())) >= 6
    assert len(np.unique(cameras.azimuth_deg // 90)) == 4
    assert len(np.unique(cameras.elevation_deg)) == len(grid.elevations_deg)


def test_too_few_views_are_refused() -> None:
    """The error names the field and both numbers."""
    with pytest.raises(ConfigError, match=r"reconstruct\.held_out: .* got 9 views with 6"):
        divided(9, fitted=48, held_out=6)


def test_a_generated_folder_is_read(folder: Path) -> None:
    """Pictures, cameras and normals as written; the masks are where the normals are."""
    views = read_folder(folder)
    assert views.rgb.shape == (16, 32, 32, 3)
    np.testing.assert_array_equal(views.rgb[3], np.asarray(Image.open(folder / "view-03.png")))
    assert views.normals is not None
    np.testing.assert_array_equal(views.mask == 255, (views.normals != 128).any(-1))
    expected = ViewGrid(azimuths=8, elevations_deg=(-25.0, 25.0)).cameras()
    np.testing.assert_allclose(views.cameras.cam2world, expected.cam2world, atol=1e-6)


def test_alpha_is_the_mask(folder: Path, tmp_path: Path) -> None:
    """Pictures with transparency need no normals; without both, the error says what is missing."""
    document = json.loads((folder / "transforms.json").read_text(encoding="utf-8"))
    for frame in document["frames"]:
        del frame["normals_file_path"]
        rgb = Image.open(folder / frame["file_path"])
        rgb.save(tmp_path / frame["file_path"])
    (tmp_path / "transforms.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigError, match="expected masks"):
        read_folder(tmp_path)
    alpha = Image.new("L", (32, 32), 0)
    alpha.paste(200, (8, 8, 24, 24))
    for frame in document["frames"]:
        rgb = Image.open(folder / frame["file_path"])
        rgb.putalpha(alpha)
        rgb.save(tmp_path / frame["file_path"])
    np.testing.assert_array_equal(read_folder(tmp_path).mask, np.tile(np.asarray(alpha), (16, 1, 1)))


def test_the_mask_of_a_normal_is_by_its_length() -> None:
    """Full for unit normals, none for the background, half for half a normal."""
    encoded = np.array([[[255, 128, 128], [128, 128, 128], [192, 128, 128]]], np.uint8)
    np.testing.assert_allclose(mask_of_normals(encoded)[0], [255, 0, 128], atol=3)


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactStore, str]:
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    outcome, key = make_reconstruction(store, FolderSource(folder=str(folder)), QUICK)
    assert outcome == "made"
    return store, key


def test_the_scores_are_those_of_the_file(made: tuple[ArtifactStore, str], folder: Path) -> None:
    """The splats in the file, drawn at the held-out cameras, have the scores of the JSON, and good ones."""
    store, key = made
    path = store.verify("reconstruct", key).path
    scores = json.loads((path / SCORES).read_text(encoding="utf-8"))
    splats = read_splats((path / SPLATS).read_bytes())
    held_out = read_folder(folder)[scores["held_out_views"]]
    rgb, _ = drawn(splats, held_out.cameras, 32)
    assert scores["held_out"]["psnr"] == pytest.approx(float(psnr(rgb, held_out.rgb).mean()), abs=0.05)
    assert scores["held_out"]["psnr"] > 20
    assert scores["held_out"]["mask_iou"] > 0.9
    assert scores["held_out"]["lpips"] is None
    assert scores["gaussians"] == len(splats) == 300
    assert not set(scores["held_out_views"]) & set(scores["fitted_views"])


def test_a_second_run_reuses_the_artifact(made: tuple[ArtifactStore, str], folder: Path, tmp_path: Path) -> None:
    """The key depends on the pictures and the parameters, not on the folder's place."""
    store, key = made
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert make_reconstruction(store, FolderSource(folder=str(moved)), QUICK) == ("reused", key)
    other = QUICK.model_copy(update={"held_out": 3})
    assert reconstruction_key(FolderSource(folder=str(moved)), other) != key
    Image.new("RGB", (32, 32), "red").save(moved / "view-00.png")
    assert reconstruction_key(FolderSource(folder=str(moved)), QUICK) != key


def test_files_are_copied_for_the_user(made: tuple[ArtifactStore, str], tmp_path: Path) -> None:
    """Everything but the manifest; the turntable is an animation of 48 pictures."""
    store, key = made
    files = copy_reconstruction(store.path("reconstruct", key), tmp_path / "out")
    assert {file.name for file in files} >= {SPLATS, SCORES, TURNTABLE, "held-out.png"}
    assert "manifest.json" not in {file.name for file in files}
    with Image.open(io.BytesIO((tmp_path / "out" / TURNTABLE).read_bytes())) as animation:
        assert animation.n_frames == 48


def test_a_head_of_a_dataset(dataset: Path, folder: Path, tmp_path: Path) -> None:
    """True views of a head enter by the dataset's digest and its id; a missing head is named."""
    head = HeadDataset.open(dataset).ids[3]
    source = HeadSource(dataset=str(dataset), head=head)
    few = QUICK.model_copy(update={"splats": QUICK.splats.model_copy(update={"steps": 2}), "views": 8})
    store = ArtifactStore(tmp_path)
    _, key = make_reconstruction(store, source, few)
    assert store.manifest("reconstruct", key).inputs == {"dataset": HeadDataset.open(dataset).digest}
    with pytest.raises(DatasetError, match="got 'procedural-999999'"):
        reconstruction_key(HeadSource(dataset=str(dataset), head="procedural-999999"), few)
    with pytest.raises(ConfigError, match=r"transforms\.json"):
        reconstruction_key(FolderSource(folder=str(tmp_path)), few)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_48_true_views_of_an_unseen_head_give_28_db() -> None:
    """Splats from 48 true views of 128 px of a procedural head score at least 28 dB on eight others."""
    generator, cameras = ProceduralGenerator(), ViewGrid().cameras()
    fitted, held_out = divided(len(cameras), fitted=48, held_out=8)
    used = cameras[[*fitted, *held_out]]
    pictures = generator.render(generator.sample(20_000_001), used, 128)
    views = PosedPictures(cameras=used, rgb=pictures.rgb, mask=pictures.mask, normals=None)
    seen, unseen = views[list(range(48))], views[list(range(48, 56))]
    params = ReconstructParams(splats=SplatParams(steps=400))
    hull = visual_hull(seen.cameras, seen.mask, resolution=params.hull_resolution)
    scores = score(splats_of(seen, hull, params, Missing("not given")), unseen, Missing("not given"))
    print(scores)
    assert scores["psnr"] is not None
    assert scores["psnr"] >= 28.0


def test_the_mesh_follows_the_normals(made: tuple[ArtifactStore, str]) -> None:
    """Both mesh files open in trimesh with the ball's radius, and the scores say how well the normals fit."""
    store, key = made
    path = store.path("reconstruct", key)
    scores = json.loads((path / SCORES).read_text(encoding="utf-8"))["mesh"]
    assert scores["normal_angular_error_deg"] < 8
    assert scores["mask_iou"] > 0.9
    for name in MESHES:
        mesh = trimesh.load(path / name, force="mesh")
        assert np.abs(np.linalg.norm(mesh.vertices - CENTRE, axis=-1) / RADIUS - 1).mean() < 0.03
