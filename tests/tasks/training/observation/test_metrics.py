"""What a training records while it runs."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import StorageUnavailable
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.observation.metrics import Meter, MetricsLog
from spinmeround.tasks.training.params import TrainParams, ValidationParams
from spinmeround.tasks.training.run import run_training
from spinmeround.tasks.training.step import StepLosses

MakeTrainParams = Callable[..., TrainParams]


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_record_of_known_steps() -> None:
    """Two steps of two groups and a skipped one: means by half and by noise level, counts, and rates."""
    meter = Meter(torch.device("cpu"))
    for losses, sigma in (([[1.0, 3.0], [2.0, 4.0]], [0.05, 2.0]), ([[5.0, 7.0], [6.0, 8.0]], [0.05, 20.0])):
        meter.add(StepLosses(torch.tensor(losses), torch.tensor(sigma)), gradient_norm=losses[0][0], views=4)
    meter.skip()
    found = meter.record(3, 1e-3)
    expected = {
        "step": 3,
        "loss": 4.5,
        "loss_image": 3.5,
        "loss_normals": 5.5,
        "loss_sigma_0_0.1": 4.0,
        "loss_sigma_1_3": 3.0,
        "loss_sigma_10_inf": 7.0,
        "gradient_norm": 3.0,
        "learning_rate": 1e-3,
        "skipped": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {"samples_per_second", "data_wait", "memory_mb"}
    assert min(found["samples_per_second"], found["memory_mb"]) > 0
    assert "loss" not in Meter(torch.device("cpu")).record(1, 0.0)


def test_groups_without_normals_do_not_count_in_the_loss_of_the_normals() -> None:
    """The mean of the normals is over the groups that have some, and is left out if none has any."""
    meter, losses = Meter(torch.device("cpu")), torch.tensor([[1.0, 4.0], [3.0, 0.0]])
    meter.add(StepLosses(losses, torch.ones(2), torch.tensor([True, False])), gradient_norm=1.0, views=4)
    found = meter.record(1, 0.0)
    assert (found["loss_image"], found["loss_normals"], found["loss"]) == (2.0, 4.0, 2.0)
    meter.reset()
    meter.add(StepLosses(losses, torch.ones(2), torch.tensor([False, False])), gradient_norm=1.0, views=4)
    assert "loss_normals" not in meter.record(1, 0.0)


def test_a_resume_removes_later_records(tmp_path: Path) -> None:
    """Records after the checkpoint and a line that a kill cut off are removed; the rest stays, and more follow."""
    log = MetricsLog(tmp_path)
    for step in (5, 10, 15):
        log.write({"step": step, "loss": 1.0 / step})
    with log.path.open("a") as file:
        file.write('{"step": 2')
    log.resume(10)
    log.write({"step": 12, "loss": 0.5})
    assert [record["step"] for record in records(tmp_path)] == [5, 10, 12]


@pytest.mark.parametrize(
    "line", [b'{"step": 7, "loss": 0.4w2}', b"\xff\xfe", b'{"loss": 1.0}', b'{"step": "7"}', b"[7]", b"7"]
)
def test_a_resume_removes_damaged_records(tmp_path: Path, line: bytes) -> None:
    """A flipped bit in the log of a training never keeps it from continuing; all other records stay."""
    log = MetricsLog(tmp_path)
    log.write({"step": 5, "loss": 0.2})
    with log.path.open("ab") as file:
        file.write(line + b"\n")
    log.write({"step": 10, "loss": 0.1})
    log.resume(10)
    assert [record["step"] for record in records(tmp_path)] == [5, 10]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """The error has the file and what to do, as that of a checkpoint has."""
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageUnavailable, match=r"metrics\.jsonl.*free some space"):
        MetricsLog(tmp_path).write({"step": 1, "loss": 1.0})


def test_training_records_and_validates(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """A record per three steps and one per validation; validations change no weights, use the averaged weights on
    held-out heads, and repeat; the file is part of the result. TensorBoard reads the same values."""

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    results = {}
    for name, every in (("with", 5), ("again", 5), ("without", 0)):
        (tmp_path / name).mkdir()
        params = train_params(validation=ValidationParams(every=every, heads=2, sigmas=(0.5, 5.0)), tensorboard=True)
        checkpoints = tmp_path / f"{name}-checkpoints"
        results[name] = run_training(dataset, params, encode_params, checkpoints, tmp_path / name)
    found = records(tmp_path / "with")
    assert [record["step"] for record in found] == [3, 5, 6, 9, 10, 12]
    assert [record["step"] for record in found if "validation_0.5" in record] == [5, 10, 12]
    assert all(math.isfinite(value) for record in found for value in record.values())
    assert all(0 < record["average_distance"] < 1 for record in found)
    assert all(0 < record["mfu"] < 1 for record in found)
    validations = [[record["validation_5"] for record in records(tmp_path / name)[1::3]] for name in ("with", "again")]
    assert validations[0] == validations[1]
    assert validations[0][0] != validations[0][1]
    assert results["with"].history == results["without"].history
    events = EventAccumulator(str(tmp_path / "with-checkpoints" / "logs")).Reload()
    scalars = {event.step: event.value for event in events.Scalars("validation_0.5")}
    assert scalars == pytest.approx({r["step"]: r["validation_0.5"] for r in found if "validation_0.5" in r}, rel=1e-6)


def test_each_checkpoint_has_its_validation_loss(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Checkpoints every 5 steps and validations every 4: the best checkpoint is found among all of them."""
    validation = ValidationParams(every=4, heads=1, sigmas=(1.0,))
    params = train_params(validation=validation, keep_checkpoints=1, keep_best=3, record_every=100)
    run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path)
    manifests = {
        path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("checkpoints/*/manifest.json")
    }
    assert sorted(manifests) == [f"step-{step:09d}" for step in (5, 10, 12)]
    assert all(manifest["validation"] > 0 for manifest in manifests.values())
    assert [record["step"] for record in records(tmp_path)] == [4, 5, 8, 10, 12]


def test_validation_reads_only_held_out_heads(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups come from heads of the split `validation`, or `test` without one, and never from `train`."""
    from spinmeround.tasks.training.observation.validation import Validation
    from spinmeround.tasks.training.parallel.processes import Processes

    processes = Processes(train_params())
    data = HeadDataset.open(dataset)
    expected = data.split("validation") or data.split("test")
    validation = Validation(data, train_params(), encode_params, processes)
    heads = {head for groups in validation._groups for head in groups.heads}
    assert heads <= {data.ids[subject] for subject in expected}
    assert not heads & {data.ids[subject] for subject in data.split("train")}
    monkeypatch.setattr(HeadDataset, "split", lambda self, name: [])
    assert not Validation(data, train_params(), encode_params, processes)
