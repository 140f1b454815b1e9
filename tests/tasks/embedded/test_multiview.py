"""Training of the multiview model that ships, in small."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spinmeround.models.geometry.cameras import orbit
from spinmeround.tasks.embedded.multiview import run_multiview
from spinmeround.tasks.embedded.params import HeadsParams, MultiviewParams, OrbitViews
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase


@pytest.fixture
def params(train_params: Callable[..., TrainParams], tmp_path: Path) -> MultiviewParams:
    """Two phases of a few steps on three heads at 32 px."""
    train = train_params(adapt=AdaptPhase(steps=2))
    unet = train.unet.model_copy(update={"sample_size": 8, "latent_channels": 8})
    multi_view = train.multi_view.model_copy(update={"steps": 3, "decay_steps": 3})
    return MultiviewParams(
        heads=HeadsParams(views=OrbitViews(views=5, resolution=32), heads=3, validation_share=0.0),
        train=train.model_copy(update={"unet": unet, "multi_view": multi_view}),
        work=tmp_path / "work",
    )


def test_an_equal_training_is_found_again_and_its_pipeline_generates(params: MultiviewParams, tmp_path: Path) -> None:
    """The second call trains no step and writes the same weights, in half precision, which generate finite pictures."""
    lines: list[str] = []
    figures = run_multiview(params, tmp_path / "first", lines.append)
    assert [line for line in lines if line.startswith("multi-view: step 3 of 3")]
    again: list[str] = []
    assert run_multiview(params, tmp_path / "second", again.append) == figures
    assert not [line for line in again if "step" in line]
    first, second = (load_pipeline(tmp_path / name / "multiview") for name in ("first", "second"))
    pairs = zip(first.unet.state_dict().values(), second.unet.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    output = first(orbit([0.0, 90.0], [0.0, 0.0]), num_inference_steps=2, output_type="np")
    assert output.images.shape == (2, 32, 32, 3)
