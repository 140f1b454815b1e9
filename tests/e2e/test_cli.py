"""The command line, in processes of its own: exit status and words."""

import json
import os
import re
import subprocess
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.run.workers import CallFailed, WorkerDied
from spinmeround.models.diffusion.params import SolverParams
from spinmeround.models.diffusion.photo_normals import PhotoNormalsParams
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.normals_pytorch3d import pytorch3d_problem
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.dataset import assemble
from spinmeround.tasks.generation.params import SampleViewsParams
from tests.e2e.runs import summary
from tests.support.heads import flip_bit, write_heads


def posed(folder, views, radius=2.7, twice=False):
    """A transforms.json of grey pictures, so many at this distance; the last at the first's camera, if `twice`."""
    cameras = ViewGrid(azimuths=views, elevations_deg=(0.0,), radius=max(radius, 1.0)).cameras()
    document = transforms_json(cameras, 16, ["grey.png"] * views)
    for frame in document["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= min(radius, 1.0)
    if twice:
        document["frames"][-1]["transform_matrix"] = document["frames"][0]["transform_matrix"]
    Image.new("RGB", (16, 16), "grey").save(folder / "grey.png")
    (folder / "posed.json").write_text(json.dumps(document))


WRONG_FILES = {
    "two views": (lambda folder: posed(folder, 2), ["--views", "posed.json"], "expected 1 or 3 frames .* got 2"),
    "four views": (lambda folder: posed(folder, 4), ["--views", "posed.json"], "expected 1 or 3 frames .* got 4"),
    "a picture that is not square": (
        lambda folder: Image.new("RGB", (20, 30)).save(folder / "tall.png"),
        ["--photo", "tall.png"],
        "tall.png: expected a square picture, framed as the dataset's, got 20 x 30",
    ),
    "a target in the head": (
        lambda folder: posed(folder, 3, radius=0.3),
        ["--unconditional", "--cameras", "posed.json"],
        "cameras: expected cameras at a distance of 0.87 or more from the head's centre, got 0.3 for camera 0",
    ),
    "a given view in the head": (
        lambda folder: posed(folder, 3, radius=0.3),
        ["--views", "posed.json"],
        "posed.json: frames: expected cameras at a distance of 0.87 or more",
    ),
    "one camera twice": (
        lambda folder: posed(folder, 3, twice=True),
        ["--views", "posed.json"],
        "posed.json: frames: expected views from different cameras, got one twice, as views 0 and 2",
    ),
    "a NaN identity": (
        lambda folder: np.save(folder / "me.npy", np.full(512, np.nan)),
        ["--identity", "me.npy"],
        "me.npy: expected 512 finite numbers, not all zero",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_wrong_files_are_told_before_anything_is_loaded(wrong, environment, tmp_path, monkeypatch):
    """`spinmeround sample` names the file, what is allowed and what was found, and makes nothing; there is not even a
    trained model."""
    make, arguments, message = WRONG_FILES[wrong]
    make(tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, ["sample", *arguments])
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr), result.stderr
    assert sorted(tmp_path.iterdir()) == before


ASKED = {
    "views": (
        ["--from-dataset", "x", "--view", "3", "--view", "1", "--view", "2", "--no-anchors", "--solver", "heun"],
        {"head": "x", "given": (3, 1, 2), "anchored": False, "solver": SolverParams(solver="heun")},
    ),
    "photo": (
        ["--photo", "p.png", "--azimuth", "20", "--elevation", "-5", "--identity", "y", "--corrections", "2"],
        {"photo_azimuth_deg": 20.0, "photo_elevation_deg": -5.0, "identity": "y"},
    ),
    "identity": (
        ["--identity", "y", "--sampling-steps", "9", "--guidance", "2.5", "--batch", "3", "--seed", "8", "--anchors"],
        {"identity": "y", "sampling_steps": 9, "guidance_scale": 2.5, "batch": 3, "seed": 8, "anchored": True},
    ),
    "interpolation": (
        ["--interpolate", "a", "b", "--steps", "4", "--linear", "--cameras", "orbit:5"],
        {"between": ("a", "b"), "steps_between": 4, "way": "linear", "sampling_steps": 50},
    ),
    "nothing": (["--unconditional", "--heads", "6", "--cameras", "grid"], {"heads": 6, "given": (0,)}),
}


@pytest.mark.parametrize("condition", ASKED)
def test_sampling_is_asked_for_what_the_command_says(condition, environment, tmp_path, monkeypatch):
    """Each option arrives in the field of its name; what is not told is the paper's."""
    arguments, expected = ASKED[condition]
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("p.png")
    asked = {}
    monkeypatch.setattr("spinmeround.flows.cli.app.run_flow", lambda options, flow, **how: asked.update(how))
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, ["sample", *arguments, "--to", "out"])
    assert result.exit_code == 0, result.output
    params = SampleViewsParams.model_validate(asked["params"])
    assert params.condition == condition
    assert {name: getattr(params, name) for name in expected} == expected
    assert params.photo_normals == PhotoNormalsParams(corrections=2 if condition == "photo" else 1)
    grid = {"interpolation": 5, "nothing": 25}.get(condition, 7)
    assert params.views.azimuths == grid
    assert asked["folder"] == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--profile", "nobody"], "'nobody': expected one of demo"),
        (["build", "--set", "mesh.levle=3"], "mesh.levle: unknown field; did you mean mesh.level?"),
        (["build", "--set", "views.azimuths=0"], "views.azimuths"),
        (["build", "--workers", "-1"], "execution.workers"),
        (["stage", "sculpt"], "stage 'sculpt': expected one of sample, "),
        (["dataset", "info", "/nowhere"], "/nowhere"),
        pytest.param(
            ["build", "--set", "normals.renderer=pytorch3d"],
            "normals.renderer = pytorch3d: PyTorch3D is not installed",
            marks=pytest.mark.skipif(pytorch3d_problem(gpu=False) is None, reason="PyTorch3D is installed here"),
        ),
        (["build", "--set", "render.resolution=128"], "train.unet.sample_size: expected render.resolution 128 / 8"),
        (["sample", "--from-dataset", "x", "--view", "1", "--view", "2"], "--view: expected 1 or 3 given views, got 2"),
        (
            ["sample", "--unconditional", "--to", "/dev/null/samples"],
            "--to /dev/null/samples: expected a folder at /dev",
        ),
        (["sample"], "sample: expected one of --from-dataset HEAD, --photo FILE"),
        (["sample", "--unconditional", "--identity", "x"], "sample: expected one of --from-dataset HEAD, --photo FILE"),
        (["sample", "--photo", "no.png"], "--photo: expected a file, found none at no.png"),
        (["sample", "--unconditional", "--cameras", "circle"], "--cameras: expected orbit:N with N of 1 to 3600"),
        (["sample", "--unconditional", "--solver", "magic"], "--solver: expected euler, heun or dpmpp, got 'magic'"),
        (["sample", "--from-dataset", "x", *["--view", "1"] * 3], "given: expected different views, got 1, 1, 1"),
        (
            ["sample", "--unconditional", "--steps", "9"],
            "--steps: belongs to --interpolate; the solver's steps are --samp",
        ),
        (["sample", "--from-dataset", "x", "--draws", "8"], "--draws: belongs to --photo or --views"),
        (["sample", "--identity", "x", "--view", "3"], "--view: belongs to --from-dataset"),
        (["generate", "--set", "generator.name=nosuch:make"], "generator: generator.name: 'nosuch:make' can't be imp"),
        (["generate", "--set", "generator.options.foo=1"], "foo"),
        (["generate", "--strip", "-1", "3"], "strip: expected two seeds of 0 or more, got -1 and 3"),
        (["generate", "--azimuths", "0,nan"], "azimuths: expected degrees with commas, as 0,90,180; got '0,nan'"),
        (["generate", "--azimuths", "inf"], "azimuths: expected degrees with commas, as 0,90,180; got 'inf'"),
        (["screen", "calibrate", "--keep", "2"], "--keep: expected less than or equal to 1, got 2"),
        (["screen", "calibrate", "--recall", "nan"], "--recall: expected"),
        (["screen", "calibrate", "--keep", ".9", "--recall", ".8"], "--keep 0.9 --recall 0.8: expected one of them"),
        (["export", "procedural-000001", "--to", "head.glb"], "expected a run of profile 'demo', found none"),
    ],
    ids=[
        *("profile", "field", "grid", "workers", "stage", "dataset", "renderer", "side", "views", "to"),
        *(
            "nothing to sample",
            "two to sample",
            "photo",
            "cameras",
            "solver",
            "one view thrice",
            "idle steps",
            "idle draws",
            "idle view",
        ),
        *("generator", "option", "strip", "nan", "inf", "keep", "recall", "aims", "run"),
    ],
)
def test_mistakes_are_told_in_two_lines(arguments, message, environment, tmp_path, monkeypatch):
    """Exit status 2, a line or two on standard error that name the mistake, no traceback, nothing made."""
    runs = [] if arguments[0] in ("dataset", "generate") else ["--runs", str(tmp_path / "runs")]
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, [*arguments, *runs])
    assert result.exit_code == 2, result.output
    told = result.stderr.strip().splitlines()
    assert message in told[-1] or message in told[0]
    assert len(told) <= 2
    assert not list((tmp_path / "runs").glob("*/store/*"))
    assert not list(tmp_path.glob("*.png"))


def test_what_only_looks_at_a_run_makes_none(tmp_path):
    """A typo in --runs is told and leaves no folder behind."""
    result = CliRunner().invoke(
        app, ["export", "procedural-000000", "--to", str(tmp_path / "a.ply"), "--runs", str(tmp_path / "rnus")]
    )
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_benchmark_of_no_heads_is_refused():
    """Its own options have bounds, named in the error."""
    result = CliRunner().invoke(app, ["bench", "screening", "--heads", "0"])
    assert result.exit_code == 2
    assert "--heads" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_worker_that_fails_is_told_in_a_line(tmp_path, monkeypatch):
    """What a worker raised, or that it died, is no traceback on the terminal either."""
    for error in (CallFailed("RuntimeError: no nose", "Traceback ..."), WorkerDied("worker died with signal 9")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("spinmeround.flows.cli.app.run_flow", fail)
        result = CliRunner().invoke(app, ["report", "--runs", str(tmp_path)])
        assert result.exit_code == 2
        assert str(error) in result.stderr
        assert "Traceback" not in result.stderr


def test_a_read_only_folder_of_runs_is_told(tmp_path):
    """A folder of runs that was made earlier and can't be written now: a line, whoever runs the server."""
    (tmp_path / "runs" / ".prefect").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k,ro", "tmpfs", str(tmp_path / "runs" / ".prefect")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        with patch.dict(os.environ, own, clear=True):
            result = CliRunner().invoke(app, ["build", "--runs", str(tmp_path / "runs")])
            assert "PREFECT_API_URL" not in os.environ
        assert result.exit_code == 2
        assert "read-only: choose a folder that can be written" in result.stderr.splitlines()[-1]
    finally:
        subprocess.run(["umount", str(tmp_path / "runs" / ".prefect")], check=True)


def test_damage_in_a_dataset_is_told(tmp_path):
    """`dataset verify` leaves with 0 for a whole dataset; with 1, and a line for each problem, for a damaged one."""
    path = assemble(tmp_path / "heads.zarr", write_heads(tmp_path / "heads", range(2)), {}).path
    assert CliRunner().invoke(app, ["dataset", "verify", str(path)]).exit_code == 0
    flip_bit(path / "rgb/c/1/0/0/0/0")
    damaged = CliRunner().invoke(app, ["dataset", "verify", str(path)])
    assert damaged.exit_code == 1
    assert "head procedural-000001 rgb: rgb/c/1/0/0/0/0: its bytes do not match" in damaged.stderr
    assert "1 problems" in damaged.stdout


def test_a_full_disk_is_told_and_survived(tiny, profile_file, tmp_path, environment):
    """A target that fills up ends the build with a line that says so; with room again, the same command finishes it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        arguments = ["build", "--profile", str(profile_file), "--runs", str(tmp_path / "runs"), "--out", str(disk)]
        with patch.dict(os.environ, environment):
            full = CliRunner().invoke(app, arguments)
            assert full.exit_code == 2
            assert "disk is full" in full.stderr.splitlines()[-1]
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            again = CliRunner().invoke(app, arguments)
        assert again.exit_code == 0, again.stderr
        assert summary(disk)["heads"]["quarantined"] == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
