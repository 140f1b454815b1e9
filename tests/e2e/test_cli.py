"""The command line: exit status and messages."""

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
from spinmeround.models.diffusion.params import NoiseSchedule, PhotoNormalsParams, SolverParams
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.renderers import pytorch3d_problem
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.dataset import assemble
from spinmeround.tasks.generation.params import GenerationParams, HeadInput, IdentityInput, InterpolationInput
from tests.e2e.runs import summary
from tests.support.heads import flip_bit, write_heads


def posed(folder, views, radius=2.7, duplicate=False):
    """Write a transforms.json of grey pictures on a ring; `duplicate` repeats the first camera at the end."""
    cameras = ViewGrid(azimuths=views, elevations_deg=(0.0,), radius=max(radius, 1.0)).cameras()
    document = transforms_json(cameras, 16, ["grey.png"] * views)
    for frame in document["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= min(radius, 1.0)
    if duplicate:
        document["frames"][-1]["transform_matrix"] = document["frames"][0]["transform_matrix"]
    Image.new("RGB", (16, 16), "grey").save(folder / "grey.png")
    (folder / "posed.json").write_text(json.dumps(document))


DEFECTIVE_FILES = {
    "two views": (lambda folder: posed(folder, 2), ["views", "posed.json"], "expected 1 or 3 frames .* got 2"),
    "four views": (lambda folder: posed(folder, 4), ["views", "posed.json"], "expected 1 or 3 frames .* got 4"),
    "a picture that is not square": (
        lambda folder: Image.new("RGB", (20, 30)).save(folder / "tall.png"),
        ["photo", "tall.png"],
        "tall.png: expected a square picture, framed like the dataset's, got 20 x 30",
    ),
    "a target in the head": (
        lambda folder: posed(folder, 3, radius=0.3),
        ["unconditional", "--cameras", "posed.json"],
        "cameras: expected cameras at a distance of 0.87 or more from the head's centre, got 0.3 for camera 0",
    ),
    "a given view in the head": (
        lambda folder: posed(folder, 3, radius=0.3),
        ["views", "posed.json"],
        "posed.json: frames: expected cameras at a distance of 0.87 or more",
    ),
    "one camera twice": (
        lambda folder: posed(folder, 3, duplicate=True),
        ["views", "posed.json"],
        "posed.json: frames: expected views from different cameras, got .* 0 and 2",
    ),
    "a NaN identity": (
        lambda folder: np.save(folder / "me.npy", np.full(512, np.nan)),
        ["identity", "me.npy"],
        "me.npy: expected 512 finite numbers, not all zero",
    ),
}


@pytest.mark.parametrize("case", DEFECTIVE_FILES)
def test_defective_files_are_refused_before_anything_is_loaded(case, environment, tmp_path, monkeypatch):
    """`spinmeround generate` names the file, what is allowed and what it found, and writes nothing; no trained model
    exists."""
    make, arguments, message = DEFECTIVE_FILES[case]
    make(tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, ["generate", *arguments])
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr), result.stderr
    assert sorted(tmp_path.iterdir()) == before


GENERATED = {
    "head": (
        ["x", "--view", "back", "--view", "30,-15", "--view", "#2", "--no-anchors", "--solver", "heun"],
        {
            "given": HeadInput(head="x", views=("back", "30,-15", "#2")),
            "anchored": False,
            "solver": SolverParams(solver="heun"),
        },
        7,
    ),
    "photo": (
        ["p.png", "--azimuth", "20", "--elevation", "-5", "--identity", "y", "--corrections", "2", "--draws", "4"],
        {"photo_normals": PhotoNormalsParams(corrections=2, draws=4)},
        7,
    ),
    "identity": (
        ["y", "--sampling-steps", "9", "--guidance", "2.5", "--batch", "3", "--seed", "8", "--anchors"],
        {
            "given": IdentityInput(identity="y"),
            "schedule": NoiseSchedule(steps=9),
            "guidance_scale": 2.5,
            "batch": 3,
            "seed": 8,
            "anchored": True,
        },
        7,
    ),
    "interpolate": (
        ["a", "b", "--heads", "4", "--linear"],
        {"given": InterpolationInput(start="a", end="b", heads=4, method="linear"), "schedule": NoiseSchedule()},
        1,
    ),
    "unconditional": (["--heads", "6", "--cameras", "grid"], {"anchored": None, "guidance_scale": None}, 25),
}


@pytest.mark.parametrize("command", GENERATED)
def test_generate_passes_its_options_on(command, environment, tmp_path, monkeypatch):
    """Each option arrives in its field of the flow's parameters; defaults are the paper's."""
    arguments, expected, azimuths = GENERATED[command]
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("p.png")
    passed = {}
    monkeypatch.setattr(
        "spinmeround.flows.cli.generate.run_flow", lambda options, flow, **values: passed.update(values)
    )
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, ["generate", command, *arguments, "--to", "out"])
    assert result.exit_code == 0, result.output
    params = GenerationParams.model_validate(passed["params"])
    assert {name: getattr(params, name) for name in expected} == expected
    if command == "photo":
        values = params.given.model_dump(include={"file", "azimuth_deg", "elevation_deg", "identity"})
        angles = {"azimuth_deg": 20.0, "elevation_deg": -5.0}
        assert values == {"file": str(tmp_path / "p.png"), "identity": "y", **angles}
    assert params.views.azimuths == azimuths
    assert passed["folder"] == str(tmp_path / "out")


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
        (["build", "--set", "render.resolution=128"], "train.unet.sample_size: expected render.resolution 128 / 4"),
        (["generate", "head", "x", "--view", "front", "--view", "back"], "views: expected 1 or 3 views, got 2"),
        (["generate", "unconditional", "--to", "/dev/null/views"], "--to /dev/null/views: expected a folder at /dev"),
        (["generate", "photo", "no.png"], "no.png: expected a file, found none"),
        (["generate", "identity", "no.npy"], "no.npy: expected a file, found none"),
        (["generate", "unconditional", "--cameras", "circle"], "--cameras: expected orbit:N with N of 1 to 3600"),
        (["generate", "head", "x", *["--view", "#1"] * 3], "expected different views, got #1, #1, #1"),
        (["generate", "head", "x", "--view", "top"], "view: expected front, back, left, right, AZIMUTH"),
        (["heads", "--set", "generator.name=nosuch:make"], "generator: generator.name: 'nosuch:make' can't be imp"),
        (["heads", "--set", "generator.options.foo=1"], "foo"),
        (["heads", "--strip", "-1", "3"], "strip: expected two seeds of 0 or more, got -1 and 3"),
        (["heads", "--azimuths", "0,nan"], "azimuths: expected degrees separated by commas, as 0,90,180; got '0,nan'"),
        (["heads", "--azimuths", "inf"], "azimuths: expected degrees separated by commas, as 0,90,180; got 'inf'"),
        (["screen", "calibrate", "--keep", "2"], "--keep: input should be less than or equal to 1, got 2"),
        (["screen", "calibrate", "--recall", "nan"], "--recall: input should be a finite number, got nan"),
        (["screen", "calibrate", "--keep", ".9", "--recall", ".8"], "--keep 0.9 --recall 0.8: expected one of them"),
        (["export", "procedural-000001", "--to", "head.glb"], "expected a run of profile 'demo', found none"),
    ],
    ids=[
        *("profile", "field", "grid", "workers", "stage", "dataset", "renderer", "side", "views", "to"),
        *("photo", "identity file", "cameras", "one view thrice", "view name"),
        *("generator", "option", "strip", "nan", "inf", "keep", "recall", "aims", "run"),
    ],
)
def test_user_errors_print_in_two_lines(arguments, message, environment, tmp_path, monkeypatch):
    """Exit status 2, one or two lines on standard error that name the error, no traceback, no artifacts."""
    runs = [] if arguments[0] in ("dataset", "heads") else ["--runs", str(tmp_path / "runs")]
    monkeypatch.chdir(tmp_path)
    with patch.dict(os.environ, environment):
        result = CliRunner().invoke(app, [*arguments, *runs])
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert message in lines[-1] or message in lines[0]
    assert len(lines) <= 2
    assert not list((tmp_path / "runs").glob("*/store/*"))
    assert not list(tmp_path.glob("*.png"))


def test_commands_that_read_a_run_make_none(tmp_path):
    """A typo in --runs is an error and leaves no folder behind."""
    result = CliRunner().invoke(
        app, ["export", "procedural-000000", "--to", str(tmp_path / "a.ply"), "--runs", str(tmp_path / "rnus")]
    )
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_benchmark_of_no_heads_is_refused():
    """The benchmark's own options have bounds, and the error names the option."""
    result = CliRunner().invoke(app, ["bench", "screening", "--heads", "0"])
    assert result.exit_code == 2
    assert "--heads" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failed_worker_prints_one_line(tmp_path, monkeypatch):
    """An exception in a worker, or its death, prints no traceback on the terminal."""
    for error in (CallFailed("RuntimeError: no nose", "Traceback ..."), WorkerDied("worker died with signal 9")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("spinmeround.flows.cli.pipeline.run_flow", fail)
        result = CliRunner().invoke(app, ["report", "--runs", str(tmp_path)])
        assert result.exit_code == 2
        assert str(error) in result.stderr
        assert "Traceback" not in result.stderr


def test_a_read_only_folder_of_runs_is_an_error(tmp_path):
    """A folder of runs that can no longer be written gives one line, with any server."""
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
        assert "read-only: choose a writable folder" in result.stderr.splitlines()[-1]
    finally:
        subprocess.run(["umount", str(tmp_path / "runs" / ".prefect")], check=True)


def test_damage_in_a_dataset_is_reported(tmp_path):
    """`dataset verify` exits with 0 for an intact dataset; with 1, and a line per problem, for a damaged one."""
    path = assemble(tmp_path / "heads.zarr", write_heads(tmp_path / "heads", range(2)), {}).path
    assert CliRunner().invoke(app, ["dataset", "verify", str(path)]).exit_code == 0
    flip_bit(path / "rgb/c.1.0.0.0.0")
    damaged = CliRunner().invoke(app, ["dataset", "verify", str(path)])
    assert damaged.exit_code == 1
    assert "head procedural-000001 rgb: rgb/c.1.0.0.0.0: its content does not match its SHA-256" in damaged.stderr
    assert "1 problems" in damaged.stdout


def test_a_full_disk_is_reported_and_survived(tiny, profile_file, tmp_path, environment):
    """A full disk ends the build with a line that says so; with free space again, the same command finishes it."""
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
