"""Predictions of other methods: the folder that they get, and the folder that they give."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.transforms import FLIP
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.baselines import nearest_input_view
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.inputs import write_inputs
from spinmeround.tasks.evaluation.methods import MethodFolder
from spinmeround.tasks.evaluation.params import EvaluateParams, evaluation_key
from spinmeround.tasks.evaluation.run import run_evaluation
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import ViewImages, read_views
from spinmeround.tasks.pictures.webp import cut_out
from tests.support.weights import write_recognition

PARAMS = EvaluateParams(heads=2, targets=3, frontal_targets=1, schedule=NoiseSchedule(steps=1))


def write_method(folder: Path, data: HeadDataset, predict: Callable[..., ViewImages]) -> Path:
    """A folder with the predictions of all heads, RGBA and normals."""
    for views in choose_views(data, PARAMS, EmbedParams().frontal):
        head = folder / data.ids[views.subject]
        head.mkdir(parents=True)
        images = predict(data, views)
        for index, view in enumerate(views.targets):
            Image.fromarray(cut_out(images.rgb[index], images.mask[index])).save(head / f"{view:03d}.png")
            Image.fromarray(images.normals[index]).save(head / f"{view:03d}-normals.png")
    return folder


def true_views(data: HeadDataset, views) -> ViewImages:
    return read_views(data, views.subject, views.targets)


def copied_views(data: HeadDataset, views) -> ViewImages:
    known, cameras = views.conditioning_indices, Cameras(**data.cameras(views.subject))
    return nearest_input_view(read_views(data, views.subject, known), cameras[known], cameras[views.targets])


@pytest.fixture(scope="module")
def perfect(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_method(tmp_path_factory.mktemp("methods") / "perfect", HeadDataset.open(dataset), true_views)


def opened(folder: Path, dataset: Path) -> MethodFolder:
    data = HeadDataset.open(dataset)
    return MethodFolder("eg3d", folder, data, choose_views(data, PARAMS, EmbedParams().frontal))


def test_methods_are_scored_by_the_same_code(dataset: Path, pipeline: Path, perfect: Path, tmp_path: Path) -> None:
    """True pictures score perfectly; copies of the nearest view score as that baseline; both stand in the table."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    copies = write_method(tmp_path / "copies", HeadDataset.open(dataset), copied_views)
    params = PARAMS.model_copy(update={"predictions": {"perfect": str(perfect), "copies": str(copies)}})
    evaluated = Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=params, embed=embed)
    found = run_evaluation(ArtifactStore(tmp_path / "store"), dataset, evaluated, tmp_path)
    best = {"l2": 0.0, "psnr": 100.0, "ssim": 1.0, "mask_iou": 1.0}
    assert {name: found.methods["perfect"][name] for name in best} == pytest.approx(best)
    assert found.methods["copies"] == pytest.approx(found.baselines["nearest_input_view"])
    assert found.comparisons["perfect"]["psnr"]["difference"]["mean"] == pytest.approx(found.model["psnr"] - 100.0)


def _one(folder: Path, pattern: str = "*/*[0-9].png") -> Path:
    return sorted(folder.glob(pattern))[0]


def _rename(folder: Path) -> None:
    _one(folder).rename(_one(folder).with_suffix(".PNG"))


def _resize(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(_one(folder))


REFUSALS = {
    "missing": (lambda folder: _one(folder).unlink(), r"expected .*\d\.png, found no such file"),
    "renamed": (_rename, r"found no such file; rename procedural-.*\.PNG"),
    "extra": (lambda folder: shutil.copy(_one(folder), folder / "extra.png"), r"found .*extra\.png; move it away"),
    "wrong size": (_resize, r"\d\.png: expected 16 x 16 pixels, found 8 x 8"),
    "no picture": (lambda folder: _one(folder).write_bytes(b"GIF89a"), r"\d\.png: expected a PNG"),
    "normals of some": (lambda folder: _one(folder, "*/*-normals.png").unlink(), r"-normals\.png, found no such file"),
    "no folder": (shutil.rmtree, "expected a folder of pictures"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_folder_is_refused_by_name(case: str, dataset: Path, perfect: Path, tmp_path: Path) -> None:
    """One line with the method and the file."""
    change, message = REFUSALS[case]
    folder = Path(shutil.copytree(perfect, tmp_path / "eg3d"))
    opened(folder, dataset)
    change(folder)
    with pytest.raises(ConfigError, match=f"predictions of eg3d: .*{message}"):
        opened(folder, dataset)


def test_alpha_of_some_pictures_is_refused(dataset: Path, perfect: Path, tmp_path: Path) -> None:
    """Masks are given for all views of a head or for none; grey pictures are no RGB."""
    folder = Path(shutil.copytree(perfect, tmp_path / "eg3d"))
    data = HeadDataset.open(dataset)
    views = choose_views(data, PARAMS, EmbedParams().frontal)[0]
    picture = folder / data.ids[views.subject] / f"{views.targets[0]:03d}.png"
    for mode, message in (("RGB", "expected alpha in all pictures or in none"), ("L", "expected RGB or RGBA")):
        Image.new(mode, (16, 16)).save(picture)
        with pytest.raises(ConfigError, match=message):
            opened(folder, dataset).read(data.ids[views.subject], views.targets)


def test_the_inputs_say_what_to_make(dataset: Path, perfect: Path, tmp_path: Path) -> None:
    """The wanted names are those of a complete folder, the cameras and given pictures those of the dataset."""
    data = HeadDataset.open(dataset)
    wanted = write_inputs(data, PARAMS, EmbedParams(), tmp_path / "inputs")
    made = {file.relative_to(perfect).as_posix() for file in perfect.rglob("*[0-9].png")}
    assert (tmp_path / "inputs" / "wanted.txt").read_text().split() == wanted
    assert set(wanted) == made
    for views in choose_views(data, PARAMS, EmbedParams().frontal):
        folder, cameras = tmp_path / "inputs" / data.ids[views.subject], data.cameras(views.subject)
        frames = json.loads((folder / "transforms.json").read_text())["frames"]
        assert [frame["file_path"] for frame in frames] == [f"{view:03d}.png" for view in views.targets]
        found = np.array([frame["transform_matrix"] for frame in frames]) @ FLIP
        np.testing.assert_allclose(found, cameras["cam2world"][views.targets], atol=1e-6)
        given = np.asarray(Image.open(folder / "given" / f"{views.conditioning_indices[0]:03d}.png"))
        true = read_views(data, views.subject, views.conditioning_indices)
        np.testing.assert_array_equal(given, cut_out(true.rgb, true.mask)[0])
        assert not list(folder.glob("*.png"))


def test_the_key_follows_the_pictures(perfect: Path, tmp_path: Path) -> None:
    """The folder may move; a changed picture changes the key; a missing folder is named."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))

    def key(folder: Path) -> str:
        params = PARAMS.model_copy(update={"predictions": {"eg3d": str(folder)}})
        return evaluation_key("digest", {"multi-view": "training"}, params, embed)

    moved = Path(shutil.copytree(perfect, tmp_path / "moved"))
    assert key(moved) == key(perfect)
    before = key(perfect)
    _resize(moved)
    assert key(moved) != before
    with pytest.raises(ConfigError, match=r"evaluate\.predictions\.eg3d: expected a folder"):
        key(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model", "a b", "../x", ""])
def test_names_of_methods_are_plain(name: str) -> None:
    """A name is a column of the table and a field of the profile."""
    with pytest.raises(ValueError, match="predictions"):
        EvaluateParams(predictions={name: "folder"})
