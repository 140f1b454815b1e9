"""Training: exact resumption, what it reads and writes, and its refusals."""

import errno
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file
from torch import Tensor

from spinmeround.models.diffusion.denoiser import denoise
from spinmeround.models.diffusion.loss import Loss, TrainingBatch, multiview_loss
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError, StorageUnavailable
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training import loop as module
from spinmeround.tasks.training.initial import begin_networks
from spinmeround.tasks.training.loop import loss_summary, make_training, run_training
from spinmeround.tasks.training.params import TrainParams

diffusers_logging.disable_progress_bar()
Params = Callable[..., TrainParams]


class _Killed(Exception):
    pass


def _kill_at(step: int) -> Callable[[int, int, float], None]:
    def progress(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise _Killed

    return progress


def _weights(folder: Path) -> dict[str, bytes]:
    files = sorted((folder / "pipeline").rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {"unet", "vae", "text_encoder"}
    return {
        f"{file.parent.name}.{name}": tensor.numpy().tobytes()
        for file in files
        for name, tensor in load_file(file).items()
    }


@pytest.fixture(scope="module")
def whole(dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path_factory: pytest.TempPathFactory):
    """A training that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    (root / "out").mkdir()
    result = run_training(dataset, train_params(), encode_params, root / "checkpoints", root / "out")
    return root / "out", result


def test_interrupted_training_ends_with_the_same_weights(
    whole, dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """Killed at step 7 and at step 11, with a checkpoint every 5 steps: same weights, same history."""
    out, expected = whole
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


def test_state_on_disk_learns_the_same_and_leaves_nothing(
    whole, dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """Interrupted and gone on with, moments and average in a mapped file: same weights; only checkpoints are left."""
    params = train_params(state_on_disk=True)
    with pytest.raises(_Killed):
        run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out", _kill_at(7))
    (tmp_path / "out").mkdir()
    run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out")
    assert _weights(tmp_path / "out") == _weights(whole[0])
    assert all(path.name.startswith("step-") or path.name == "tmp" for path in (tmp_path / "checkpoints").iterdir())


def test_no_room_for_the_state_is_told_before_training(
    dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is taken at once, so a full disk is an error that names the file, not a bus error in some later step."""

    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageUnavailable, match=r"state\.tmp: .*(full|space)"):
        run_training(dataset, train_params(state_on_disk=True), encode_params, tmp_path, tmp_path / "out")


def test_the_result_is_whole(whole) -> None:
    """History in records of three steps; first and last loss are means over a tenth of the steps, at least one."""
    out, result = whole
    assert [record["step"] for record in result.history] == [3, 6, 9, 12]
    assert json.loads((out / "training.json").read_text()) == {
        "steps": 12,
        "loss_first": result.loss_first,
        "loss_last": result.loss_last,
    }
    assert json.loads((out / "history.json").read_text())["runs"][0]["history"] == result.history


def test_summary_of_losses() -> None:
    """Known values: 20 losses 0 to 19, records of 8."""
    history, first, last = loss_summary([float(loss) for loss in range(20)], 8)
    assert history == [{"step": 8, "loss": 3.5}, {"step": 16, "loss": 11.5}, {"step": 20, "loss": 17.5}]
    assert (first, last) == (0.5, 18.5)


def test_held_out_heads_are_never_read(
    dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read of training is of a head in the split 'train', with and without backgrounds made on the fly."""
    read: set[int] = set()
    original = HeadDataset.read_views

    def spy(self: HeadDataset, subject: int, *arguments):
        read.add(subject)
        return original(self, subject, *arguments)

    monkeypatch.setattr(HeadDataset, "read_views", spy)
    params = train_params(random_background=0.5, memory_mb=0)
    run_training(dataset, params, encode_params, tmp_path, tmp_path)
    assert read
    assert read <= set(HeadDataset.open(dataset).split("train"))


def test_reading_on_demand_equals_holding_in_memory(
    whole, dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """The memory limit changes where latents come from, not what is learnt."""
    run_training(dataset, train_params(memory_mb=0), encode_params, tmp_path, tmp_path)
    assert _weights(tmp_path) == _weights(whole[0])


def test_the_artifact_is_made_once_and_keyed_by_what_matters(
    dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """A second call reuses it; threads and checkpoint interval don't change the key, the seed does."""
    store = ArtifactStore(tmp_path / "store")

    def make(**changes: object) -> tuple[str, str]:
        return make_training(store, dataset, train_params(**changes), encode_params, tmp_path / "training")[:2]

    made, key = make()
    assert made == "made"
    assert make(checkpoint_every=100, threads=2, memory_mb=1, state_on_disk=True) == ("reused", key)
    assert make(seed=1) != ("reused", key)


def test_latents_of_another_autoencoder_are_refused(
    dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """The autoencoder that made the latents must be the one that decodes what the model generates."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text("{}")
    with pytest.raises(DatasetError, match="another autoencoder"):
        run_training(dataset, train_params(), EncodeParams(autoencoder=str(other)), tmp_path, tmp_path)


def test_networks_that_do_not_fit_are_refused(
    dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """The UNet must take the text encoder's width."""
    params = train_params(unet=train_params().unet.model_copy(update={"cross_attention_dim": 64}))
    with pytest.raises(ValueError, match="cross_attention_dim"):
        run_training(dataset, params, encode_params, tmp_path, tmp_path)


def test_all_that_a_step_takes_is_where_the_networks_are(
    dataset: Path, encode_params: EncodeParams, train_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown on torch's device for shapes without numbers, which refuses any tensor from elsewhere."""
    params, data, devices = train_params(), HeadDataset.open(dataset), []

    def loss(unet: MultiviewUNet, batch: TrainingBatch, sigma: Tensor, noise: Tensor) -> Loss:
        parts = [*(getattr(batch, field.name) for field in fields(batch)), sigma, noise]
        devices.extend(part.device.type for part in parts)
        error = denoise(unet, batch.latents + noise, sigma, batch.conditions()) - batch.latents
        return Loss(error.square().mean(), error.square().mean((1, 2, 3, 4)))

    monkeypatch.setattr(module, "multiview_loss", loss)
    networks = begin_networks(params).to("meta")
    batches = module._Batches(data, data.split("train"), params, encode_params)
    module._loss(networks, batches, step=3).backward()
    assert set(devices) == {"meta"}
    assert all(weight.grad is not None for weight in networks.unet.unet.conv_in.parameters())


def test_a_mapped_state_is_refused_on_another_device(
    dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is loaded."""
    monkeypatch.setattr(module, "best_device", lambda: torch.device("cuda"))
    with pytest.raises(ConfigError, match=r"train\.state_on_disk: expected false on cuda"):
        run_training(dataset, train_params(state_on_disk=True), encode_params, tmp_path, tmp_path / "out")


def test_bfloat16_learns_nearly_the_same_with_weights_in_single(
    whole, dataset: Path, encode_params: EncodeParams, train_params: Params, tmp_path: Path
) -> None:
    """The losses of twelve steps are within a twentieth, but not equal; what is saved is in single precision."""
    result = run_training(dataset, train_params(precision="bfloat16"), encode_params, tmp_path, tmp_path)
    for record, exact in zip(result.history, whole[1].history, strict=True):
        assert record["loss"] == pytest.approx(exact["loss"], rel=0.05)
        assert record["loss"] != exact["loss"]
    (file,) = (tmp_path / "pipeline" / "unet").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float32}


def test_an_identity_can_be_lost_alone(
    dataset: Path, encode_params: EncodeParams, train_params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What training drops is what it is asked to; shares that leave no sample with its identity are named."""
    dropped: list[tuple[bool, bool]] = []

    def watched(unet: MultiviewUNet, batch: TrainingBatch, sigma: Tensor, noise: Tensor) -> Loss:
        dropped.extend(zip(batch.drop_identity.tolist(), batch.drop_images.tolist(), strict=True))
        return multiview_loss(unet, batch, sigma, noise)

    monkeypatch.setattr(module, "multiview_loss", watched)
    params = train_params(condition_dropout=0.0, identity_dropout=0.5)
    run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out")
    assert {lost for lost, _ in dropped} == {True, False}
    assert not any(images for _, images in dropped)
    with pytest.raises(ValueError, match=r"identity_dropout: expected shares .* below 1, got 0\.5 and 0\.6"):
        TrainParams(condition_dropout=0.5, identity_dropout=0.6)
