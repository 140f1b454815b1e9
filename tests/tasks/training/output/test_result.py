"""The result of a training, and another average of its weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.output.result import rewrite_average
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.averages import AverageParams
from spinmeround.tasks.training.run import run_training

MakeTrainParams = Callable[..., TrainParams]


def unet(pipeline: Path) -> torch.Tensor:
    """All weights of a pipeline's UNet."""
    (file,) = (pipeline / "unet").glob("*.safetensors")
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(file).items())])


def test_the_length_of_the_average_is_chosen_afterwards(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """A training that kept 0.1 gives 0.25 from its snapshots, as one with that as its result, to a fifth of how far
    the two are apart. Lengths out of range, results without snapshots and damaged snapshots are refused."""
    results = {}
    for length, snapshots in ((0.1, 4), (0.25, 0)):
        average = AverageParams(length=length, tracked=(0.1, 0.25), snapshots=snapshots)
        (tmp_path / str(length)).mkdir()
        arguments = (dataset, train_params(average=average), encode_params, tmp_path / f"{length}-checkpoints")
        results[length] = unet(run_training(*arguments, tmp_path / str(length)).pipeline)
    found = unet(rewrite_average(tmp_path / "0.1", 0.25, tmp_path / "out"))
    apart = (results[0.25] - results[0.1]).norm()
    assert 0 < (found - results[0.25]).norm() <= 0.2 * apart
    pipeline = load_pipeline(tmp_path / "out")
    assert pipeline.config["normals_frame"] == encode_params.normals_frame
    with pytest.raises(ConfigError, match=r"length: .*less than or equal to 0\.28"):
        rewrite_average(tmp_path / "0.1", 0.5, tmp_path / "more")
    with pytest.raises(SpinMeRoundError, match=r"averages: expected snapshots of a training's averages, found none"):
        rewrite_average(tmp_path / "0.25", 0.1, tmp_path / "more")
    snapshot = max((tmp_path / "0.1" / "averages").iterdir())
    snapshot.write_bytes(snapshot.read_bytes()[:-100])
    with pytest.raises(SpinMeRoundError, match=snapshot.name):
        rewrite_average(tmp_path / "0.1", 0.25, tmp_path / "more")
    assert not (tmp_path / "more").exists()
    assert not list(tmp_path.glob(".*"))
