"""Snapshots of the averages of a training, and from them an average of any length (EDM2, arXiv:2312.02696).

    averages/step-000001000.safetensors    float16, names `LENGTH.WEIGHT`, the number of steps in the metadata

The profile of an average of exponent g after t steps is p(s) = (g + 1) s^g / t^(g + 1), the weight of step s. Another
profile is approximated by a sum of those in the snapshots, by least squares, and the averages are summed alike.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.storage.errors import SpinMeRoundError, environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.numbers import check_tensor_files
from spinmeround.tasks.training.optimisation.averages import exponent

AVERAGES = "averages"
"""Folder of the snapshots, beside the checkpoints and in the result."""

_NAME = re.compile(r"step-(\d{9})\.safetensors")


def snapshot_due(step: int, steps: int, snapshots: int) -> bool:
    """Whether one of `snapshots` equally spaced snapshots of a training is due after a step; the last one is."""
    return snapshots > 0 and step * snapshots // steps > (step - 1) * snapshots // steps


def write_snapshot(folder: Path, step: int, averages: Mapping[str, Tensor], taken: int) -> None:
    """Write whole averages, by `LENGTH.WEIGHT`, after `taken` steps; `step` counts those not taken too."""
    from safetensors.torch import save

    tensors = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in averages.items()}
    with environment_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"step-{step:09d}.safetensors", save(tensors, {"format": "pt", "steps": str(taken)}))


def remove_later(folder: Path, step: int) -> None:
    """Remove files `step-NNNNNNNNN.*` of later steps, which a training that returned to a checkpoint makes again."""
    for path in folder.glob("step-*"):
        if (found := re.fullmatch(r"step-(\d{9})\.\w+", path.name)) and int(found[1]) > step:
            path.unlink()


def average_of_length(folder: Path, length: float) -> dict[str, Tensor]:
    """The average of this length at the end of a training, by name of the weight, in float32.

    Raises SpinMeRoundError if the folder has no snapshots, and for a damaged one.
    """
    from safetensors import safe_open

    files = sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))
    if not files:
        raise SpinMeRoundError(
            f"{folder}: expected snapshots of a training's averages, found none; train with train.average.snapshots"
        )
    for file in files:
        check_tensor_files(file, [file])
    opened: list[Any] = [safe_open(file, "pt") for file in files]
    stored = [  # (file, prefix of its names, steps, exponent) of each average
        (file, prefix, float(file.metadata()["steps"]), exponent(float(prefix)))
        for file in opened
        for prefix in sorted({_parts(name)[0] for name in file.keys()})  # noqa: SIM118 (no mapping)
    ]
    at = np.array([steps for _, _, steps, _ in stored])
    shares = solve(at, np.array([each[3] for each in stored]), at.max(), exponent(length))
    weights = sorted({_parts(name)[1] for name in opened[0].keys()})  # noqa: SIM118
    return {
        weight: torch.stack(
            [
                file.get_tensor(f"{prefix}.{weight}").double() * share
                for (file, prefix, *_), share in zip(stored, shares, strict=True)
            ]
        )
        .sum(0)
        .float()
        for weight in weights
    }


def solve(
    steps: Float[np.ndarray, " average"], exponents: Float[np.ndarray, " average"], end: float, wanted: float
) -> Float[np.ndarray, " average"]:
    """The factors of stored averages in that of exponent `wanted` after `end` steps: A x = b with the inner products of
    the profiles (Equation 12)."""
    inner = product(steps[:, None], exponents[:, None], steps[None], exponents[None])
    with_wanted = product(steps, exponents, np.array(end), np.array(wanted))
    return np.asarray(np.linalg.lstsq(inner, with_wanted, rcond=None)[0])


def product(
    t_a: Float[np.ndarray, "..."],
    g_a: Float[np.ndarray, "..."],
    t_b: Float[np.ndarray, "..."],
    g_b: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """The inner product of two profiles: the integral of p_a p_b up to the smaller number of steps."""
    least = np.minimum(t_a, t_b)
    logarithm = (g_a + 1) * np.log(least / t_a) + (g_b + 1) * np.log(least / t_b) - np.log(least)
    return np.asarray((g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * np.exp(logarithm))


def _parts(name: str) -> Sequence[str]:
    """Length and weight of a name; a length such as 0.05 has a point itself."""
    found = re.match(r"(\d+(?:\.\d+)?(?:e-\d+)?)\.(.+)", name)
    assert found is not None
    return found.groups()
