"""Comparison of two runs that differ in one parameter."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.comparison import comparison_flow
from spinmeround.flows.profile import Profile
from spinmeround.tasks.overview.compare import compare_runs
from tests.e2e.runs import artifact_of, build

pytestmark = pytest.mark.usefixtures("server")


def test_another_mesh_changes_the_normals(tiny: Callable[..., Profile], built: Path, tmp_path: Path) -> None:
    """One parameter differs, the heads are the same, their normals are not, and their pictures are equal."""
    build(tiny(mesh={"resolution": 12}), tmp_path / "other")
    first, second = built / "tiny", tmp_path / "other" / "tiny"
    found = compare_runs(first, second)
    assert found.parameters == {"mesh.resolution": (24, 12)}
    assert found.heads == {}
    assert found.results.keys() == {"digest"}
    assert found.dataset is not None
    assert set(found.dataset.changed.values()) == {("normals",)}
    assert not found.empty

    sheet = tmp_path / "sheet.png"
    shown = CliRunner().invoke(app, ["diff", str(first), str(second), "--to", str(sheet)])
    assert shown.exit_code == 0, shown.output
    assert "mesh.resolution" in shown.output
    with Image.open(sheet) as picture:
        assert np.asarray(picture).min() < 200

    comparison_flow(str(first), str(second))
    assert "| mesh.resolution | 24 | 12 |" in artifact_of("comparison")


def test_a_run_and_itself(built: Path) -> None:
    """Nothing differs."""
    run = str(built / "tiny")
    shown = CliRunner().invoke(app, ["diff", run, run])
    assert (shown.exit_code, shown.output) == (0, "no difference\n")


def test_places_without_a_run(built: Path, tmp_path: Path) -> None:
    """The error names the place and what to do."""
    (tmp_path / "no.json").write_text("[1")
    (tmp_path / "other.json").write_text(json.dumps({"heads": 1}))
    for name, problem in (("nowhere", "found neither"), ("no.json", "no JSON"), ("other.json", "without parameters")):
        shown = CliRunner().invoke(app, ["diff", str(built / "tiny"), str(tmp_path / name)])
        assert shown.exit_code == 2
        assert name in shown.output
        assert problem in shown.output.replace("\n", " ")
