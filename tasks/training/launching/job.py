"""One process of a training that a launcher started: `python -m spinmeround.tasks.training.launching.job JOB.json`."""

import json
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from spinmeround.storage import errors
from spinmeround.storage.errors import Interrupted, SpinMeRoundError, device_failure
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.quiet_libraries import silence_libraries
from spinmeround.tasks.training.faces.pictures import PreparedFaces
from spinmeround.tasks.training.key import Beginning
from spinmeround.tasks.training.parallel.termination import TEMPORARY_FAILURE
from spinmeround.tasks.training.params import TrainParams

FAILURE = "failure.json"
"""File beside the job file with the error of the process that failed first."""

PROGRESS = "spinmeround-step "
"""Begins a line of standard output with [steps done, their total, loss]."""


class Job(FrozenModel):
    """The arguments of a training."""

    data: Path | PreparedFaces
    params: TrainParams
    encode: EncodeParams
    folder: Path
    out: Path
    begins: Beginning | None = None

    def absolute(self) -> "Job":
        """The same job with absolute paths, for processes that begin in another folder."""
        data, begins = self.data, self.begins
        if isinstance(data, Path):
            data = data.absolute()
        else:
            data = replace(data, folders=tuple(folder.absolute() for folder in data.folders))
        begins = replace(begins, folder=begins.folder.absolute()) if begins else None
        places = {"folder": self.folder.absolute(), "out": self.out.absolute()}
        return self.model_copy(update={"data": data, "begins": begins, **places})


def main(file: Path) -> int:
    """Take part in the training of a job file; returns the exit status."""
    silence_libraries()
    job = Job.model_validate_json(file.read_bytes())
    try:
        _train(job)
    except Exception as raised:
        error = device_failure(raised) or raised
        _leave(error, file.with_name(FAILURE))
        if not isinstance(error, SpinMeRoundError):
            traceback.print_exception(error)
        return TEMPORARY_FAILURE if isinstance(error, Interrupted) else 1
    return 0


def _train(job: Job) -> None:
    from spinmeround.tasks.training.process import train_here

    train_here(job.data, job.params, job.encode, job.folder, job.out, _print_step, job.begins)


def _print_step(done: int, steps: int, loss: float | None) -> None:
    print(PROGRESS + json.dumps([done, steps, loss], allow_nan=False), flush=True)


def _leave(error: Exception, file: Path) -> None:
    """Write an error for the process that launched, unless another process was first."""
    kinds = (base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
    content = {
        "kind": next(kinds, SpinMeRoundError.__name__),
        "message": str(error) if isinstance(error, SpinMeRoundError) else f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
        "rank": int(os.environ.get("RANK", "0")),
    }
    written = file.with_name(f"{file.name}.{os.getpid()}")
    written.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    with suppress(FileExistsError):
        os.link(written, file)
    written.unlink()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
