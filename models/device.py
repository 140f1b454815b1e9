"""The device of all networks, the same rule for every stage, so that profiles do not depend on the machine."""

import torch


def best_device() -> torch.device:
    """The first CUDA device visible to this process, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
