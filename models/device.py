"""Where networks run: one rule for all stages, so that a profile says nothing of the machine."""

import torch


def best_device() -> torch.device:
    """The first CUDA device, where there is one that is not hidden by CUDA_VISIBLE_DEVICES; else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
