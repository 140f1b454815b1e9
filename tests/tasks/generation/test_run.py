"""Sampling from a trained pipeline: what may be given, what is written, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spinmeround.models.diffusion.edm import NoiseSchedule
from spinmeround.models.diffusion.photo_normals import PhotoNormalsParams
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import ViewGrid, orbit
from spinmeround.models.geometry.transforms import cameras_of_transforms, transforms_json
from spinmeround.models.identity.detection import DetectionParams
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.tasks.generation.inputs import read_identity
from spinmeround.tasks.generation.params import camera_of_photo, parse_cameras
from spinmeround.tasks.generation.run import SampleViewsParams, run_sampling
from spinmeround.tasks.heads.embed import EmbedParams, photo_identity
from tests.support.packs import write_pack

GRID = ViewGrid(azimuths=3, elevations_deg=(0.0,))
OF_A_HEAD = {"transforms.json", "sheet.png", "orbit.webp", "orbit.html"}
VIEWS = {f"{kind}-0{number}.png" for kind in ("view", "normals") for number in range(3)}


def params(**changes: Any) -> SampleViewsParams:
    quick = {"views": GRID, "schedule": NoiseSchedule(steps=2), "photo_normals": PhotoNormalsParams(steps=2)}
    return SampleViewsParams(**{**quick, **changes})


def test_a_heads_views_are_written(dataset: Path, pipeline: Path, tmp_path: Path, capfd) -> None:
    """One picture and one normal map a camera, the given view, cameras that can be read back, a sheet, an animation of
    all views and a page without links; steps are told, not drawn."""
    seen: list[tuple[int, int]] = []
    head = HeadDataset.open(dataset).ids[0]
    files = run_sampling(pipeline, dataset, params(head=head), tmp_path, lambda *step: seen.append(step))
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]
    assert not [line for line in capfd.readouterr().err.splitlines() if "%|" in line and "Loading" not in line]
    assert {file.name for file in files} == VIEWS | OF_A_HEAD | {"given-00.png", "given-normals-00.png"}
    document = json.loads((tmp_path / "transforms.json").read_text())
    np.testing.assert_allclose(cameras_of_transforms(document).cam2world, GRID.cameras().cam2world, atol=1e-6)
    assert [Image.open(tmp_path / frame["file_path"]).size for frame in document["frames"]] == [(16, 16)] * 3
    with Image.open(tmp_path / "orbit.webp") as film:
        assert (film.n_frames, film.size) == (3, (32, 16))
    page = (tmp_path / "orbit.html").read_text()
    assert page.count("data:image/webp") == 6 + 2
    assert "http" not in page


@pytest.mark.parametrize("anchored", [None, True, False])
def test_an_identity_alone(dataset: Path, pipeline: Path, tmp_path: Path, anchored: bool | None) -> None:
    """Of a head, or from a file: the same pictures; with anchors or without."""
    data = HeadDataset.open(dataset)
    np.save(tmp_path / "identity.npy", 3 * data.identities[1])
    for name, identity in (("head", data.ids[1]), ("file", str(tmp_path / "identity.npy"))):
        run_sampling(
            pipeline, dataset, params(condition="identity", identity=identity, anchored=anchored), tmp_path / name
        )
    pictures = [np.asarray(Image.open(tmp_path / name / "view-01.png"), int) for name in ("head", "file")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_several_heads_from_nothing(pipeline: Path, tmp_path: Path) -> None:
    """Each head in its folder, and all in one picture; a head does not depend on how many there are."""
    files = run_sampling(pipeline, None, params(condition="nothing", heads=3, seed=5), tmp_path / "three")
    assert {file.parent.name for file in files} == {"three", "seed-5", "seed-6", "seed-7"}
    run_sampling(pipeline, None, params(condition="nothing", seed=6), tmp_path / "one")
    same = [(tmp_path / where / "view-02.png").read_bytes() for where in ("three/seed-6", "one")]
    assert same[0] == same[1]
    assert Image.open(tmp_path / "three" / "heads.png").height > 3 * 40


def test_heads_between_two(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """The ends of the strip are what either identity gives alone, from the same seed."""
    first, second = HeadDataset.open(dataset).ids[:2]
    front = {"views": ViewGrid(azimuths=1, elevations_deg=(0.0,))}
    between = params(condition="interpolation", between=(first, second), steps_between=3, **front)
    files = run_sampling(pipeline, dataset, between, tmp_path / "way")
    assert {file.parent.name for file in files} == {"way", "step-00", "step-01", "step-02"}
    for end, step in ((first, "step-00"), (second, "step-02")):
        run_sampling(pipeline, dataset, params(condition="identity", identity=end, **front), tmp_path / end)
        pictures = [np.asarray(Image.open(at / "view-00.png"), int) for at in (tmp_path / end, tmp_path / "way" / step)]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_photo_of_ones_own(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """A larger square picture is brought to the model's side, its normals are inferred, its camera is the one told."""
    rgb = HeadDataset.open(dataset).read_views(0, [2], ("rgb",))["rgb"][0]
    Image.fromarray(rgb).resize((50, 50)).save(tmp_path / "photo.png")
    photo = params(condition="photo", photo=str(tmp_path / "photo.png"), photo_azimuth_deg=60.0)
    files = {file.name for file in run_sampling(pipeline, dataset, photo, tmp_path / "out")}
    assert files == VIEWS | OF_A_HEAD | {"given-00.png", "given-normals-00.png"}
    given = np.asarray(Image.open(tmp_path / "out" / "given-00.png"), int)
    assert np.abs(given - rgb).mean() < 12
    assert Image.open(tmp_path / "out" / "given-normals-00.png").size == (16, 16)


def test_a_photos_camera_is_the_profiles(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """It has the distance and the lens of the profile's views, also where the cameras to generate come from a file: so
    the photo is the view at its own angle."""
    rgb = HeadDataset.open(dataset).read_views(0, [2], ("rgb",))["rgb"][0]
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    grid = ViewGrid(azimuths=3, elevations_deg=(0.0,), radius=3.3, focal=5.0)
    document = transforms_json(grid.cameras(), 16, ["a.png"] * 3)
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    for cameras in ("orbit:3", str(tmp_path / "cameras.json")):
        photo = {"condition": "photo", "photo": str(tmp_path / "photo.png"), "photo_azimuth_deg": 120.0}
        run_sampling(pipeline, None, params(**photo, **parse_cameras(cameras, grid)), tmp_path / "out")
        normals = [
            (tmp_path / "out" / name).read_bytes()
            for name in ("given-normals-00.png", "normals-01.png", "normals-02.png")
        ]
        assert normals[0] == normals[1]
        assert normals[0] != normals[2]


def test_a_photo_s_identity_is_found_by_the_pack(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """Where the profile names a pack the largest face of a photo, or of a posed picture, is embedded, as if that
    identity were given; without a face the error says so, and --identity needs none."""
    pack = write_pack(tmp_path / "pack", "w600k_r50.onnx")
    embed = EmbedParams(pack=str(pack), recognition=str(pack), detection=DetectionParams(threshold=1e-6))
    rgb = HeadDataset.open(dataset).read_views(0, [2], ("rgb",))["rgb"][0]
    Image.fromarray(rgb).resize((160, 160)).save(tmp_path / "photo.png")
    identity = photo_identity(np.asarray(Image.open(tmp_path / "photo.png")), embed)
    assert identity is not None
    assert np.linalg.norm(identity) == pytest.approx(1.0, abs=1e-5)
    np.save(tmp_path / "found.npy", identity)
    photo = params(condition="photo", photo=str(tmp_path / "photo.png"))
    known = photo.model_copy(update={"identity": str(tmp_path / "found.npy")})
    (tmp_path / "posed.json").write_text(json.dumps(transforms_json(orbit([0.0], [0.0]), 160, ["photo.png"])))
    posed = params(condition="posed", posed=str(tmp_path / "posed.json"))
    ways = {"found": (photo, embed), "given": (known, embed), "posed": (posed, embed), "unknown": (photo, None)}
    for name, (wanted, how) in ways.items():
        run_sampling(pipeline, dataset, wanted, tmp_path / name, embed=how)
    pictures = {name: np.asarray(Image.open(tmp_path / name / "view-01.png")) for name in ways}
    np.testing.assert_array_equal(pictures["found"], pictures["given"])
    np.testing.assert_array_equal(pictures["found"], pictures["posed"])
    assert (pictures["found"] != pictures["unknown"]).any()
    blind = embed.model_copy(update={"detection": DetectionParams(threshold=0.999999)})
    for faceless in (photo, posed):
        with pytest.raises(ConfigError, match=r"photo\.png: expected a photo with a face, the detector finds none"):
            run_sampling(pipeline, dataset, faceless, tmp_path / "none", embed=blind)
    run_sampling(pipeline, dataset, known, tmp_path / "told", embed=blind)


@pytest.mark.parametrize("normals", [True, False])
def test_posed_views_are_what_sampling_writes(dataset: Path, pipeline: Path, tmp_path: Path, normals: bool) -> None:
    """A transforms.json of three views, as sampling leaves it, is taken back as conditioning, with its normals or
    without."""
    run_sampling(pipeline, dataset, params(condition="nothing"), tmp_path / "first")
    document = json.loads((tmp_path / "first" / "transforms.json").read_text())
    if not normals:
        for frame in document["frames"]:
            del frame["normals_file_path"]
        (tmp_path / "first" / "transforms.json").write_text(json.dumps(document))
    again = params(condition="posed", posed=str(tmp_path / "first" / "transforms.json"))
    files = {file.name for file in run_sampling(pipeline, dataset, again, tmp_path / "again")}
    assert {"given-02.png", "given-normals-02.png"} <= files
    view, given = (tmp_path / "first" / "view-01.png", tmp_path / "again" / "given-01.png")
    assert np.array_equal(np.asarray(Image.open(view)), np.asarray(Image.open(given)))


def test_mistakes_are_named(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """Two or four views, a picture that is not square, a NaN identity, a camera in the head, an unknown head and files
    that are not there: each error says what is allowed."""
    run_sampling(pipeline, dataset, params(condition="nothing", views=ViewGrid(azimuths=4)), tmp_path / "four")
    posed = tmp_path / "four" / "transforms.json"
    with pytest.raises(ConfigError, match="expected 1 or 3 frames as conditioning views, got 20"):
        run_sampling(pipeline, dataset, params(condition="posed", posed=str(posed)), tmp_path)
    Image.new("RGB", (20, 30)).save(tmp_path / "tall.png")
    with pytest.raises(ConfigError, match="expected a square picture, framed as the dataset's, got 20 x 30"):
        run_sampling(pipeline, None, params(condition="photo", photo=str(tmp_path / "tall.png")), tmp_path)
    with pytest.raises(ConfigError, match="expected a picture, found none"):
        run_sampling(pipeline, None, params(condition="photo", photo=str(posed)), tmp_path)
    np.save(tmp_path / "nan.npy", np.full(512, np.nan))
    with pytest.raises(ConfigError, match="expected 512 finite numbers"):
        run_sampling(pipeline, None, params(condition="identity", identity=str(tmp_path / "nan.npy")), tmp_path)
    with pytest.raises(DatasetError, match="procedural-999999"):
        run_sampling(pipeline, dataset, params(head="procedural-999999"), tmp_path)
    with pytest.raises(ValueError, match="head: expected one for condition 'views', got none"):
        SampleViewsParams()
    with pytest.raises(ValueError, match="given: expected 1 or 3 given views, got 2"):
        SampleViewsParams(head="x", given=(0, 1))
    document = json.loads(posed.read_text())
    for row in document["frames"][0]["transform_matrix"][:3]:
        row[3] = 0.1
    (tmp_path / "near.json").write_text(json.dumps(document))
    near = params(condition="nothing", cameras_file=str(tmp_path / "near.json"))
    with pytest.raises(ConfigError, match=r"cameras: expected cameras at a distance of 0\.87 or more"):
        run_sampling(pipeline, None, near, tmp_path)


def test_cameras_are_asked_for_in_words(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """A ring of so many, the profile's grid, or a file; anything else is refused with what there is."""
    grid = ViewGrid(azimuths=5, elevations_deg=(0.0, 10.0), radius=3.0)
    ring = SampleViewsParams(condition="nothing", **parse_cameras("orbit:48", grid)).cameras()
    assert len(ring) == 48
    assert np.linalg.norm(ring.cam2world[0, :3, 3]) == pytest.approx(3.0)
    assert len(SampleViewsParams(condition="nothing", **parse_cameras("grid", grid)).cameras()) == 10
    run_sampling(pipeline, dataset, params(condition="nothing"), tmp_path)
    file = str(tmp_path / "transforms.json")
    assert len(SampleViewsParams(condition="nothing", **parse_cameras(file, grid)).cameras()) == 3
    for wrong in ("orbit:0", "orbit", "circle:3", "orbit:-2"):
        with pytest.raises(ConfigError, match=r"--cameras: expected orbit:N with N of 1 to 3600, grid or FILE\.json"):
            parse_cameras(wrong, grid)
    with pytest.raises(ConfigError, match=r"missing\.json: expected a transforms\.json, found none"):
        SampleViewsParams(condition="nothing", **parse_cameras("missing.json", grid)).check_files()


def test_a_labelled_photos_camera(tmp_path: Path) -> None:
    """An aligned photo's label tells its camera, unless another is given; without either it is the front."""
    photo = tmp_path / "photo.png"
    assert camera_of_photo(photo, None, None) == (0.0, 0.0)
    photo.with_suffix(".json").write_text(json.dumps({"camera": {"azimuth_deg": 20.0, "elevation_deg": -5.0}}))
    assert camera_of_photo(photo, None, None) == (20.0, -5.0)
    assert camera_of_photo(photo, 7.0, None) == (7.0, -5.0)
    photo.with_suffix(".json").write_text(json.dumps({"camera": None}))
    assert camera_of_photo(photo, None, 3.0) == (0.0, 3.0)
    with pytest.raises(ConfigError, match=r"identity\.npy: expected a \.npy file with 512 numbers"):
        read_identity(tmp_path / "identity.npy")


def test_the_benchmark_measures_every_part(dataset: Path, pipeline: Path) -> None:
    """Rows of solvers, of inferred normals beside the mean map, and of anchored beside unanchored views, all with
    finite numbers; what no sampling can beat is beside them."""
    from tests.benchmarks.sampling import main

    options = {"model": pipeline, "dataset": dataset, "heads": 1, "steps": 2, "threads": 1}
    parts = ["steps", "normals", "consistency"]
    tables = list(main(**options, part=parts, views=16, counts="2", poses=3).values())
    solvers, normals, views = tables
    assert [row["solver"] for row in solvers] == ["euler", "heun", "dpmpp"]
    measures = ("PSNR of the truth", "normals, degrees", "PSNR of the solved equation")
    assert all(np.isfinite([row[measure] for measure in measures]).all() for row in solvers)
    assert [row["azimuth"] for row in normals[1:]] == ["-60", "0", "60"]
    methods = ("Algorithm 1", "without guidance", "the mean map", "truth through the autoencoder")
    assert all(0 <= row[method] <= 180 for row in normals for method in methods)
    assert normals[0]["Algorithm 1"] == pytest.approx(np.mean([row["Algorithm 1"] for row in normals[1:]]))
    assert normals[0]["of"] == 3
    by_name = {row["views"]: row for row in views}
    for measure in ("an eighth apart", "neighbours", "weakest neighbours"):
        assert by_name["true pictures"][measure] == max(row[measure] for row in views)
        for row in views:
            assert row[f"{measure}: wins"] == (row[measure] > by_name["unanchored"][measure])
    for name in ("anchored", "unanchored"):
        assert by_name[name]["weakest neighbours"] < by_name[name]["neighbours"]
        assert by_name[name]["an eighth apart"] != by_name[name]["neighbours"]
    with pytest.raises(ConfigError, match="--part: expected some of speed, steps, normals, consistency, got 'colour'"):
        main(model=pipeline, dataset=dataset, part=["colour"])
    with pytest.raises(ConfigError, match=r"--way: expected some of batched, compiled, .* got 'quick'"):
        main(way=["bfloat16+quick"])


def test_the_benchmark_samples_the_heads_and_with_the_guidance_that_are_asked(
    dataset: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of one split after the first ones, each with the scale; a split that was trained on and a split without so
    many heads are named."""
    from tests.benchmarks.sampling import main

    asked: list[tuple[float, np.ndarray]] = []
    call = SpinMeRoundPipeline.__call__

    def watched(self: SpinMeRoundPipeline, *args: Any, **options: Any) -> Any:
        asked.append((options["guidance_scale"], options["identity"]))
        return call(self, *args, **options)

    monkeypatch.setattr(SpinMeRoundPipeline, "__call__", watched)
    options = {"model": pipeline, "dataset": dataset, "part": ["consistency"], "views": 9, "steps": 1, "threads": 1}
    data = HeadDataset.open(dataset)
    expected = [*data.split("test"), *data.split("validation")][1]
    (title,) = main(**options, heads=1, skip=1, guidance=1.5)
    assert "guidance 1.5, 1 heads of test and validation from the 2." in title
    assert {scale for scale, _ in asked} == {1.5}
    assert all((identity == data.identities[expected]).all() for _, identity in asked)
    with pytest.raises(
        ConfigError, match="--split: expected test or validation, on which no model is trained, got 'tr"
    ):
        main(**options, split=["train"])
    with pytest.raises(ConfigError, match="--skip: expected unseen heads after the first 1000"):
        main(**options, skip=1000)


def test_what_is_timed_beside_the_plain_way_is_the_same(pipeline: Path) -> None:
    """Two forwards a step, the text and the cameras encoded at each: the latents of the default, to rounding, for a
    request of several groups."""
    from tests.benchmarks._sampling_speed import Job, largest_difference, measure

    shape = {"model": pipeline, "views": 13, "steps": 2, "repeats": 1, "threads": 1, "device": "cpu"}
    plain, default = (measure(Job(ways=(way,), **shape)) for way in ("plain", "batched"))
    assert plain["latents"].shape[0] == 13
    assert largest_difference(default["latents"], plain["latents"]) < 1e-4
    assert plain["seconds a view"] > 0


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt install chromium)")
def test_the_page_turns_in_a_browser(pipeline: Path, tmp_path: Path) -> None:
    """Arrow keys and the mouse change the picture and the angle, nothing is asked of a network, nothing complains."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    run_sampling(
        pipeline, None, params(condition="nothing", views=ViewGrid(azimuths=8, elevations_deg=(0.0, 20.0))), tmp_path
    )
    complaints, requests = [], []
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
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
        browser.close()
    assert complaints == []
    assert set(requests) <= {"file:", "data:"}
