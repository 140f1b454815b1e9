"""Workers with a GPU of their own, on a machine with GPUs that do not exist."""

import os
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import Session, plan_session
from spinmeround.flows.run.workers import WorkerPool
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.gpus import VISIBLE
from tests.support.gpus import list_gpus


def seen(pool: WorkerPool, *, gpu: bool) -> list[str | None]:
    """What each worker of the pool sees, in a process of its own, while all are busy."""
    with ExitStack() as held:
        workers = [held.enter_context(pool.checkout(gpu=gpu)) for _ in range(pool.size(gpu=gpu))]
        assert len({worker.call(os.getpid) for worker in workers}) == len(workers)
        return [worker.call(os.getenv, VISIBLE) for worker in workers]


def session(tmp_path: Path, *overrides: str) -> Session:
    return plan_session(load_profile("demo", overrides), Place(runs=str(tmp_path)))


def test_each_worker_is_handed_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with eight, each worker's environment has another one, and those on the CPU have none."""
    list_gpus(tmp_path, monkeypatch, 8)
    with closing(session(tmp_path, "execution.workers=1")) as run:
        assert seen(run.pool, gpu=True) == [str(number) for number in range(8)]
        assert seen(run.pool, gpu=False) == [""]
        assert run.on_gpu("encode")
        assert not run.on_gpu("render")  # of procedural heads


@pytest.mark.parametrize(
    ("limit", "override", "expected"),
    [
        (None, "execution.gpus=2", ["0", "1"]),
        (None, "execution.gpus=[3, 1]", ["3", "1"]),
        ("5,6,7", "execution.gpus=[2, 0]", ["7", "5"]),
        ("5,6", "execution.workers_per_gpu=2", ["5", "6", "5", "6"]),
        (None, "execution.gpus=0", []),
    ],
)
def test_gpus_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, override: str, expected: list[str]
) -> None:
    """By number or by index, among those that this process sees."""
    list_gpus(tmp_path, monkeypatch, 8)
    if limit is not None:
        monkeypatch.setenv(VISIBLE, limit)
    with closing(session(tmp_path, override, "execution.workers=1")) as run:
        assert seen(run.pool, gpu=True) == expected
        assert seen(run.pool, gpu=False) == [""]
        assert run.on_gpu("encode") == bool(expected)


@pytest.mark.parametrize("override", ["execution.gpus=9", "execution.gpus=[0, 8]"])
def test_a_gpu_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str) -> None:
    """When workers are needed: a run can be looked at on a machine without its GPUs."""
    list_gpus(tmp_path, monkeypatch, 8)
    run = session(tmp_path, override)
    assert run.census()[1].asked > 0
    with pytest.raises(ConfigError, match=r"execution\.gpus: expected GPUs among the 8 .*got indices \[0, "):
        _ = run.pool


def test_a_training_has_the_memory_of_the_gpus(tmp_path: Path) -> None:
    """Idle workers with a GPU end before a dedicated one starts, and are started again when they are needed."""
    with closing(WorkerPool(1, gpus=["0"])) as pool:
        with pool.checkout(gpu=True) as worker:
            before = worker.call(os.getpid)
        with pool.dedicated(threads=1), pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        with pool.checkout(gpu=True) as worker:
            assert worker.call(os.getpid) != before


@pytest.mark.parametrize("name", ["panohead", "spherehead"])
def test_a_gpu_by_number_is_refused_in_the_generator(name: str) -> None:
    """A worker sees one GPU, whose number is 0."""
    with pytest.raises(ConfigError, match=r"generator\.options\.device.*execution\.gpus=\[1\]"):
        load_profile("panohead", [f"generator.name={name}", "generator.options.device=cuda:1"])
