"""Trainings on a real server: exported from a checkpoint without a dataset, and continued."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spinmeround.flows.generation import generation_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.flows.training import training_flow
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.generation.params import GenerationParams, NothingInput
from tests.e2e.conftest import TINY
from tests.e2e.runs import counts, recorded, summary

pytestmark = pytest.mark.usefixtures("server")


def _phases(**steps: int) -> dict[str, Any]:
    """The tiny training with these steps, of all other phases none."""
    names = ("adapt", "single_view", "multi_view")
    return {**TINY["train"], **{name: {**TINY["train"][name], "steps": steps.get(name, 0)} for name in names}}


def test_a_training_is_continued_and_its_checkpoint_exported(tiny, built: Path, tmp_path: Path) -> None:
    """One step, then two, of which the second is taken; the last checkpoint becomes a pipeline in a run without a
    dataset, and both generate views."""
    place = Place(runs=str(built))
    for steps in (1, 2):
        profile = tiny(train=_phases(multi_view=steps))
        sized(training_flow, profile)(profile, place)
    trained = summary(built / "tiny")["training"]
    assert (trained["stage"], trained["steps"]) == ("multi-view", 2)
    assert counts(summary(built / "tiny"))["multi-view"] == (1, 0)
    state = Path(trained["pipeline"]).parent / "state"

    exporting = tiny(train={**_phases(), "initial": {"unet": str(state)}})
    elsewhere = Place(runs=str(tmp_path / "elsewhere"))
    sized(training_flow, exporting)(exporting, elsewhere)
    exported = summary(tmp_path / "elsewhere" / "tiny")["training"]
    assert (exported["steps"], exported["loss_last"]) == (0, None)
    assert recorded("training", 1) == {"export": "Completed"}
    unet = Path("unet", "diffusion_pytorch_model.safetensors")
    assert (Path(exported["pipeline"]) / unet).read_bytes() == (Path(trained["pipeline"]) / unet).read_bytes()

    views = GenerationParams(given=NothingInput(), schedule=NoiseSchedule(steps=1), batch=1)
    for number, model in enumerate((exported["pipeline"], str(state))):
        files = generation_flow(exporting, views, str(tmp_path / f"generated {number}"), elsewhere, model)
        assert {"view-06.png", "normals-06.png"} <= {Path(file).name for file in files}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in float16")
def test_the_error_of_a_phase_is_that_of_the_run(tiny, built: Path) -> None:
    """The first of three phases fails: its own error ends the run, not that the last one has no result."""
    profile = tiny(train=_phases(adapt=1, single_view=1, multi_view=1) | {"precision": "float16"})
    with pytest.raises(ConfigError, match=r"train\.precision: expected float32 or bfloat16 on a CPU, got float16"):
        sized(training_flow, profile)(profile, Place(runs=str(built)))
