"""`spinmeround weights` and `spinmeround align`: what they print and write."""

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.storage.weights import PARTS, fingerprint
from tests.support.packs import write_pack

ASTRONAUT = "203,101 246.5,103.5 222,125 204.5,139 244.5,140"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_missing_parts_of_the_production_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1, one screen; each missing part once, with its fields and the command that gets it."""
    monkeypatch.chdir(tmp_path)
    status, output = run("weights", "check", "panohead")
    lines = output.splitlines()
    assert status == 1
    assert len(lines) <= 24
    missing = {line.split()[1] for line in lines if line.startswith("missing")}
    assert missing >= {"panohead-checkout", "panohead", "arcface", "antelopev2", "sd15-vae", "lpips-alexnet"}
    assert sum("get it: " in line for line in lines) == len(missing)
    assert "arcface            score.recognition, embed.recognition: nothing at" in output
    assert "spinmeround weights fetch sd15-vae" in output
    assert "git clone https://github.com/SizheAn/PanoHead weights/PanoHead" in output
    assert list(tmp_path.iterdir()) == []


def test_shipped_parts_are_present(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's parts ship with the package: exit status 0."""
    monkeypatch.chdir(tmp_path)
    status, output = run("weights", "check", "demo")
    assert status == 0
    assert "all present" in output


def test_every_part_is_listed_with_licence_and_source() -> None:
    """An unknown part is refused with the names of all."""
    status, output = run("weights", "list")
    assert status == 0
    for part in PARTS:
        assert part.licence in output
        assert part.source.page in output
    status, output = run("weights", "list", "panohed")
    assert status == 2
    assert "expected one of panohead-checkout, panohead, spherehead-checkout, spherehead, arcface" in output


def test_an_average_of_no_training_is_refused(tmp_path: Path) -> None:
    """A folder that is no result of a training, and a folder to write to that exists, are named."""
    status, output = run("weights", "average", str(tmp_path), "--length", "0.1", "--out", str(tmp_path / "out"))
    assert status == 2
    assert "expected a training's result with pipeline/ or networks/, found none" in " ".join(output.split())
    (tmp_path / "pipeline").mkdir()
    status, output = run("weights", "average", str(tmp_path), "--length", "0.1", "--out", str(tmp_path))
    assert status == 2
    assert "expected a new folder, found an existing one" in " ".join(output.split())


def test_a_photo_is_cropped_by_given_landmarks(tmp_path: Path) -> None:
    """Writes a picture of 512 pixels and a label without a camera; existing files are kept."""
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "photo.png")
    to = tmp_path / "aligned.png"
    status, output = run("align", str(tmp_path / "photo.png"), "--to", str(to), "--landmarks", ASTRONAUT)
    assert status == 0, output
    assert "no camera" in output
    assert "PanoHead's own cropping skips heads smaller than 256" in output
    with Image.open(to) as picture:
        assert picture.size == (512, 512)
    label = json.loads(to.with_suffix(".json").read_text())
    assert label["camera"] is None
    assert np.array(label["landmarks"]).shape == (5, 2)
    status, output = run("align", str(tmp_path / "photo.png"), "--to", str(to), "--landmarks", ASTRONAUT)
    assert status == 2
    assert "exists; choose another name" in output


def test_a_pack_with_landmarks_in_3d_gives_the_camera(tmp_path: Path) -> None:
    """The stub's face looks straight ahead: azimuth and elevation are near 0; without 3D there is no camera."""
    photo = np.full((300, 300, 3), 255, np.uint8)
    photo[50:250, 60:240] = np.random.default_rng(0).integers(0, 200, (200, 180, 1))
    Image.fromarray(photo).save(tmp_path / "photo.png")
    for name, landmarks_3d in (("with", True), ("without", False)):
        pack = write_pack(tmp_path / name, landmarks_3d=landmarks_3d)
        to = tmp_path / f"{name}.png"
        status, output = run("align", str(tmp_path / "photo.png"), "--to", str(to), "--pack", str(pack))
        assert status == 0, output
        camera = json.loads(to.with_suffix(".json").read_text())["camera"]
        assert (camera is not None) == landmarks_3d
        if camera:
            assert abs(camera["azimuth_deg"]) < 2
            assert abs(camera["elevation_deg"]) < 2
            assert np.linalg.norm(np.array(camera["cam2world"])[:3, 3]) == pytest.approx(2.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--landmarks", "1,2 3,4"], "expected five 'x,y'"),
        ([], "expected --pack FOLDER"),
        (["--landmarks", ASTRONAUT, "--border", "black"], "'black' is not one of"),
        (["--landmarks", "9,9 9,9 9,9 9,9 9,9"], "expected two eyes and a mouth"),
    ],
)
def test_user_errors_write_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Exit status 2, and no file."""
    Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(tmp_path / "photo.png")
    status, output = run("align", str(tmp_path / "photo.png"), "--to", str(tmp_path / "a.png"), *arguments)
    assert status == 2
    assert message in output
    assert not (tmp_path / "a.png").exists()


def test_weights_are_trained_with_a_card(tmp_path: Path) -> None:
    """A tiny autoencoder is written with a card that has its parameters, its figures and its fingerprint."""
    small = ["heads=1", "unseen_heads=1", "steps=2", "batch=2", "channels=[8, 8]", "views.views=2"]
    options = [word for value in [*small, "views.resolution=16"] for word in ("--set", value)]
    status, output = run("weights", "train", "autoencoder", "--to", str(tmp_path), *options)
    assert status == 0, output
    card = json.loads((tmp_path / "autoencoder.json").read_text())
    assert card["parameters"]["channels"] == [8, 8]
    assert card["fingerprint"] == fingerprint(tmp_path / "autoencoder")
    assert card["measured_on_unseen_heads"]["rgb_psnr_db"] > 0


def test_unknown_weights_and_parameters_are_named(tmp_path: Path) -> None:
    """The error lists what can be trained, or names the field."""
    for words, expected in (
        (["nose"], "expected one of recognition, detector, inspector, autoencoder, multiview, got 'nose'"),
        (["autoencoder", "--set", "stepz=1"], "weights autoencoder: stepz"),
        (["multiview", "--set", "train.unet.layers=1"], "train.unet.layers"),
    ):
        status, output = run("weights", "train", *words, "--to", str(tmp_path))
        assert status == 2
        assert expected in output
