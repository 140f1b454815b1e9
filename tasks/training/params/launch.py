"""Configuration of the processes that a training is divided among."""

from typing import Literal

from pydantic import Field, model_validator

from spinmeround.tasks.stage import StageParams

JOB = "job.json"
"""File beside the checkpoints with the arguments of a training that is launched."""

Launcher = Literal["none", "torchrun", "accelerate", "slurm"]


class LaunchParams(StageParams):
    """How the processes of a training are started: by none of these, it has one, in the worker of the run."""

    launcher: Launcher = Field(
        "none", description="torchrun, accelerate launch, or srun with torchrun on each machine of a Slurm allocation"
    )
    processes: int = Field(1, ge=1, description="Processes on each machine, one per GPU")
    machines: int = Field(1, ge=1, description="Machines, which must all see the run's folder")
    rendezvous: str = Field(
        "", description="HOST:PORT of the first machine, for several; the others run the command that is printed"
    )

    @property
    def total(self) -> int:
        """Processes on all machines."""
        return self.processes * self.machines

    @model_validator(mode="after")
    def _machines_meet(self) -> "LaunchParams":
        if self.machines > 1 and self.launcher == "none":
            raise ValueError(f"launcher: expected torchrun, accelerate or slurm for {self.machines} machines, got none")
        if self.machines > 1 and not self.rendezvous.rpartition(":")[2].isdigit():
            raise ValueError(f"rendezvous: expected HOST:PORT for {self.machines} machines, got {self.rendezvous!r}")
        if self.processes > 1 and self.launcher == "none":
            raise ValueError(
                f"launcher: expected torchrun, accelerate or slurm for {self.processes} processes, got none"
            )
        return self
