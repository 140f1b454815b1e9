"""Generation with a trained pipeline: what is given, what is written, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spinmeround.models.diffusion.params import NoiseSchedule, PhotoNormalsParams
from spinmeround.models.geometry.cameras import ViewGrid, orbit
from spinmeround.models.geometry.transforms import cameras_of_transforms, transforms_json
from spinmeround.models.identity.params import DetectionParams
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.generation.params import (
    GenerationParams,
    HeadInput,
    IdentityInput,
    InterpolationInput,
    NothingInput,
    PhotoInput,
    ViewsInput,
    parse_cameras,
)
from spinmeround.tasks.generation.run import run_generation
from spinmeround.tasks.heads.embed import EmbedParams, photo_identity
from tests.support.browser import launched
from tests.support.packs import write_pack

GRID = ViewGrid(azimuths=3, elevations_deg=(0.0,))
FRONT = ViewGrid(azimuths=1, elevations_deg=(0.0,))
HEAD_FILES = {"transforms.json", "sheet.png", "orbit.webp", "orbit.html"}
VIEWS = {f"{kind}-0{number}.png" for kind in ("view", "normals") for number in range(3)}
QUICK_NORMALS = PhotoNormalsParams(steps=2)


def params(given: Any = None, **changes: Any) -> GenerationParams:
    """Parameters of two sampling steps; nothing is given by default."""
    quick = {"views": GRID, "schedule": NoiseSchedule(steps=2)}
    return GenerationParams(given=given or NothingInput(), **{**quick, **changes})


def photo(path: Path, **changes: Any) -> PhotoInput:
    return PhotoInput(file=str(path), normals=QUICK_NORMALS, **changes)


def posed(path: Path) -> ViewsInput:
    return ViewsInput(file=str(path), normals=QUICK_NORMALS)


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file, int)


def test_a_heads_views_are_written(dataset: Path, pipeline: Path, tmp_path: Path, capfd) -> None:
    """One picture and normal map per camera, the given view, cameras that can be read back, a sheet, an animation and
    a page without links are written; steps are reported by callback, without progress bars."""
    seen: list[tuple[int, int]] = []
    given = HeadInput(head=HeadDataset.open(dataset).ids[0])
    files = run_generation(pipeline, dataset, params(given), tmp_path, on_progress=lambda *step: seen.append(step))
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]
    assert not [line for line in capfd.readouterr().err.splitlines() if "%|" in line and "Loading" not in line]
    assert {file.name for file in files} == VIEWS | HEAD_FILES | {"given-00.png", "given-normals-00.png"}
    document = json.loads((tmp_path / "transforms.json").read_text())
    np.testing.assert_allclose(cameras_of_transforms(document).cam2world, GRID.cameras().cam2world, atol=1e-6)
    assert [picture(tmp_path / frame["file_path"]).shape for frame in document["frames"]] == [(16, 16, 3)] * 3
    with Image.open(tmp_path / "orbit.webp") as film:
        assert (film.n_frames, film.size) == (3, (32, 16))
    page = (tmp_path / "orbit.html").read_text()
    assert page.count("data:image/webp") == 6 + 2
    assert "http" not in page


@pytest.mark.parametrize(("view", "index"), [(None, 6), ("back", 9), ("-60,-15", 5), ("#2", 2)])
def test_the_given_view_is_the_named_one(
    dataset: Path, pipeline: Path, tmp_path: Path, view: str | None, index: int
) -> None:
    """Of six azimuths on rings at -15 and 0 degrees the front, view 6, is given by default."""
    data = HeadDataset.open(dataset)
    given = HeadInput(head=data.ids[0]) if view is None else HeadInput(head=data.ids[0], views=(view,))
    run_generation(pipeline, dataset, params(given, views=FRONT), tmp_path)
    expected = data.read_views(0, [index], ("rgb",))["rgb"][0]
    np.testing.assert_array_equal(picture(tmp_path / "given-00.png"), expected)


@pytest.mark.parametrize("anchored", [None, True, False])
def test_an_identity_alone(dataset: Path, pipeline: Path, tmp_path: Path, anchored: bool | None) -> None:
    """A head's id and a file with its identity give the same pictures, with anchors and without."""
    data = HeadDataset.open(dataset)
    np.save(tmp_path / "identity.npy", 3 * data.identities[1])
    for name, identity in (("head", data.ids[1]), ("file", str(tmp_path / "identity.npy"))):
        given = IdentityInput(identity=identity)
        run_generation(pipeline, dataset, params(given, anchored=anchored), tmp_path / name)
    pictures = [picture(tmp_path / name / "view-01.png") for name in ("head", "file")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_several_heads_from_nothing(pipeline: Path, tmp_path: Path) -> None:
    """Each head has a folder, one picture shows all, and a head is independent of their number."""
    files = run_generation(pipeline, None, params(NothingInput(heads=3), seed=5), tmp_path / "three")
    assert {file.parent.name for file in files} == {"three", "seed-5", "seed-6", "seed-7"}
    run_generation(pipeline, None, params(seed=6), tmp_path / "one")
    same = [(tmp_path / where / "view-02.png").read_bytes() for where in ("three/seed-6", "one")]
    assert same[0] == same[1]
    assert len(picture(tmp_path / "three" / "heads.png")) > 3 * 40


def test_heads_between_two(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """The ends of an interpolation equal the heads of either identity alone, from the same seed."""
    first, second = HeadDataset.open(dataset).ids[:2]
    between = InterpolationInput(start=first, end=second, heads=3)
    files = run_generation(pipeline, dataset, params(between, views=FRONT), tmp_path / "way")
    assert {file.parent.name for file in files} == {"way", "step-00", "step-01", "step-02"}
    for end, step in ((first, "step-00"), (second, "step-02")):
        run_generation(pipeline, dataset, params(IdentityInput(identity=end), views=FRONT), tmp_path / end)
        pictures = [picture(at / "view-00.png") for at in (tmp_path / end, tmp_path / "way" / step)]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_photo(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """A larger photo is resized to the model's resolution, and its normals are inferred."""
    rgb = HeadDataset.open(dataset).read_views(0, [2], ("rgb",))["rgb"][0]
    Image.fromarray(rgb).resize((50, 50)).save(tmp_path / "photo.png")
    given = photo(tmp_path / "photo.png", azimuth_deg=60.0)
    files = {file.name for file in run_generation(pipeline, dataset, params(given), tmp_path / "out")}
    assert files == VIEWS | HEAD_FILES | {"given-00.png", "given-normals-00.png"}
    assert np.abs(picture(tmp_path / "out" / "given-00.png") - rgb).mean() < 12
    assert picture(tmp_path / "out" / "given-normals-00.png").shape == (16, 16, 3)


def test_a_photos_camera_is_the_profiles(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """A photo's camera has the radius and focal length of the profile's views, also when the target cameras come from
    a file, so the photo equals the view at its own angle."""
    rgb = HeadDataset.open(dataset).read_views(0, [2], ("rgb",))["rgb"][0]
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    grid = ViewGrid(azimuths=3, elevations_deg=(0.0,), radius=3.3, focal=5.0)
    document = transforms_json(grid.cameras(), 16, ["a.png"] * 3)
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    given = photo(tmp_path / "photo.png", azimuth_deg=120.0)
    for cameras in ("orbit:3", str(tmp_path / "cameras.json")):
        run_generation(pipeline, None, params(given, **parse_cameras(cameras, grid)), tmp_path / "out")
        normals = [
            (tmp_path / "out" / name).read_bytes()
            for name in ("given-normals-00.png", "normals-01.png", "normals-02.png")
        ]
        assert normals[0] == normals[1]
        assert normals[0] != normals[2]


def test_a_pictures_identity_is_detected(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """With a pack, the largest face of a photo or of a posed picture is embedded, with the same result as if that
    identity were given. A picture without a face is refused, unless its identity is given."""
    pack = write_pack(tmp_path / "pack", "w600k_r50.onnx")
    embed = EmbedParams(pack=str(pack), recognition=str(pack), detection=DetectionParams(threshold=1e-6))
    rgb = HeadDataset.open(dataset).read_views(0, [2], ("rgb",))["rgb"][0]
    Image.fromarray(rgb).resize((160, 160)).save(tmp_path / "photo.png")
    identity = photo_identity(picture(tmp_path / "photo.png").astype(np.uint8), embed)
    assert identity is not None
    assert np.linalg.norm(identity) == pytest.approx(1.0, abs=1e-5)
    np.save(tmp_path / "found.npy", identity)
    unknown = photo(tmp_path / "photo.png")
    known = photo(tmp_path / "photo.png", identity=str(tmp_path / "found.npy"))
    (tmp_path / "posed.json").write_text(json.dumps(transforms_json(orbit([0.0], [0.0]), 160, ["photo.png"])))
    views = posed(tmp_path / "posed.json")
    named = photo(tmp_path / "photo.png", identity=str(tmp_path / "photo.png"))
    cases = {
        "found": (unknown, embed),
        "given": (known, embed),
        "photo": (named, embed),
        "posed": (views, embed),
        "unknown": (unknown, None),
    }
    for name, (given, detector) in cases.items():
        run_generation(pipeline, dataset, params(given), tmp_path / name, embed=detector)
    pictures = {name: picture(tmp_path / name / "view-01.png") for name in cases}
    np.testing.assert_array_equal(pictures["found"], pictures["given"])
    np.testing.assert_array_equal(pictures["found"], pictures["photo"])
    np.testing.assert_array_equal(pictures["found"], pictures["posed"])
    with pytest.raises(ConfigError, match=r"photo\.png: expected a face detector \(embed\.pack\)"):
        run_generation(pipeline, dataset, params(named), tmp_path / "none")
    assert (pictures["found"] != pictures["unknown"]).any()
    blind = embed.model_copy(update={"detection": DetectionParams(threshold=0.999999)})
    for faceless in (unknown, views):
        with pytest.raises(ConfigError, match=r"photo\.png: expected a photo with a face, the detector finds none"):
            run_generation(pipeline, dataset, params(faceless), tmp_path / "none", embed=blind)
    run_generation(pipeline, dataset, params(known), tmp_path / "known", embed=blind)


@pytest.mark.parametrize("normals", [True, False])
def test_written_views_can_be_given(dataset: Path, pipeline: Path, tmp_path: Path, normals: bool) -> None:
    """The transforms.json of generated views is accepted as posed views, with its normals or without."""
    run_generation(pipeline, dataset, params(), tmp_path / "first")
    document = json.loads((tmp_path / "first" / "transforms.json").read_text())
    if not normals:
        for frame in document["frames"]:
            del frame["normals_file_path"]
        (tmp_path / "first" / "transforms.json").write_text(json.dumps(document))
    again = params(posed(tmp_path / "first" / "transforms.json"))
    files = {file.name for file in run_generation(pipeline, dataset, again, tmp_path / "again")}
    assert {"given-02.png", "given-normals-02.png"} <= files
    view, given = tmp_path / "first" / "view-01.png", tmp_path / "again" / "given-01.png"
    assert np.array_equal(picture(view), picture(given))


def test_defective_inputs_are_refused(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """An unknown head, a head without a dataset and a defective file are refused by name."""
    with pytest.raises(DatasetError, match="procedural-999999"):
        run_generation(pipeline, dataset, params(HeadInput(head="procedural-999999")), tmp_path)
    with pytest.raises(ConfigError, match="dataset: expected one that contains the head x, got none"):
        run_generation(pipeline, None, params(HeadInput(head="x")), tmp_path)
    with pytest.raises(ConfigError, match=r"no\.png: expected a picture, found none"):
        run_generation(pipeline, None, params(photo(tmp_path / "no.png")), tmp_path)
    with pytest.raises(ConfigError, match="pipeline: expected a trained pipeline"):
        run_generation(tmp_path, None, params(), tmp_path)


def test_the_page_turns_in_a_browser(pipeline: Path, tmp_path: Path) -> None:
    """Arrow keys and the mouse change the picture and the angle, without network requests or console messages."""
    run_generation(pipeline, None, params(views=ViewGrid(azimuths=8, elevations_deg=(0.0, 20.0))), tmp_path)
    messages: list[str] = []
    requests: list[str] = []
    with launched() as browser:
        page = browser.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url[:5]))
        page.goto((tmp_path / "orbit.html").as_uri())
        assert page.text_content("#angles") == "azimuth 0°, elevation 0°"
        page.focus("#stage")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        assert page.text_content("#angles") == "azimuth 45°, elevation 20°"
        turned = page.get_attribute("#rgb", "src")
        box = page.locator("#stage").bounding_box()
        page.mouse.move(box["x"] + 200, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + 60, box["y"] + 50, steps=5)
        page.mouse.up()
        assert page.get_attribute("#rgb", "src") != turned
        page.keyboard.press("Home")
        assert page.text_content("#angles") == "azimuth 0°, elevation 0°"
    assert messages == []
    assert set(requests) <= {"file:", "data:"}
