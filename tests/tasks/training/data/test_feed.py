"""Batches that are made ahead are those that are made when they are asked for."""

import os
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.data.batches import GroupBatch, TrainingBatches
from spinmeround.tasks.training.data.draws import GroupDraw
from spinmeround.tasks.training.data.feed import BatchFeed
from spinmeround.tasks.training.params import TrainParams

MakeTrainParams = Callable[..., TrainParams]


def same(first: GroupBatch, second: GroupBatch) -> bool:
    """Whether two batches are equal, in every field."""
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(GroupBatch)]
    tensors = [pair for pair in pairs if isinstance(pair[0], torch.Tensor)]
    arrays = [pair for pair in pairs if isinstance(pair[0], np.ndarray)]
    others = [pair for pair in pairs if not isinstance(pair[0], torch.Tensor | np.ndarray)]
    return (
        all(torch.equal(*pair) for pair in tensors)
        and all(np.array_equal(*pair) for pair in arrays)
        and all(a == b for a, b in others)
    )


@pytest.mark.parametrize(("ahead", "workers"), [(0, 0), (3, 0), (2, 2)], ids=["none", "a thread", "two processes"])
def test_batches_ahead_are_those_of_their_steps(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, ahead: int, workers: int
) -> None:
    """In order, with steps left out, back to an earlier step, and up to the last one, recoloured samples included."""
    data, params = HeadDataset.open(dataset), train_params(random_background=0.5, batch=4)
    batches = TrainingBatches(data, data.split("train"), params, encode_params)
    with BatchFeed(batches, steps=params.steps, ahead=ahead, workers=workers) as feed:
        for step in (3, 4, 7, 2, 3, 11):
            assert same(feed.batch(step), batches.read(step))


def test_batches_are_made_while_a_step_computes(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches of the next two steps are read, by another process, without being asked for."""
    data, params = HeadDataset.open(dataset), train_params()
    batches, read = TrainingBatches(data, data.split("train"), params, encode_params), torch.zeros(12).share_memory_()
    original = TrainingBatches.read_groups

    def spy(self: TrainingBatches, draw: GroupDraw, step: int) -> GroupBatch:
        read[step] = os.getpid()
        return original(self, draw, step)

    monkeypatch.setattr(TrainingBatches, "read_groups", spy)
    with BatchFeed(batches, steps=12, ahead=2, workers=1) as feed:
        feed.batch(0)
        for future in feed._coming:
            future.result()
        assert (read[:3] > 0).all()
        assert os.getpid() not in read.tolist()


def test_processes_that_read_outlive_a_request_to_end(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams
) -> None:
    """SIGTERM to every process of a job: the step that the training completes still gets its batch, and the processes
    end with the feed."""
    data, params = HeadDataset.open(dataset), train_params()
    batches = TrainingBatches(data, data.split("train"), params, encode_params)
    before = set(psutil.Process().children())
    with BatchFeed(batches, steps=12, ahead=1, workers=1) as feed:
        feed.batch(0)
        started = set(psutil.Process().children()) - before
        for process in started:
            process.send_signal(signal.SIGTERM)
        assert [feed.batch(step).indices for step in range(1, 12)] == [(0, 1)] * 11
    assert started
    assert psutil.wait_procs(started, timeout=60)[1] == []


def test_a_damaged_file_is_an_error_of_its_step(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps before it get their batches; the error is raised by its own step, not earlier."""
    data, params = HeadDataset.open(dataset), train_params()
    batches = TrainingBatches(data, data.split("train"), params, encode_params)
    original = TrainingBatches.read_groups

    def damaged(self: TrainingBatches, draw: GroupDraw, step: int) -> GroupBatch:
        if step == 2:
            raise DatasetError("head procedural-000001: latents/rgb: its checksum does not match")
        return original(self, draw, step)

    monkeypatch.setattr(TrainingBatches, "read_groups", damaged)
    with BatchFeed(batches, steps=12, ahead=2) as feed:
        assert feed.batch(0).indices == feed.batch(1).indices == (0, 1)
        with pytest.raises(DatasetError, match="checksum"):
            feed.batch(2)
