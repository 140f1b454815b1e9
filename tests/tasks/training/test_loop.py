"""Training: exact resumption, what it reads and writes, and the input it refuses."""

import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file
from torch import Tensor

from spinmeround.models.diffusion.denoiser import denoise
from spinmeround.models.diffusion.loss import Loss, TrainingBatch, multiview_loss
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.dataset import HeadDataset, add_latents
from spinmeround.storage.errors import ConfigError, DatasetError, Interrupted, SpinMeRoundError, StorageUnavailable
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.loading import reader
from spinmeround.tasks.training import process as module
from spinmeround.tasks.training import step as step_module
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.data.batches import GroupBatch, TrainingBatches
from spinmeround.tasks.training.gradients import backward
from spinmeround.tasks.training.key import training_inputs, training_key
from spinmeround.tasks.training.loop import Training
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.observation.history import LossHistory
from spinmeround.tasks.training.output.result import write_result
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.params import GuardParams, TrainingResult, TrainParams
from spinmeround.tasks.training.run import run_training
from spinmeround.tasks.training.state import TrainingState
from spinmeround.tasks.training.step import GroupLoss, StepNoise
from tests.support.heads import flip_bit, write_all_latents

diffusers_logging.disable_progress_bar()
MakeTrainParams = Callable[..., TrainParams]


class _Killed(Exception):
    pass


def _kill_at(step: int) -> Callable[[int, int, float | None], None]:
    def on_step(done: int, steps: int, loss: float | None) -> None:
        if done == step:
            raise _Killed

    return on_step


def _weights(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "pipeline").rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {"unet", "vae", "text_encoder"}
    return {
        f"{file.parent.name}.{name}": tensor.numpy().tobytes()
        for file in files
        for name, tensor in load_file(file).items()
    }


@pytest.fixture(scope="module")
def uninterrupted(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path_factory: pytest.TempPathFactory
):
    """The output folder and the result of a training without interruption."""
    root = tmp_path_factory.mktemp("uninterrupted")
    (root / "out").mkdir()
    result = run_training(dataset, train_params(), encode_params, root / "checkpoints", root / "out")
    return root / "out", result


def test_interrupted_training_ends_with_the_same_weights(
    uninterrupted, dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Killed at step 7 and at step 11, with a checkpoint every 5 steps: equal weights, equal history."""
    out, expected = uninterrupted
    (tmp_path / "out").mkdir()
    arguments = (dataset, train_params(), encode_params, tmp_path / "checkpoints", tmp_path / "out")
    for step in (7, 11):
        with pytest.raises(_Killed):
            run_training(*arguments, _kill_at(step))
    steps_done: list[int] = []
    result = run_training(*arguments, lambda step, steps, loss: steps_done.append(step))
    assert steps_done == [11, 12]
    assert result.history == expected.history
    assert _weights(tmp_path / "out") == _weights(out)


def test_state_on_disk_changes_no_weights_and_is_removed(
    uninterrupted, dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Interrupted and resumed with moments and average in a mapped file: equal weights; only checkpoints remain."""
    params = train_params(state_on_disk=True)
    with pytest.raises(_Killed):
        run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out", _kill_at(7))
    (tmp_path / "out").mkdir()
    run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out")
    assert _weights(tmp_path / "out") == _weights(uninterrupted[0])
    left = {path.name for path in (tmp_path / "checkpoints").iterdir() if not path.name.startswith("step-")}
    assert left <= {"tmp", "metrics.jsonl"}


def test_a_full_disk_fails_before_training(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is allocated at the start, so a full disk is an error that names it, not a bus error in a later step."""

    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageUnavailable, match=r"state\.tmp: .*(full|space)"):
        run_training(dataset, train_params(state_on_disk=True), encode_params, tmp_path, tmp_path / "out")


def test_the_result_is_complete(uninterrupted) -> None:
    """The history has a record per three steps; first and last loss are means over a tenth of the steps."""
    out, result = uninterrupted
    assert [record["step"] for record in result.history] == [3, 6, 9, 12]
    assert json.loads((out / "training.json").read_text()) == {
        "steps": 12,
        "loss_first": result.loss_first,
        "loss_last": result.loss_last,
        "skipped": {},
    }
    assert json.loads((out / "history.json").read_text())["runs"][0]["history"] == result.history


def test_held_out_heads_are_never_read(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training reads or maps only heads of the split `train`, both latents and the images of random backgrounds."""
    read: set[tuple[int, str]] = set()
    original, mapped = HeadDataset.read_into, reader.map_views

    def spy(self: HeadDataset, subject: int, views: Sequence[int], stored: Mapping[str, np.ndarray]) -> None:
        read.update((subject, name) for name in stored)
        original(self, subject, views, stored)

    def map_spy(data: HeadDataset, subject: int, name: str) -> np.ndarray | None:
        read.add((subject, name))
        return mapped(data, subject, name)

    monkeypatch.setattr(HeadDataset, "read_into", spy)
    monkeypatch.setattr(reader, "map_views", map_spy)
    params = train_params(random_background=0.5, memory_mb=0)
    run_training(dataset, params, encode_params, tmp_path, tmp_path)
    assert {name for _, name in read} == {"latents/rgb", "latents/normals", "rgb", "mask"}
    assert {subject for subject, _ in read} <= set(HeadDataset.open(dataset).split("train"))


def test_the_memory_limit_changes_no_weights(
    uninterrupted, dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Latents in mapped files give the same weights as latents held in memory."""
    run_training(dataset, train_params(memory_mb=0), encode_params, tmp_path, tmp_path)
    assert _weights(tmp_path) == _weights(uninterrupted[0])


def test_the_artifact_is_made_once(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """A second call reuses it; parameters of the execution do not change the key, the seed does."""
    store = ArtifactStore(tmp_path / "store")

    def make(**changes: object) -> tuple[str, str]:
        return make_training(store, dataset, train_params(**changes), encode_params, tmp_path / "training")[:2]

    made, key = make()
    assert made == "made"
    assert make(checkpoint_every=100, threads=2, memory_mb=1, state_on_disk=True) == ("reused", key)
    assert make(seed=1) != ("reused", key)


def test_other_latents_are_another_training(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """The key has the digest of the latents: latents of the same autoencoder with other values are another input."""
    copy = Path(shutil.copytree(dataset, tmp_path / "heads.zarr"))
    ids, autoencoder = HeadDataset.open(copy).ids, HeadDataset.open(copy).latents_attributes()["autoencoder"]
    add_latents(copy, write_all_latents(tmp_path / "latents", list(ids), views=12), autoencoder)
    keys = {
        training_key(training_inputs(HeadDataset.open(path)), train_params(), encode_params) for path in (dataset, copy)
    }
    assert len(keys) == 2


@pytest.mark.parametrize("file", ["latents/rgb/c.0.0.0.0.0", "normals/c.11.0.0.0.0", "identity_views/c.4.0.0"])
def test_a_damaged_dataset_is_refused_before_the_first_step(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path, file: str
) -> None:
    """Damage in any file stops a training, also in files that its first steps do not read."""
    copy = Path(shutil.copytree(dataset, tmp_path / "heads.zarr"))
    flip_bit(copy / file)
    steps: list[int] = []
    with pytest.raises(DatasetError, match=file):
        run_training(
            copy, train_params(), encode_params, tmp_path, tmp_path, lambda step, total, loss: steps.append(step)
        )
    assert steps == []


def test_latents_of_another_autoencoder_are_refused(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """The same autoencoder must encode the training latents and decode the generated ones."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    with pytest.raises(DatasetError, match="latents: expected those of the autoencoder"):
        run_training(dataset, train_params(), EncodeParams(autoencoder=str(other)), tmp_path, tmp_path)


def test_incompatible_networks_are_refused(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """The cross-attention width of the UNet must equal the text encoder's width."""
    params = train_params(unet=train_params().unet.model_copy(update={"cross_attention_dim": 64}))
    with pytest.raises(ValueError, match="cross_attention_dim"):
        run_training(dataset, params, encode_params, tmp_path, tmp_path)


def test_all_inputs_of_a_step_are_on_the_device_of_the_networks(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's meta device, which refuses tensors of other devices."""
    params, data, devices = train_params(), HeadDataset.open(dataset), []

    def loss(unet: MultiviewUNet, batch: TrainingBatch, sigma: Tensor, noise: Tensor) -> Loss:
        parts = [*(getattr(batch, field.name) for field in fields(batch)), sigma, noise]
        devices.extend(part.device.type for part in parts)
        error = denoise(unet, batch.latents + noise, sigma, batch.conditions()) - batch.latents
        halves = error.square().mean((1, 3, 4)).unflatten(1, (2, -1)).mean(2)
        return Loss(halves.mean(), halves)

    monkeypatch.setattr(step_module, "multiview_loss", loss)
    networks = build_initial_networks(params).to("meta")
    batches = TrainingBatches(data, data.split("train"), params, encode_params)
    groups = batches.read(3)
    GroupLoss(networks, params)(groups, StepNoise.drawn(groups, 3, params)).sum().backward()
    assert set(devices) == {"meta"}
    assert all(weight.grad is not None for weight in networks.unet.unet.conv_in.parameters())


def test_state_on_disk_is_refused_on_an_accelerator(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error comes before any network is built."""
    monkeypatch.setattr(module, "best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(module, "Training", None)
    with pytest.raises(ConfigError, match=r"train\.state_on_disk: expected false on cuda"):
        run_training(dataset, train_params(state_on_disk=True), encode_params, tmp_path, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:bfloat16 is slower")  # on a CPU without units for it
def test_bfloat16_trains_weights_in_float32(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """At a low learning rate, which does not amplify rounding, the losses of twelve steps are within 2% of float32, but
    not equal; the saved weights are in float32."""
    exact, rounded = (
        run_training(
            dataset,
            train_params(precision=precision, learning_rate=1e-3),
            encode_params,
            tmp_path / f"{precision} checkpoints",
            tmp_path,
        ).history
        for precision in ("float32", "bfloat16")
    )
    for record, reference in zip(rounded, exact, strict=True):
        assert record["loss"] == pytest.approx(reference["loss"], rel=0.02)
        assert record["loss"] != reference["loss"]
    (file,) = (tmp_path / "pipeline" / "unet").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}


def test_identity_dropout_keeps_the_images(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Identities are dropped, images are not; shares that leave no sample with its identity are refused."""
    dropped: list[tuple[bool, bool]] = []

    def watched(unet: MultiviewUNet, batch: TrainingBatch, sigma: Tensor, noise: Tensor) -> Loss:
        dropped.extend(zip(batch.drop_identity.tolist(), batch.drop_images.tolist(), strict=True))
        return multiview_loss(unet, batch, sigma, noise)

    monkeypatch.setattr(step_module, "multiview_loss", watched)
    params = train_params(condition_dropout=0.0, identity_dropout=0.5)
    run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out")
    assert {lost for lost, _ in dropped} == {True, False}
    assert not any(images for _, images in dropped)
    with pytest.raises(ValueError, match=r"identity_dropout: expected shares .* below 1, got 0\.5 and 0\.6"):
        TrainParams(condition_dropout=0.5, identity_dropout=0.6)


def _spoiled_loss(steps: Container[int], monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor]) -> None:
    """Change the losses of these steps, counted from 0, whenever they are computed."""
    step_of, loss_of, current = Training.take_step, GroupLoss.forward, [-1]

    def step(self: Training, number: int) -> float | None:
        current[0] = number
        return step_of(self, number)

    def loss(self: GroupLoss, groups: GroupBatch, noise: StepNoise) -> Tensor:
        found = loss_of(self, groups, noise)
        return spoil(found) if current[0] in steps else found

    monkeypatch.setattr(Training, "take_step", step)
    monkeypatch.setattr(GroupLoss, "forward", loss)


NAN = float("nan")
SPOILED = {
    "NaN": (lambda loss: loss * NAN, "expected a finite loss, found nan"),
    "infinity": (lambda loss: loss * float("inf"), "expected a finite loss, found inf"),
    "NaN gradient": (
        lambda loss: loss + (loss - loss.detach()).sqrt(),
        r"expected finite gradients, found \d+ that are not",
    ),
    "overflow of the norm": (lambda loss: loss + 1e38 * (loss - loss.detach()), "expected finite gradients"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED)
def test_a_step_that_is_not_finite_is_not_taken(
    spoil: Callable[[Tensor], Tensor],
    message: str,
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The optimiser moves in all other steps; the result names the step, its heads and their views."""
    _spoiled_loss({6}, monkeypatch, spoil)
    updates: list[int] = []
    step_of = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (updates.append(1), step_of(self))[1])
    losses: list[float | None] = []
    result = run_training(
        dataset,
        train_params(),
        encode_params,
        tmp_path / "checkpoints",
        tmp_path,
        lambda step, total, loss: losses.append(loss),
    )
    assert len(updates) == 11
    assert [step for step, loss in enumerate(losses) if loss is None] == [6]
    (reason,) = result.skipped.values()
    assert list(result.skipped) == ["7"]
    assert re.fullmatch(rf"{message}.*; heads and views: procedural-\d+( \d+)+, procedural-\d+( \d+)+", reason)


def test_a_row_of_such_steps_returns_to_the_checkpoint_once(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps 7 and 8 are not finite: back to the checkpoint of step 5, then on without them. Killed on the second way
    and resumed, the training ends with the same weights."""
    _spoiled_loss({6, 7}, monkeypatch, lambda loss: loss * NAN)
    params, steps = train_params(guard=GuardParams(most_skipped=2)), list[int]()

    def run(name: str, on_step: Callable[[int, int, float | None], None]) -> TrainingResult:
        (tmp_path / name).mkdir(exist_ok=True)
        return run_training(dataset, params, encode_params, tmp_path / name / "checkpoints", tmp_path / name, on_step)

    result = run("straight", lambda step, total, loss: steps.append(step))
    assert steps == [1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 10, 11, 12]
    assert list(result.skipped) == ["7", "8"]
    with pytest.raises(_Killed):
        run("killed", _kill_at(11))
    assert run("killed", lambda *step: None).skipped == result.skipped
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "straight")


def test_a_spike_returns_to_a_checkpoint_before_it(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps 9 and 10 have losses of a thousandfold, and the mean over three steps is too high after the second: back to
    step 7, before these three, although there is a checkpoint after step 9; it is removed."""
    _spoiled_loss({8, 9}, monkeypatch, lambda loss: loss * 1000)
    guard, steps, kept = GuardParams(window=3, spike=450.0), list[int](), list[list[int]]()
    folder = tmp_path / "checkpoints"

    def on_step(step: int, total: int, loss: float | None) -> None:
        steps.append(step)
        kept.append([each for each in Checkpoints(folder).steps() if each > step])

    params = train_params(guard=guard, checkpoint_every=1, keep_checkpoints=4)
    result = run_training(dataset, params, encode_params, folder, tmp_path, on_step)
    assert steps == [*range(1, 10), *range(8, 13)]
    assert not any(kept)
    assert list(result.skipped) == ["8", "9", "10"]


@pytest.mark.parametrize(
    ("steps", "guard"),
    [(range(12), GuardParams(most_skipped=2)), ({2, 3, 8, 9}, GuardParams(most_skipped=2)), (range(12), GuardParams())],
    ids=["from the start", "two rows", "more than the limit"],
)
def test_a_second_row_ends_the_training(
    steps: Container[int],
    guard: GuardParams,
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the steps and the reason; the store has no result."""
    _spoiled_loss(steps, monkeypatch, lambda loss: loss * NAN)
    store, params = ArtifactStore(tmp_path / "store"), train_params(guard=guard)
    with pytest.raises(SpinMeRoundError, match=r"train: steps \d+ to \d+: expected a finite loss, .*the second time"):
        make_training(store, dataset, params, encode_params, tmp_path / "training")
    assert not store.has("multi-view", training_key(training_inputs(HeadDataset.open(dataset)), params, encode_params))


def test_a_training_that_diverges_is_no_result(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """At an absurd learning rate the training stops, and nothing is in the store."""
    store, params = ArtifactStore(tmp_path / "store"), train_params(learning_rate=30.0, guard=GuardParams(spike=2.0))
    with pytest.raises(SpinMeRoundError, match=r"expected a loss that falls|expected a finite loss.*the second time"):
        make_training(store, dataset, params, encode_params, tmp_path / "training")
    assert not store.has("multi-view", training_key(training_inputs(HeadDataset.open(dataset)), params, encode_params))


def test_losses_that_rise_are_no_result(
    encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """The last tenth of the losses is above five times the first: refused, as is a training without a step taken."""
    losses = [1.0, *[2.0] * 8, 5.5]
    history = LossHistory(steps=[*range(10)], losses=losses)
    arguments: dict[str, Any] = {
        "history": history,
        "encode": encode_params,
        "out": tmp_path,
        "metrics": tmp_path / "m",
    }
    with pytest.raises(SpinMeRoundError, match=r"expected a loss that falls, found 1 at first and 5\.5 at last"):
        write_result(networks=cast(Networks, None), params=train_params(), **arguments)
    nothing = {**arguments, "history": LossHistory(skipped={0: "NaN"})}
    with pytest.raises(SpinMeRoundError, match="expected a step that can be taken, found none of 12: NaN"):
        write_result(networks=cast(Networks, None), params=train_params(), **nothing)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_accumulation_changes_no_numbers(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, micro_batch: int
) -> None:
    """A batch of 8 in parts of 1 and of 3: losses and gradients equal those of the whole to 1e-6 relative."""
    data = HeadDataset.open(dataset)
    gradients, losses = [], []
    for size in (0, micro_batch):
        params = train_params(micro_batch=size, batch=8)
        batches = TrainingBatches(data, data.split("train"), params, encode_params)
        state = TrainingState(build_initial_networks(params).double(), params, Processes(params))
        losses.append(float(backward(state, batches.read(7), 7).per_half.mean()))
        gradients.append(torch.cat([each.grad.flatten() for each in state.trained.values()]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert (gradients[1] - gradients[0]).norm() <= 1e-6 * gradients[0].norm()


def test_a_request_to_end_leaves_a_checkpoint(
    uninterrupted, dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """SIGTERM in step 8: that step is completed and saved; the next run goes on with step 9 to the same weights."""

    def terminate(step: int, total: int, loss: float | None) -> None:
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    arguments = (dataset, train_params(), encode_params, tmp_path / "checkpoints", tmp_path / "out")
    with pytest.raises(Interrupted, match="was asked to end after step 8"):
        run_training(*arguments, terminate)
    (tmp_path / "out").mkdir()
    steps: list[int] = []
    run_training(*arguments, lambda step, total, loss: steps.append(step))
    assert steps == [9, 10, 11, 12]
    assert _weights(tmp_path / "out") == _weights(uninterrupted[0])


def test_checkpoints_of_another_training_are_refused(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Another learning rate, or fewer steps than the checkpoint has: an error, and the checkpoints stay."""
    shorter = train_params().multi_view.model_copy(update={"steps": 4})
    arguments = (encode_params, tmp_path / "checkpoints", tmp_path)
    with pytest.raises(_Killed):
        run_training(dataset, train_params(), *arguments, _kill_at(11))
    with pytest.raises(ConfigError, match=r"expected checkpoints of the training \w+, found those of"):
        run_training(dataset, train_params(learning_rate=1e-4), *arguments)
    with pytest.raises(ConfigError, match="expected a checkpoint of step 4 or earlier, found one of step 10"):
        run_training(dataset, train_params(multi_view=shorter), *arguments)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [5, 10]


def test_damaged_checkpoints(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """One that is damaged is named and an earlier one taken; if all are, training does not start again in silence."""
    arguments = (dataset, train_params(), encode_params, tmp_path / "checkpoints", tmp_path)
    with pytest.raises(_Killed):
        run_training(*arguments, _kill_at(11))
    flip_bit(tmp_path / "checkpoints" / "step-000000010" / "tensors.safetensors")
    with pytest.warns(UserWarning, match="step 10 are damaged; resuming from step 5"), pytest.raises(_Killed):
        run_training(*arguments, _kill_at(6))
    flip_bit(tmp_path / "checkpoints" / "step-000000005" / "tensors.safetensors")
    with pytest.raises(SpinMeRoundError, match="expected an intact checkpoint, found 2 damaged ones"):
        run_training(*arguments)


def test_checkpoints_are_removed_after_success(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """A finished training leaves no checkpoints beside its artifact."""
    make_training(ArtifactStore(tmp_path / "store"), dataset, train_params(), encode_params, tmp_path / "training")
    assert list((tmp_path / "training").iterdir()) == []


def test_weights_that_are_not_finite_after_the_last_step_are_no_result(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every loss and gradient is finite, a weight is not: the last checkpoint is refused by the tensor's name."""
    step_of, store, params = torch.optim.AdamW.step, ArtifactStore(tmp_path / "store"), train_params()
    params = params.model_copy(update={"multi_view": params.multi_view.model_copy(update={"steps": 1})})

    def step(self: torch.optim.AdamW) -> None:
        step_of(self)
        self.param_groups[0]["params"][0].data.flatten()[0] = float("nan")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(SpinMeRoundError, match=r"checkpoint of step 1: tensor .*expected finite numbers"):
        make_training(store, dataset, params, encode_params, tmp_path / "training")
    assert not store.has("multi-view", training_key(training_inputs(HeadDataset.open(dataset)), params, encode_params))
