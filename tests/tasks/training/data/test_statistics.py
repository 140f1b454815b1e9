"""Statistics of the latents: of all heads of the training, on all backgrounds, kept through the chain."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging

from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.loading.reader import read_latents
from spinmeround.tasks.training.by_phase import phase_batches
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.chain.export import export_pipeline
from spinmeround.tasks.training.chain.plan import plan_trainings
from spinmeround.tasks.training.data.statistics import Moments, head_statistics
from spinmeround.tasks.training.params import InitialParams, TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase

diffusers_logging.disable_progress_bar()
MakeTrainParams = Callable[..., TrainParams]


@pytest.fixture(scope="module")
def params(train_params: MakeTrainParams) -> TrainParams:
    """A step of each phase, with statistics."""
    unet = train_params().unet.model_copy(update={"latent_statistics": True})
    phases = {
        name: getattr(train_params(), name).model_copy(update={"steps": 1, "decay_steps": 0})
        for name in ("single_view", "multi_view")
    }
    return train_params(unet=unet, adapt=AdaptPhase(steps=1), final_rate=1.0, **phases)


def _latents(data: HeadDataset) -> np.ndarray:
    views = range(data.views)
    return np.concatenate([read_latents(data, subject, views) for subject in data.split("train")]).astype(np.float64)


def test_they_are_the_moments_of_all_views_of_the_training_heads(
    dataset: Path, encode_params: EncodeParams, params: TrainParams
) -> None:
    """Equal to numpy's over the whole array; held-out heads do not count. All heads have the same normals."""
    data = HeadDataset.open(dataset)
    every = _latents(data)
    found = head_statistics(data, data.split("train"), params.only("multi-view"), encode_params)
    np.testing.assert_allclose(found.mean.flatten(0, 1), every.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.std[0], every.std(0)[:4], rtol=1e-4)
    assert float(found.std[1].min()) > every.std(0)[4:].max()


def test_a_position_that_never_changes_has_the_least_deviation() -> None:
    """Two per cent of its channel's deviation, so that rounding is not blown up."""
    latents = torch.randn(400, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    latents[:, :, 0, 0] = 0.5
    found = Moments.of([latents[:150], latents[150:]], halves=1).statistics()
    channel = latents[:, 0].std()
    assert float(found.std[0, 0, 0, 0]) == pytest.approx(0.02 * float(channel), rel=0.05)
    assert float(found.mean[0, 0, 0, 0]) == pytest.approx(0.5)
    assert float(found.std[0, 0, 1, 1]) == pytest.approx(float(latents[:, 0, 1, 1].std()), rel=0.01)


def test_random_backgrounds_are_part_of_the_images_alone(
    dataset: Path, encode_params: EncodeParams, params: TrainParams
) -> None:
    """With half of the samples on a random colour, batches of the training have deviations near one, which those of
    white alone have not; the normals keep their statistics."""
    data, alone = HeadDataset.open(dataset), params.only("multi-view")
    coloured = alone.model_copy(update={"random_background": 0.5})
    subjects = data.split("train")
    white, mixed = (head_statistics(data, subjects, each, encode_params) for each in (alone, coloured))
    assert torch.equal(mixed.mean[1], white.mean[1])
    assert torch.equal(mixed.std[1], white.std[1])
    batches = phase_batches(data, subjects, coloured, encode_params)
    images = torch.cat([batches.read(step).latents.flatten(0, 1)[:, :4] for step in range(1000, 1100)])
    spread = ((images - mixed.mean[0]) / mixed.std[0]).std(0)
    assert float((spread - 1).abs().max()) < 0.25
    assert float(((images - white.mean[0]) / white.std[0]).std(0).max()) > 1.5


def test_they_are_stored_with_every_model_of_the_chain(
    dataset: Path, encode_params: EncodeParams, params: TrainParams, tmp_path: Path
) -> None:
    """Both phases of several views have the dataset's, a checkpoint's export has them too, and adapt's batches are
    normalised by its image half."""
    data, store = HeadDataset.open(dataset), ArtifactStore(tmp_path / "store")
    expected = head_statistics(data, data.split("train"), params.only("multi-view"), encode_params)
    folder = Path()
    for each in plan_trainings(data, params, encode_params):
        make_training(store, dataset, each.params, encode_params, tmp_path / "training", begins=each.begins)
        folder = store.verify(each.name, each.key).path
        if each.name != "adapt":
            found = MultiviewUNet.from_pretrained(folder / "pipeline" / "unet").statistics
            assert found is not None
            torch.testing.assert_close(found.mean, expected.mean)
            torch.testing.assert_close(found.std, expected.std)
    initial = InitialParams(unet=str(folder / "state"))
    exported = export_pipeline(store, params.only().model_copy(update={"initial": initial}), encode_params)[2]
    assert exported.pipeline is not None
    found = MultiviewUNet.from_pretrained(exported.pipeline / "unet").statistics
    assert found is not None
    torch.testing.assert_close(found.mean, expected.mean)
    adapt = params.only("adapt")
    plain = adapt.model_copy(update={"unet": adapt.unet.model_copy(update={"latent_statistics": False})})
    normalised, stored = (
        phase_batches(data, data.split("train"), each, encode_params).read(3).latents for each in (adapt, plain)
    )
    torch.testing.assert_close(normalised, (stored - expected.mean[0]) / expected.std[0])
