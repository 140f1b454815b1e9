"""`spinmeround export`: meshes with vertex colours that other software reads."""

import json
import os
from unittest.mock import patch

import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.profile import load_profile
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import StorageUnavailable
from spinmeround.tasks.heads.mesh import MESH, load_mesh
from spinmeround.tasks.heads.render import RENDER
from spinmeround.tasks.heads.sample import SAMPLE
from spinmeround.tasks.stage import Head, head_keys, make_head
from tests.support.tiny import TinyGenerator

HEAD = Head(id="tiny-000001", seed=1)
PROFILE = """
extends = "demo"
name = "tiny"
generator = { name = "tests.support.tiny:make" }
plan = { heads = 3 }
views = { azimuths = 8, elevations_deg = [-40.0, 0.0, 40.0] }
render = { resolution = 64 }
mesh = { resolution = 40 }
screen = {}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with one rendered and meshed head: its command-line options, and the mesh."""
    root = tmp_path_factory.mktemp("run")
    (root / "tiny.toml").write_text(PROFILE)
    profile = load_profile(str(root / "tiny.toml"))
    (root / "run").mkdir()
    (root / "run" / "run.json").write_text(json.dumps({"profile": "tiny"}))
    store = ArtifactStore(root / "run" / "store")
    stages = (SAMPLE, RENDER, MESH)
    keys = head_keys(stages, HEAD, {stage.name: stage.sections(profile) for stage in stages})
    for stage in stages:
        make_head(store, stage, HEAD, stage.sections(profile), {name: keys[name] for name in stage.inputs})
    options = ["--profile", str(root / "tiny.toml"), "--out", str(root / "run")]
    return options, load_mesh(store.path("mesh", keys["mesh"]))


def export(run, head, target, *more):
    return CliRunner().invoke(app, ["export", head, "--to", str(target), *run[0], *more])


def true_colours(vertices):
    """What the tiny generator paints at points of its surface: the seed's colour, brighter towards the front."""
    generator = TinyGenerator()
    identity = generator.sample(HEAD.seed)
    colour = 60 + 150 / (1 + np.exp(-identity.latent[3:]))
    return colour * np.clip(0.7 + 0.3 * vertices[:, 2:] / generator._axes(identity)[2], 0, 1)


def srgb(linear):
    """Linear light, 0 to 1, as sRGB from 0 to 255."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj", ".GLB"])
def test_an_exported_head_keeps_its_colours(run, suffix, tmp_path):
    """trimesh reads the same vertices, faces and normals, and at every vertex the head's own colour.

    No white of the background is mixed in, not even at the outlines.
    """
    target = tmp_path / f"head{suffix}"
    result = export(run, HEAD.id, target)
    assert result.exit_code == 0, result.output
    scene = trimesh.load_scene(target, process=False, skip_materials=True, maintain_order=True)
    (solid,) = scene.geometry.values()
    mesh = run[1]
    np.testing.assert_allclose(solid.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(solid.faces, mesh.faces)
    assert solid.is_watertight
    assert solid.volume > 0
    np.testing.assert_allclose(solid.vertex_normals, mesh.normals, atol=1e-4)
    colours = solid.visual.vertex_colors[:, :3].astype(float)
    if suffix.lower() == ".glb":  # linear light, which trimesh rounds to bytes
        colours = srgb(colours / 255)
    error = np.abs(colours - true_colours(mesh.vertices))
    assert np.percentile(error, 99) < 4
    assert error.max() < 10


def test_a_glb_is_unlit(run, tmp_path):
    """The material is unlit and not metallic, and the colours are floats: 8 bits are too few for linear light."""
    assert export(run, HEAD.id, tmp_path / "head.glb").exit_code == 0
    data = (tmp_path / "head.glb").read_bytes()
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    (primitive,) = tree["meshes"][0]["primitives"]
    material = tree["materials"][primitive["material"]]
    assert "KHR_materials_unlit" in tree["extensionsUsed"]
    assert "KHR_materials_unlit" in material["extensions"]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert tree["accessors"][primitive["attributes"]["COLOR_0"]]["componentType"] == 5126


@pytest.mark.parametrize(
    ("head", "name", "message"),
    [
        ("tiny-000007", "a.glb", "'tiny-000007': expected a head of profile tiny, tiny-000000 to tiny-000002"),
        ("tiny-000002", "a.glb", "its artifacts render and mesh in"),
        (HEAD.id, "a.stl", "expected the suffix .glb, .ply or .obj, got '.stl'"),
        (HEAD.id, "nowhere/a.glb", "expected a file in an existing folder"),
    ],
    ids=["unknown head", "not made", "suffix", "folder"],
)
def test_impossible_exports_are_refused(run, head, name, message, tmp_path):
    """Exit status 2, one line that names the error, and no file."""
    result = export(run, head, tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / name).exists()


def test_an_existing_file_is_kept_unless_forced(run, tmp_path):
    """Without --force its bytes are kept; with it they are replaced."""
    target = tmp_path / "head.ply"
    target.write_bytes(b"mine")
    refused = export(run, HEAD.id, target)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert target.read_bytes() == b"mine"
    assert export(run, HEAD.id, target, "--force").exit_code == 0
    assert target.read_bytes().startswith(b"ply")


def test_a_full_disk_is_reported(run, tmp_path):
    """An error of the file system becomes one line with advice."""
    with patch("spinmeround.tasks.exchange.mesh_files.write_atomic", side_effect=OSError(28, os.strerror(28))):
        result = export(run, HEAD.id, tmp_path / "head.ply")
    assert isinstance(result.exception.__cause__, StorageUnavailable)
    assert "disk is full" in result.stderr
