"""Parameters of generation, and the files that it is given."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from spinmeround.models.diffusion.params import PhotoNormalsParams
from spinmeround.models.geometry.camera_world import sees_head
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.generation.inputs import (
    check_inputs,
    find_view,
    find_views,
    photo_angles,
    read_cameras,
    read_document,
    read_identity,
    target_cameras,
)
from spinmeround.tasks.generation.params import (
    GenerationParams,
    HeadInput,
    NothingInput,
    PhotoInput,
    ViewsInput,
    parse_cameras,
    parse_view,
)
from tests.support.junk import JSON


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "given: Unable to extract tag using discriminator 'kind'"),
        ({"kind": "song"}, "'song' found using 'kind' does not match any of the expected tags"),
        ({"kind": "head"}, "head.head"),
        ({"kind": "head", "head": "x", "views": ["#1", "#2"]}, "expected 1 or 3 views, got 2"),
        ({"kind": "head", "head": "x", "views": ["#1"] * 3}, "expected different views, got #1, #1, #1"),
        ({"kind": "head", "head": "x", "views": ["top"]}, "view: expected front, back, left, right, AZIMUTH"),
        ({"kind": "identity"}, "identity.identity"),
        ({"kind": "interpolation", "start": "x"}, "interpolation.end"),
        ({"kind": "photo", "file": "x", "views": ["#1"]}, "photo.views"),
        ({"kind": "nothing", "identity": "x"}, "nothing.identity"),
    ],
    ids=lambda value: None if isinstance(value, str) else value.get("kind", "empty"),
)
def test_each_kind_has_its_own_fields(given: dict[str, Any], message: str) -> None:
    """A field that is missing, defective or of another kind is refused by name."""
    with pytest.raises(ValidationError) as refused:
        GenerationParams.model_validate({"given": given})
    texts = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in refused.value.errors()]
    assert any(message in text for text in texts), texts


def test_a_form_offers_each_kind() -> None:
    """The JSON schema lists the kinds as `anyOf`, with only the fields of each."""
    schema = GenerationParams.model_json_schema()
    names = [choice["$ref"].rpartition("/")[2] for choice in schema["properties"]["given"]["anyOf"]]
    fields = {
        schema["$defs"][name]["properties"]["kind"]["const"]: schema["$defs"][name]["properties"] for name in names
    }
    assert set(fields) == {"photo", "views", "head", "identity", "interpolation", "nothing"}
    assert set(fields["head"]) == {"kind", "head", "views"}
    assert "oneOf" not in schema["properties"]["given"]


def test_inferred_normals_belong_to_pictures() -> None:
    """The parameters of inferred normals are those of the photo or the views, and the defaults for all others."""
    normals = PhotoNormalsParams(draws=3)
    for each in (PhotoInput(file="x", normals=normals), ViewsInput(file="x", normals=normals)):
        assert GenerationParams(given=each).photo_normals == normals
    assert GenerationParams(given=HeadInput(head="x")).photo_normals == PhotoNormalsParams()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("front", (0.0, 0.0)),
        ("left", (90.0, 0.0)),
        ("right", (-90.0, 0.0)),
        ("30", (30.0, 0.0)),
        ("-30,15.5", (-30.0, 15.5)),
        ("#62", 62),
    ],
)
def test_names_of_views(text: str, expected: object) -> None:
    """Names, degrees and indices."""
    assert parse_view(text) == expected


@pytest.mark.parametrize("text", ["", "top", "#", "#-1", "#x", "nan", "1,2,3", "0,91", "inf,0", "62#"])
def test_other_names_of_views_are_refused(text: str) -> None:
    """The error lists what is allowed and quotes what was given."""
    with pytest.raises(ValueError, match="view: expected front, back, left, right, AZIMUTH"):
        parse_view(text)


def test_angles_select_the_nearest_view() -> None:
    """On the paper's grid of 25 x 5 views the front is view 50; the left of the head is on the side of +x."""
    cameras = ViewGrid().cameras()
    angles = {name: find_view(cameras, name) for name in ("front", "back", "left", "right", "30,-15", "-1,29", "#62")}
    assert angles == {"front": 50, "back": 62, "left": 56, "right": 69, "30,-15": 27, "-1,29": 100, "#62": 62}
    assert cameras.cam2world[angles["left"], 0, 3] > 2
    with pytest.raises(ConfigError, match="view #125: expected an index of #0 to #124"):
        find_view(cameras, "#125")
    with pytest.raises(ConfigError, match="expected different views, but front is #50, 1 is #50, #0 is #0"):
        find_views(cameras, ("front", "1", "#0"))


def test_cameras_by_name() -> None:
    """An orbit of N views, the profile's grid, or a file; others are refused with a list of what is allowed."""
    grid = ViewGrid(azimuths=5, elevations_deg=(0.0, 10.0), radius=3.0)
    ring = target_cameras(GenerationParams(given=NothingInput(), **parse_cameras("orbit:48", grid)))
    assert len(ring) == 48
    assert np.linalg.norm(ring.cam2world[0, :3, 3]) == pytest.approx(3.0)
    assert len(target_cameras(GenerationParams(given=NothingInput(), **parse_cameras("grid", grid)))) == 10
    for wrong in ("orbit:0", "orbit", "circle:3", "orbit:-2"):
        with pytest.raises(ConfigError, match=r"--cameras: expected orbit:N with N of 1 to 3600, grid or FILE\.json"):
            parse_cameras(wrong, grid)
    with pytest.raises(ConfigError, match=r"missing\.json: expected a JSON file, found none"):
        check_inputs(GenerationParams(given=NothingInput(), **parse_cameras("missing.json", grid)))


def test_cameras_of_a_file(tmp_path: Path) -> None:
    """A transforms.json replaces the grid; a camera inside the head is refused."""
    document = transforms_json(ViewGrid(azimuths=4, elevations_deg=(0.0,)).cameras(), 16, ["a.png"] * 4)
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    params = GenerationParams(given=NothingInput(), cameras_file=str(tmp_path / "cameras.json"))
    assert len(target_cameras(params)) == 4
    check_inputs(params)
    for row in document["frames"][0]["transform_matrix"][:3]:
        row[3] = 0.1
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"cameras: expected cameras at a distance of 0\.87 or more"):
        check_inputs(params)


def test_a_labelled_photos_camera(tmp_path: Path) -> None:
    """The label of an aligned photo gives its camera, unless angles are given; without either it is the front."""
    file = tmp_path / "photo.png"
    label = file.with_suffix(".json")
    photo = PhotoInput(file=str(file))
    assert photo_angles(photo) == (0.0, 0.0)
    label.write_text(json.dumps({"camera": {"azimuth_deg": 20.0, "elevation_deg": -5.0}}))
    assert photo_angles(photo) == (20.0, -5.0)
    assert photo_angles(PhotoInput(file=str(file), azimuth_deg=7.0)) == (7.0, -5.0)
    label.write_text(json.dumps({"camera": None}))
    assert photo_angles(PhotoInput(file=str(file), elevation_deg=3.0)) == (0.0, 3.0)
    label.write_text(json.dumps({"camera": {"azimuth_deg": "left"}}))
    with pytest.raises(ConfigError, match=r"photo\.json: camera\.azimuth_deg: expected degrees, found 'left'"):
        photo_angles(photo)
    label.write_text(json.dumps({"camera": {"elevation_deg": -5.0}}))
    with pytest.raises(ConfigError, match=r"photo\.json: camera\.azimuth_deg: expected degrees, found none"):
        photo_angles(photo)
    assert photo_angles(PhotoInput(file=str(file), azimuth_deg=7.0)) == (7.0, -5.0)
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(file)
    for camera in ([20.0, -5.0], "iPhone 14 Pro", {"make": "Apple"}):  # another program's
        label.write_text(json.dumps({"camera": camera}))
        assert photo_angles(photo) == (0.0, 0.0)
        notes = "\n".join(check_inputs(GenerationParams(given=photo)))
        assert "photo.json: states no angles of a camera, so the photo is taken as from the front" in notes
    label.write_text("[]")
    assert photo_angles(PhotoInput(file=str(file), azimuth_deg=1.0, elevation_deg=2.0)) == (1.0, 2.0)
    with pytest.raises(ConfigError, match=r"photo\.json: expected"):
        photo_angles(photo)


FIELDS = ["w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_model", "is_fisheye", "k1", "file_path"]
FIELDS += [
    "K",
    "K1",
    "D",
    "fx",
    "camera",
    "cameras",
    "distortion",
    "distortion_params",
    "model",
    "principal_point",
    "fov",
]
NUMBERS = st.one_of(st.integers(), st.floats(), st.just(10**400), st.booleans(), JSON)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "transform_matrix"]), NUMBERS, max_size=3),
    st.dictionaries(st.sampled_from([*FIELDS, "frames"]), NUMBERS, max_size=2),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats()),
)
def test_any_transforms_json_is_read_or_refused(tmp_path: Path, frame: Any, top: Any, element: Any) -> None:
    """Fields and elements of a valid file are replaced by anything: cameras that see the head, or a ConfigError."""
    document = transforms_json(ViewGrid(azimuths=1, elevations_deg=(0.0,)).cameras(), 16, ["a.png"])
    row, column, value = element
    document["frames"][0]["transform_matrix"][row][column] = value
    document["frames"][0].update(frame)
    file = tmp_path / "cameras.json"
    file.write_text(json.dumps({**document, **top}))
    with contextlib.suppress(ConfigError):
        check_inputs(GenerationParams(given=NothingInput(), cameras_file=str(file)))
        assert sees_head(read_cameras(file)).all()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"fl_x": 1, "frames": [], "fl_x": 2}', "fl_x"),
        ('{"frames": [{"camera": {"w": 1, "k\\n": 2, "k\\n": 2}}]}', r"'k\\n'"),
        ('{"a": {"\\ud800": 1, "\\ud800": 2}}', r"'\\ud800'"),
    ],
)
def test_a_repeated_field_is_an_error(tmp_path: Path, text: str, field: str) -> None:
    """At any depth; JSON readers take the last of them."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"a\.json: {field}: expected each field once in an object"):
        read_document(tmp_path / "a.json")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(st.binary(max_size=60), st.builds(lambda v: json.dumps({"camera": {"azimuth_deg": v}}).encode(), NUMBERS))
)
def test_any_label_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """The label of a photo: degrees in range, or a ConfigError."""
    (tmp_path / "photo.json").write_bytes(data)
    with contextlib.suppress(ConfigError):
        assert abs(photo_angles(PhotoInput(file=str(tmp_path / "photo.png")))[0]) <= 360


def test_defective_pictures_and_identities(tmp_path: Path) -> None:
    """A picture that is not square, a missing one, and identities of other numbers are refused by name."""
    Image.new("RGB", (20, 30)).save(tmp_path / "tall.png")
    with pytest.raises(ConfigError, match="expected a square picture, framed like the dataset's, got 20 x 30"):
        check_inputs(GenerationParams(given=PhotoInput(file=str(tmp_path / "tall.png"))))
    with pytest.raises(ConfigError, match="expected a picture, found none"):
        check_inputs(GenerationParams(given=PhotoInput(file=str(tmp_path / "none.png"))))
    with pytest.raises(ConfigError, match=r"identity\.npy: expected a \.npy file with 512 numbers"):
        read_identity(tmp_path / "identity.npy")
    np.save(tmp_path / "identity.npy", np.full(512, np.nan))
    with pytest.raises(ConfigError, match="expected 512 finite numbers"):
        read_identity(tmp_path / "identity.npy")
