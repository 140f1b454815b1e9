"""Starts the processes of a training with a launcher, follows its progress, and passes its error on.

The processes read a job file, a training's arguments as JSON. The first one writes a line to standard output after
each step; the one that fails first leaves its error beside the job file.
"""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer

from spinmeround.storage import errors
from spinmeround.storage.errors import Interrupted, SpinMeRoundError
from spinmeround.storage.files import write_atomic
from spinmeround.tasks.training.launching.job import FAILURE, PROGRESS, Job
from spinmeround.tasks.training.launching.messages import LauncherMessages
from spinmeround.tasks.training.parallel.termination import termination
from spinmeround.tasks.training.params.launch import LaunchParams

_MODULE = "spinmeround.tasks.training.launching.job"
_GRACE_S = 600
"""Time that the processes get to complete their step and write a checkpoint after SIGTERM."""

_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_GRACE_S)}


def launch_command(params: LaunchParams, job: Path, machine: int = 0) -> list[str]:
    """The command that starts the processes of a machine; that of Slurm those of all machines."""
    if params.launcher == "accelerate":
        return [sys.executable, "-m", "accelerate.commands.launch", *_accelerate_options(params, machine), str(job)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={params.processes}"]
    if params.machines == 1:
        torchrun.append("--standalone")
    else:
        torchrun += [f"--nnodes={params.machines}", "--rdzv-backend=c10d", f"--rdzv-endpoint={params.rendezvous}"]
        torchrun += [f"--rdzv-id={job.parent.name}"]
        torchrun += [f"--node-rank={machine}"] if params.launcher == "torchrun" else []
    torchrun += ["-m", _MODULE, str(job)]
    if params.launcher == "slurm":
        return ["srun", f"--nodes={params.machines}", "--ntasks-per-node=1", "--kill-on-bad-exit=1", *torchrun]
    return torchrun


def _accelerate_options(params: LaunchParams, machine: int) -> list[str]:
    """Options that leave nothing to the configuration file of a user."""
    options = [f"--num_processes={params.total}", f"--num_machines={params.machines}", f"--machine_rank={machine}"]
    options += ["--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1"]
    if params.total > 1:
        options.append("--multi_gpu")  # on a CPU too: with --cpu it starts one process, whatever their number
    elif not has_gpu():
        options.append("--cpu")
    if params.machines == 1:
        options.append("--main_process_port=0")  # any free one
    else:
        host, _, port = params.rendezvous.rpartition(":")
        options += [f"--main_process_ip={host}", f"--main_process_port={port}"]
    return [*options, "--module", _MODULE]


def has_gpu() -> bool:
    """Whether torch finds a GPU here."""
    import torch

    return torch.cuda.is_available()


def shown_commands(params: LaunchParams, job: Path) -> list[str]:
    """The commands for a person to read: the one that is run here, then those of the other machines."""
    machines = range(params.machines if params.launcher != "slurm" else 1)
    return [shlex.join(launch_command(params, job, machine)) for machine in machines]


def launch(job: Job, file: Path, on_step: Callable[[int, int, float | None], None]) -> None:
    """Run a job in the processes of its launcher until all have ended.

    `file` is the job file to write. SIGTERM is passed on. Raises the error that a process left, and SpinMeRoundError
    for a launcher that failed without one.
    """
    write_atomic(file, job.model_dump_json().encode())
    failure = file.with_name(FAILURE)
    failure.unlink(missing_ok=True)
    command = launch_command(job.params.launch, file)
    with termination() as terminated:
        status, report = _follow(command, on_step, terminated)
    if failure.exists():
        raise _failure(failure)
    if status != 0 and terminated():
        raise Interrupted("train: was asked to end; run it again to continue from the newest checkpoint")
    sys.stderr.writelines(report)
    if status != 0:
        raise SpinMeRoundError(
            f"train: expected exit status 0 of the launcher, found {status}; its messages are above. The command was: "
            f"{shlex.join(command)}"
        )


def _follow(
    command: list[str], on_step: Callable[[int, int, float | None], None], terminated: Callable[[], bool]
) -> tuple[int, list[str]]:
    """Run a command and report the steps that it prints; returns its exit status and its own report of the end.

    It has a session of its own: Ctrl-C, which a terminal sends to all processes of its group, would end the processes
    without a checkpoint. This one ends them by SIGTERM.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, **_ENVIRONMENT},
        start_new_session=True,
        preexec_fn=_end_with_parent,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        watch, messages = _Watch(process, terminated), LauncherMessages(process.stderr)
        try:
            for line in process.stdout:
                if line.startswith(PROGRESS):
                    on_step(*json.loads(line.removeprefix(PROGRESS)))
        except BaseException:
            process.terminate()
            raise
        finally:
            watch.stop()
            messages.wait()
        return process.wait(), messages.held


class _Watch:
    """Passes a request to end on to a process, and kills it when it does not end in time."""

    def __init__(self, process: subprocess.Popen[str], terminated: Callable[[], bool]) -> None:
        self.process, self.terminated = process, terminated
        self._again()

    def _again(self) -> None:
        if self.terminated():
            self.process.send_signal(signal.SIGTERM)
            self._timer = Timer(_GRACE_S, self.process.kill)
        else:
            self._timer = Timer(0.2, self._again)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()


def _end_with_parent() -> None:
    """In the launcher: be sent SIGTERM when the process that started it dies, even by SIGKILL. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _failure(file: Path) -> Exception:
    found = json.loads(file.read_text(encoding="utf-8"))
    kind = getattr(errors, found["kind"], SpinMeRoundError)
    error: Exception = kind(found["message"])
    error.add_note(f"In process {found['rank']} of the training:\n{found['traceback']}")
    return error
