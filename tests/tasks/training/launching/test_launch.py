"""Trainings in processes that a launcher starts."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.errors import ConfigError, Interrupted, SpinMeRoundError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.launching import launch as module
from spinmeround.tasks.training.launching.job import Job
from spinmeround.tasks.training.launching.launch import launch, launch_command, shown_commands
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.launch import LaunchParams
from spinmeround.tasks.training.run import run_training

MakeTrainParams = Callable[..., TrainParams]
JOB = "spinmeround.tasks.training.launching.job"

COMMANDS = {
    "torchrun": (
        LaunchParams(launcher="torchrun", processes=8),
        f"-m torch.distributed.run --nproc-per-node=8 --standalone -m {JOB} /runs/1f/job.json",
    ),
    "torchrun on the second of two machines": (
        LaunchParams(launcher="torchrun", processes=8, machines=2, rendezvous="first:29500"),
        "-m torch.distributed.run --nproc-per-node=8 --nnodes=2 --rdzv-backend=c10d --rdzv-endpoint=first:29500 "
        f"--rdzv-id=1f --node-rank=1 -m {JOB} /runs/1f/job.json",
    ),
    "accelerate": (
        LaunchParams(launcher="accelerate", processes=8),
        "-m accelerate.commands.launch --num_processes=8 --num_machines=1 --machine_rank=0 --mixed_precision=no "
        "--dynamo_backend=no --num_cpu_threads_per_process=1 --multi_gpu --main_process_port=0 "
        f"--module {JOB} /runs/1f/job.json",
    ),
}


@pytest.mark.parametrize(("params", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_commands(params: LaunchParams, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known commands, by this Python and without the user's configuration of accelerate."""
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    command = launch_command(params, Path("/runs/1f/job.json"), machine=params.machines - 1)
    assert command[0] == sys.executable
    assert " ".join(command[1:]) == expected


def test_slurm_starts_a_launcher_on_each_machine() -> None:
    """One command for the whole allocation; other launchers have one for each machine."""
    params = LaunchParams(launcher="slurm", processes=4, machines=3, rendezvous="first:29500")
    (command,) = shown_commands(params, Path("/runs/1f/job.json"))
    assert command.startswith(f"srun --nodes=3 --ntasks-per-node=1 --kill-on-bad-exit=1 {sys.executable} -m torch.")
    assert "--node-rank" not in command
    assert len(shown_commands(params.model_copy(update={"launcher": "torchrun"}), Path("/job.json"))) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 2}, "launcher: expected torchrun, accelerate or slurm for 2 processes, got none"),
        ({"launcher": "torchrun", "machines": 2}, "rendezvous: expected HOST:PORT for 2 machines, got ''"),
    ],
    ids=["no launcher", "no address"],
)
def test_what_cannot_be_launched_is_refused(fields: dict[str, object], message: str) -> None:
    """The error names the field."""
    with pytest.raises(ValueError, match=message):
        LaunchParams.model_validate(fields)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_end_with_the_weights_of_one(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    launcher: str,
) -> None:
    """By a launcher, terminated after step 6 and started again: the losses of one process; the first process alone
    writes and reports, and the launcher's own report of the end is not shown."""
    results, steps = {}, []

    def terminate(done: int, total: int, loss: float | None) -> None:
        steps.append(done)
        if done == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    for name, fields in (("one", {}), ("two", {"launcher": launcher, "processes": 2})):
        params = train_params(launch=LaunchParams.model_validate(fields), learning_rate=1e-4)
        arguments = (dataset, params, encode_params, tmp_path / name / "checkpoints", tmp_path / name)
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        if name == "two":
            with pytest.raises(Interrupted, match="was asked to end after step"):
                run_training(*arguments, terminate)
            assert Checkpoints(tmp_path / name / "checkpoints").steps()[-1] == steps[-1]
        results[name] = run_training(*arguments, lambda done, total, loss: steps.append(done))
    assert steps == [*range(1, 13), *range(1, 13)]
    assert not re.search("Traceback|signal", capfd.readouterr().err)
    losses = {name: [record["loss"] for record in result.history] for name, result in results.items()}
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-4)


def test_the_error_of_a_process_is_raised(
    encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A dataset that is not there: the class and the message of the process's own error, and nothing of torchrun's."""
    params = train_params(launch=LaunchParams(launcher="torchrun", processes=1))
    job = Job(data=tmp_path / "none", params=params, encode=encode_params, folder=tmp_path, out=tmp_path)
    with pytest.raises(SpinMeRoundError, match=str(tmp_path / "none")) as error:
        launch(job, tmp_path / "job.json", lambda done, steps, loss: None)
    assert "In process 0 of the training" in error.value.__notes__[0]
    assert not isinstance(error.value, ConfigError)
    assert "Traceback" not in capfd.readouterr().err


def test_a_process_that_leaves_no_error_is_reported_by_the_launcher(
    encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A process that is killed: torchrun's report of it is shown, after what the process wrote itself."""
    params = train_params(launch=LaunchParams(launcher="torchrun", processes=1))
    job = Job(data=tmp_path / "none", params=params, encode=encode_params, folder=tmp_path, out=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MODULE", "tests.tasks.training.launching.killed")
        with pytest.raises(SpinMeRoundError, match="expected exit status 0 of the launcher, found 1"):
            launch(job, tmp_path / "job.json", lambda done, steps, loss: None)
    written, _, report = capfd.readouterr().err.partition("the last words\n")
    assert "SIGKILL" not in written
    assert "Signal 9 (SIGKILL)" in report


def test_a_terminal_does_not_interrupt_the_processes() -> None:
    """Ctrl-C goes to the group of the process that launches: the processes, which are to leave a checkpoint, are in
    another one."""
    groups: list[int] = []
    print_group = "import json, os; print('spinmeround-step ' + json.dumps([os.getpgid(0), 0, None]))"
    module._follow([sys.executable, "-c", print_group], lambda group, *_: groups.append(group), lambda: False)
    assert len(groups) == 1
    assert groups != [os.getpgid(0)]
