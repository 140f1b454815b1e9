"""Trainings without one condition: what a step is given, and what stays as in the training with everything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spinmeround.models.diffusion.loss import Loss, TrainingBatch, multiview_loss
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.checkpoints import find_checkpoint
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training import step as step_module
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.chain.plan import plan_trainings
from spinmeround.tasks.training.key import training_content
from spinmeround.tasks.training.params import METRICS, InitialParams, SamplesParams, TrainParams, ValidationParams
from spinmeround.tasks.training.run import run_training

MakeTrainParams = Callable[..., TrainParams]
STEPS = 4


def changed(params: TrainParams, name: str) -> TrainParams:
    """The parameters of a short training of a variant."""
    short = params.multi_view.model_copy(update={"steps": STEPS})
    change: dict[str, Any] = {
        "full": {},
        "image": {"conditioned_on": "image"},
        "identity": {"conditioned_on": "identity"},
        "no normals": {"unet": params.unet.model_copy(update={"normals": False})},
    }[name]
    return params.model_copy(update={"multi_view": short, "condition_dropout": 0.3, **change})


@pytest.fixture
def steps(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[[str], list[tuple[TrainingBatch, Tensor, Tensor]]]:
    """What the loss is given at every step of the training of a variant."""

    def run(name: str) -> list[tuple[TrainingBatch, Tensor, Tensor]]:
        seen: list[tuple[TrainingBatch, Tensor, Tensor]] = []

        def watched(unet: MultiviewUNet, batch: TrainingBatch, sigma: Tensor, noise: Tensor) -> Loss:
            seen.append((batch, sigma, noise))
            return multiview_loss(unet, batch, sigma, noise)

        monkeypatch.setattr(step_module, "multiview_loss", watched)
        params = changed(train_params(), name)
        run_training(dataset, params, encode_params, tmp_path / name, tmp_path / name / "out")
        return seen

    return run


def test_variants_take_the_same_steps_without_one_condition(
    steps: Callable[[str], list[tuple[TrainingBatch, Tensor, Tensor]]],
) -> None:
    """Equal views, rays, noise levels and noise at every step; the condition is dropped from every sample, the other
    one from those that lose it in the full training; without normals the image channels are those of the full one."""
    full = steps("full")
    assert len(full) == STEPS
    assert any(bool(batch.drop_images.any()) for batch, _, _ in full)
    assert not all(bool(batch.drop_images.all()) for batch, _, _ in full)
    for name in ("image", "identity", "no normals"):
        for (batch, sigma, noise), (expected, sigma_full, noise_full) in zip(steps(name), full, strict=True):
            channels = noise.shape[2]
            assert channels == (4 if name == "no normals" else 8)
            assert torch.equal(sigma, sigma_full)
            assert torch.equal(noise, noise_full[:, :, :channels])
            assert torch.equal(batch.latents, expected.latents[:, :, :channels])
            assert torch.equal(batch.rays, expected.rays)
            assert torch.equal(batch.is_conditioning, expected.is_conditioning)
            everything = torch.ones_like(expected.drop_identity)
            assert torch.equal(batch.drop_identity, everything if name == "image" else expected.drop_identity)
            assert torch.equal(batch.drop_images, everything if name == "identity" else expected.drop_images)


def test_variants_begin_with_the_same_weights(train_params: MakeTrainParams) -> None:
    """All weights of the full model but those of the normal channels."""
    full = build_initial_networks(changed(train_params(), "full")).state_dict()
    half = build_initial_networks(changed(train_params(), "no normals")).state_dict()
    assert full.keys() == half.keys()
    different = {name for name in full if full[name].shape != half[name].shape}
    assert different == {f"unet.unet.{name}" for name in ("conv_in.weight", "conv_out.weight", "conv_out.bias")}
    assert all(torch.equal(full[name], half[name]) for name in full.keys() - different)
    conv_in = "unet.unet.conv_in.weight"
    assert torch.equal(half[conv_in], torch.cat([full[conv_in][:, :4], full[conv_in][:, 8:]], dim=1))


def test_a_training_without_normals_is_complete(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """With statistics, validation and samples: it has the loss of images, its pipeline generates images, and another
    training begins with its pipeline, with its checkpoint, or with a model that has normals, but not the other way."""
    params = changed(train_params(), "no normals")
    unet = params.unet.model_copy(update={"latent_statistics": True})
    watched = {"validation": ValidationParams(every=2, heads=2), "samples": SamplesParams(every=2, heads=1, steps=1)}
    params = params.model_copy(update={"unet": unet, "record_every": 2, **watched})
    result = run_training(dataset, params, encode_params, tmp_path / "training", tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "training" / METRICS).read_text().splitlines()]
    assert all({"loss_image", "validation"} <= record.keys() and "loss_normals" not in record for record in records)
    assert all(record["loss"] == pytest.approx(record["loss_image"]) for record in records)
    assert len(list((tmp_path / "training" / "samples").iterdir())) == 2
    assert result.pipeline is not None
    pipeline = SpinMeRoundPipeline.from_pretrained(result.pipeline, local_files_only=True)
    assert pipeline.unet.statistics is not None
    assert not pipeline.unet.statistics.is_identity
    checkpoint = find_checkpoint(tmp_path / "training")
    assert checkpoint is not None
    for begin in (result.pipeline, checkpoint.path):
        begun = build_initial_networks(params.model_copy(update={"initial": InitialParams(unet=str(begin))}))
        for name, weight in pipeline.unet.state_dict().items():
            assert torch.equal(begun.unet.state_dict()[name], weight), name
        with_normals = params.model_copy(
            update={"initial": InitialParams(unet=str(begin)), "unet": unet.model_copy(update={"normals": True})}
        )
        with pytest.raises(ConfigError, match=r"train\.initial\.unet: .*expected normals True, .* found False"):
            build_initial_networks(with_normals)


def test_what_a_model_is_conditioned_on_is_in_its_pipeline(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """The pipeline of a training ignores what the training dropped."""
    for name in ("full", "image", "identity"):
        result = run_training(
            dataset, changed(train_params(), name), encode_params, tmp_path / name, tmp_path / name / "out"
        )
        assert result.pipeline is not None
        pipeline = SpinMeRoundPipeline.from_pretrained(result.pipeline, local_files_only=True)
        assert pipeline.conditioned_on == ("both" if name == "full" else name)


def test_a_variant_is_a_training_of_its_own(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams
) -> None:
    """Its key differs, but for `adapt`, which reads neither images nor normals. Defaults are in no key, so that
    trainings of earlier versions are found."""
    base = train_params(
        adapt=train_params().adapt.model_copy(update={"steps": 1}),
        single_view=train_params().single_view.model_copy(update={"steps": 1}),
    )
    data = HeadDataset.open(dataset)
    plans = {
        name: [each.key for each in plan_trainings(data, changed(base, name), encode_params)]
        for name in ("full", "image", "identity", "no normals")
    }
    assert len({keys[0] for keys in plans.values()}) == 1
    assert [len({keys[phase] for keys in plans.values()}) for phase in (1, 2)] == [4, 4]
    content = training_content(base.only("multi-view"), encode_params)
    assert "conditioned_on" not in content
    assert "normals" not in content["unet"]
    variant = training_content(changed(base, "no normals").only("multi-view"), encode_params)
    assert variant["unet"]["normals"] is False
