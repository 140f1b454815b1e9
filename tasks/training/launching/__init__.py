"""Trainings in processes that a launcher starts: torchrun, accelerate or Slurm."""
