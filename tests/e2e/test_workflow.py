"""The complete workflow on a real server: one run from seeds to a report, and a second that reuses everything."""

from pathlib import Path

import pytest

from spinmeround.flows.generation import generation_flow
from spinmeround.flows.reconstruction import reconstruction_flow
from spinmeround.flows.report import report_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.flows.training import training_flow
from spinmeround.flows.workflow import workflow_flow
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.generation.params import GenerationParams, NothingInput
from spinmeround.tasks.reconstruction.params import ReconstructionRequest, TrueViews
from tests.e2e.runs import build, counts, recorded, summary

pytestmark = pytest.mark.usefixtures("server")


def test_from_seeds_to_a_report_and_again(tiny, tmp_path):
    """The first run ends with dataset, training, evaluation and report; the second only rewrites the report."""
    profile = tiny(plan={"heads": 8})
    sized(workflow_flow, profile)(profile, Place(runs=str(tmp_path)))
    first = summary(tmp_path / "tiny")
    assert [phase["steps"] for phase in first["training"]["phases"]] == [1, 1, 2]
    assert first["training"]["stage"] == "multi-view"
    assert {"nearest_input_view", "mean_training_image"} <= set(first["evaluation"]["baselines"])
    assert (tmp_path / "tiny" / "report.html").stat().st_size > 10_000
    assert first["report"] == str(tmp_path / "tiny" / "report.html")

    sized(workflow_flow, profile)(profile, Place(runs=str(tmp_path)))
    second = summary(tmp_path / "tiny")
    assert {name for name, (made, _) in counts(second).items() if made} == {"report"}
    parts = ("dataset", "training", "evaluation", "heads")
    assert [second[part] for part in parts] == [first[part] for part in parts]
    assert recorded("evaluation", 1) == {"evaluate": "Cached"}

    views = GenerationParams(given=NothingInput(), schedule=NoiseSchedule(steps=1), batch=1)
    files = generation_flow(profile, views, str(tmp_path / "generated"), Place(runs=str(tmp_path)))
    assert {"view-06.png", "normals-06.png", "transforms.json", "orbit.html"} <= {Path(file).name for file in files}
    assert all(Path(file).is_file() for file in files)


def test_training_needs_a_dataset(tiny, tmp_path):
    """Without a dataset, the error of a training names the command to run first."""
    with pytest.raises(ConfigError, match="spinmeround build"):
        training_flow(tiny(), Place(runs=str(tmp_path)))


def test_a_reconstruction_is_made_once_and_reported(tiny, tmp_path):
    """Splats of a head are copied to the folder twice and made once, and the report shows them."""
    splats = {"number": 200, "steps": 2}
    grid = {"azimuths": 8, "elevations_deg": [0.0]}
    profile = tiny(
        plan={"heads": 2}, views=grid, reconstruct={"views": 7, "held_out": 1, "hull_resolution": 32, "splats": splats}
    )
    place = Place(runs=str(tmp_path))
    build(profile, tmp_path)
    request = ReconstructionRequest(views=TrueViews(head="tiny-000000"))
    for number, counted in enumerate([(1, 0), (0, 1)]):
        folder = tmp_path / f"out-{number}"
        key = sized(reconstruction_flow, profile)(profile, request, str(folder), place)
        found = summary(tmp_path / "tiny")
        assert counts(found)["reconstruct"] == counted
        assert found["reconstruction"]["key"] == key
        assert {"splats.ply", "scores.json", "viewer.html", "mesh.glb"} <= {path.name for path in folder.iterdir()}
    assert recorded("reconstruction", 1) == {"reconstruct": "Cached"}
    report = report_flow(profile, place)
    assert "tiny-000000 as 200 3D Gaussians" in Path(report).read_text(encoding="utf-8")
