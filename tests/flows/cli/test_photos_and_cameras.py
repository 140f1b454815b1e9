"""Pictures and cameras from outside, each through the command that reads it: `align` and `generate`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.models.geometry.distortion import undistorted
from spinmeround.tasks.generation.inputs import PosedFiles, check_inputs
from spinmeround.tasks.generation.params import GenerationParams
from spinmeround.tasks.generation.run import InputReader
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.pictures.photos import WHITE, read_photo
from tests.tasks.pictures.test_photos import REFUSED

CASES = Path(__file__).parents[2] / "cases"
LANDMARKS = "100,100 150,100 125,130 105,150 145,150"
WORLD, OTHER = CASES / "cameras_wrong_world", "expected cameras that see the head's cube"

CAMERAS = {
    "angle_deg": "expected radians, below pi, got 13.4, which looks like degrees: write 0.233874",
    "away": "cameras that look away from the head",
    "colmap_cameras": "cameras[0].params: expected the lens in the frame or at the top level, as fl_x, fl_y",
    "distortion": "k1: expected a lens without distortion, got k1 -0.3, k2 0.1, p1 0.01; give --undistort",
    "distortion_params": "distortion_params[1]: expected a lens without distortion",
    "equirectangular": "camera_model: expected a pinhole",
    "fisheye": "camera_model: expected a pinhole",
    "focal_and_angle": "expected a focal length in pixels that fits the field of view",
    "focal_text": "frames[0].fl_x: expected a number above 0, got '1091'",
    "focal_true": "frames[0].fl_x: expected a number above 0, got True",
    "frame_null": "frames[0].transform_matrix: expected 4 rows of 4 finite numbers, got none",
    "infinity": "frames[0].cx: expected a number, got inf",
    "is_fisheye": "is_fisheye: expected a pinhole",
    "last_row": "frames[0].transform_matrix: expected the last row 0 0 0 1",
    "latlong": "latlong: expected a pinhole",
    "metres_near": "got 0.54 for camera 0; the unit is the side of the head's cube, and 2.7 is usual: perhaps the "
    "positions are in a larger unit, as metres (multiply them by about 5)",
    "normalised_centre": "expected cx and cy in pixels, got 0.5 and 0.5 in an image of 256",
    "millimetres": "positions in millimetres (about 1000 times too large)",
    "nan": "frames[0].cx: expected a number, got nan",
    "opencv_axes": "OpenCV camera axes",
    "opencv_world_to_camera": "world-to-camera matrices (invert them) and OpenCV camera axes",
    "principal_point": "expected cx and cy inside the image of 256 pixels, got 1000000.0",
    "projection_type": "frames[0].projection_type: expected a pinhole",
    "repeated": "fl_x: expected each field once in an object, found it again; remove one of them",
    "thin_prism": "s1: expected a lens without distortion",
    "transposed": "the matrix looks transposed",
    "unseen": OTHER,
    "world_to_camera": "world-to-camera matrices",
    "z_up": "a world with z up",
    "../cameras_crash/deep": "expected a JSON object, found lists or objects nested too deep to read",
    "../cameras_crash/deep_field": "expected lists and objects in at most 32 levels",
    "../cameras_crash/digits": "fl_x: expected a number above 0, got 1000",
    "../cameras_crash/many_digits": "expected JSON, found something else",
    "../cameras_crash/long_name": "file_path: expected a picture, found 'aaaa",
    "../cameras_encodings/latin1": "expected JSON, found something else",
}


@pytest.fixture
def passed(monkeypatch, tmp_path) -> list[GenerationParams]:
    """The parameters that commands pass to the flow, which is not run."""
    found: list[GenerationParams] = []
    monkeypatch.setattr(
        "spinmeround.flows.cli.generate.run_flow", lambda options, flow, **values: found.append(values["params"])
    )
    monkeypatch.chdir(tmp_path)
    return found


def given(kind: str, file: Path) -> GenerationParams:
    return GenerationParams.model_validate({"given": {"kind": kind, "file": str(file)}})


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("command", ["views", "unconditional"])
@pytest.mark.parametrize("name", CAMERAS)
def test_cameras_of_another_world_are_refused(passed, command: str, name: str) -> None:
    """As given views and as targets: exit status 2, and one error that names the file and the cause."""
    file = (WORLD / f"{name}.json").resolve()
    arguments = [file] if command == "views" else ["--cameras", file]
    status, output = run("generate", command, *arguments)
    assert (status, passed) == (2, []), output
    assert CAMERAS[name] in output
    assert output.startswith("error: ")
    assert output.startswith(f"error: {file}: ")


def test_every_case_of_cameras_is_run() -> None:
    """Each file of the folder is refused above, or warned of below."""
    assert {path.stem for path in WORLD.glob("*.json")} == {name for name in CAMERAS if "/" not in name} | {"far"}


def test_a_picture_that_is_not_square_has_no_cameras(passed, tmp_path: Path) -> None:
    """Its field of view alone is that of another height; with the size of a square image the picture is not read."""
    Image.new("RGB", (40, 30)).save(tmp_path / "wide.png")
    document = json.loads((CASES / "cameras_blender/blender.json").read_text(encoding="utf-8"))
    document["frames"] = [{**document["frames"][0], "file_path": "wide.png"}]
    for more, expected in (({}, 2), ({"w": 64, "h": 64}, 0)):
        (tmp_path / "a.json").write_text(json.dumps({**document, **more}), encoding="utf-8")
        status, output = run("generate", "unconditional", "--cameras", tmp_path / "a.json")
        assert status == expected, output
        assert ("expected a square picture, or w and h of one, got wide.png of 40 x 30" in output) == bool(expected)


def test_a_name_that_is_too_long_is_an_error(passed, tmp_path: Path) -> None:
    """The picture of a frame is not found; the system's own error is none of ours."""
    document = json.loads((CASES / "cameras_blender/blender.json").read_text(encoding="utf-8"))
    document["frames"] = [{**document["frames"][0], "file_path": "a" * 5000}]
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    status, output = run("generate", "views", tmp_path / "a.json")
    assert (status, passed) == (2, []), output
    assert "a.json: file_path: expected a picture, found" in output


ACCEPTED = [
    "cameras_blender/blender",
    "cameras_blender/perspective",
    "cameras_encodings/bom",
    "cameras_encodings/utf16",
    "cameras_encodings/utf8_names",
]


@pytest.mark.parametrize("name", ACCEPTED)
def test_other_forms_are_read(passed, name: str) -> None:
    """`camera_angle_x` alone, names without suffix, Blender's fields, byte order marks, and names beyond ASCII."""
    for arguments in (["views", CASES / f"{name}.json"], ["unconditional", "--cameras", CASES / f"{name}.json"]):
        status, output = run("generate", *arguments)
        assert status == 0, output
    assert len(passed) == 2


def test_distortion_is_removed_if_asked(passed, tmp_path: Path) -> None:
    """`--undistort`: the file is accepted, and a picture is read as the pinhole of the same intrinsics sees it."""
    status, output = run("generate", "views", "--undistort", WORLD / "distortion.json")
    assert status == 0, output
    files = PosedFiles.read(Path(passed[0].given.file), undistort=True)
    picture = read_photo(files.images[0]).picture
    expected = undistorted(np.asarray(picture), files.cameras.intrinsics[0], (-0.3, 0.1, 0.01, *[0.0] * 5), WHITE)
    found = InputReader(None, picture.width, EmbedParams()).posed(files).images[0]
    np.testing.assert_allclose(found * 255, expected, atol=1e-3)
    assert np.abs(expected.astype(int) - np.asarray(picture)).max() > 20


def test_names_beyond_ascii_are_read_in_any_locale() -> None:
    """A file in UTF-8 is read where the locale's encoding is ASCII."""
    code = (
        "import sys; from pathlib import Path\n"
        "from spinmeround.tasks.generation.inputs import PosedFiles, read_square\n"
        "read_square(PosedFiles.read(Path(sys.argv[1])).images[0])"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    file = CASES / "cameras_encodings/utf8_names.json"
    done = subprocess.run([sys.executable, "-c", code, file], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_distant_camera_is_a_remark() -> None:
    """Both numbers are in it."""
    found = check_inputs(given("views", WORLD / "far.json"))
    assert "its position is 5.4 from the head's centre, 2.7 in training" in found[0]
    params = GenerationParams.model_validate({"given": {"kind": "nothing"}, "cameras_file": str(WORLD / "far.json")})
    assert "2.7 in training" in check_inputs(params)[0]


@pytest.mark.parametrize("name", REFUSED)
def test_pictures_are_refused_by_every_reader(passed, tmp_path: Path, name: str) -> None:
    """`align`, `generate photo` and `generate views` refuse the same files, and write nothing."""
    picture = CASES / name
    document = json.loads((CASES / "cameras_encodings/bom.json").read_text(encoding="utf-8-sig"))
    document["frames"][0]["file_path"] = str(picture)
    (tmp_path / "posed.json").write_text(json.dumps(document))
    commands = [
        ["align", picture, "--to", "a.png", "--landmarks", LANDMARKS],
        ["generate", "photo", picture],
        ["generate", "views", "posed.json"],
    ]
    for command in commands:
        status, output = run(*command)
        assert status == 2, output
        assert f"{picture}: expected " in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["posed.json"]


def test_a_picture_must_be_square(passed) -> None:
    """The size is checked before pixels are decoded."""
    status, output = run("generate", "photo", CASES / "pictures/wide.png")
    assert status == 2
    assert "expected a square picture, framed like the dataset's, got 32 x 20" in output


@pytest.mark.parametrize("name", ["exif_rotated/exif6.jpg", "exif_rotated/plain.png", "gray16/gray16.png"])
def test_good_pictures_are_accepted(passed, tmp_path: Path, name: str) -> None:
    """`generate photo` accepts what `align` reads; a turned photo is cropped as the upright one."""
    status, output = run("generate", "photo", CASES / name, "--azimuth", "180", "--identity", "x")
    assert status == 0, output
    assert passed[0].given.azimuth_deg == 180.0
    status, output = run("align", CASES / name, "--to", "a.png", "--landmarks", LANDMARKS, "--side", 64)
    assert status == 0, output
    if name.endswith("exif6.jpg"):
        run("align", CASES / "exif_rotated/plain.png", "--to", "b.png", "--landmarks", LANDMARKS, "--side", 64)
        pictures = [np.asarray(Image.open(tmp_path / f"{letter}.png"), int) for letter in "ab"]
        assert np.abs(pictures[0] - pictures[1]).mean() < 4


@pytest.mark.parametrize("landmarks", ["900,900 950,900 925,930 905,950 945,950", "-90,0 -50,0 -70,30 -85,50 -55,50"])
def test_landmarks_outside_the_photo_are_refused(tmp_path: Path, landmarks: str) -> None:
    """They would give a white crop."""
    to = tmp_path / "a.png"
    status, output = run("align", CASES / "exif_rotated/plain.png", "--to", to, f"--landmarks={landmarks}")
    assert status == 2
    assert "--landmarks: expected points inside the upright photo of 256 x 256 pixels" in output
    assert not to.exists()


def test_a_background_that_stays_is_said(tmp_path: Path) -> None:
    """By `align` on standard error, and by the remarks of `generate photo` and `views`; not for a cut-out picture."""
    plain = CASES / "exif_rotated/plain.png"
    said = "the background stays in the picture, and the model was trained without any; remove it with --matting FILE"
    status, output = run("align", plain, "--to", tmp_path / "a.png", "--landmarks", LANDMARKS)
    assert (status, said in output) == (0, True), output
    for kind, file in (("photo", plain), ("views", CASES / "cameras_encodings/bom.json")):
        assert any(said in note for note in check_inputs(given(kind, file)))
    picture = Image.new("RGBA", (256, 256))
    picture.paste(Image.open(plain).convert("RGB").crop((60, 60, 190, 190)), (60, 60))
    picture.save(tmp_path / "cut.png")
    assert check_inputs(given("photo", tmp_path / "cut.png")) == []
    status, output = run("align", tmp_path / "cut.png", "--to", tmp_path / "b.png", "--landmarks", LANDMARKS)
    assert (status, said in output) == (0, False), output


def test_an_identity_may_be_a_photo(passed, tmp_path: Path) -> None:
    """Its path becomes absolute, a missing or defective photo is refused."""
    shutil.copy(CASES / "exif_rotated/plain.png", tmp_path / "front.png")
    status, output = run("generate", "photo", "front.png", "--azimuth", "180", "--identity", "front.png")
    assert status == 0, output
    assert passed[0].given.identity == str(tmp_path / "front.png")
    for name, message in (("no.jpg", "no.jpg: expected a file"), (CASES / "pictures/empty.jpg", "expected a picture")):
        status, output = run("generate", "photo", "front.png", "--identity", name)
        assert status == 2
        assert message in output
