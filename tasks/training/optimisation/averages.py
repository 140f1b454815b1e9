"""Averages of the weights over the steps of a training, by a power function (EDM2, arXiv:2312.02696, Section 3).

After step t (from 1) the average of exponent g is a_t = b a_{t-1} + (1 - b) w_t with b = (1 - 1/t)^(g + 1), Equation 2,
so the weight of step s is proportional to s^g: it has no warm-up, and its length grows with the training.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from spinmeround.tasks.training.parallel.sharding import local, whole

AVERAGE = "average."
"""Prefix of the averages in a checkpoint, before their lengths and the names of the weights."""


def exponent(length: float) -> float:
    """The exponent g of an average whose relative standard deviation is `length`: the real root of Equation 126.

    With s = length, s^2 = (g + 1) / ((g + 2)^2 (g + 3)).
    """
    inverse = length**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


class PowerAverages:
    """The averages of several lengths of the weights `trained`, all equal to the weights before the first step.

    `room` are tensors to keep them in, one list per length; by default copies of the weights.
    """

    def __init__(
        self, trained: Mapping[str, nn.Parameter], lengths: Sequence[float], room: Sequence[Sequence[Tensor]] = ()
    ) -> None:
        self.trained, self.steps = trained, 0
        with torch.no_grad():
            copies = room or [[weight.detach().clone() for weight in trained.values()] for _ in lengths]
            self._averages = dict(zip(lengths, copies, strict=True))
            for average in self._averages.values():
                for averaged, weight in zip(average, trained.values(), strict=True):
                    averaged.copy_(weight)

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights as those of the next step."""
        self.steps += 1
        weights = [local(weight.detach()) for weight in self.trained.values()]
        for length, average in self._averages.items():
            kept = (1 - 1 / self.steps) ** (exponent(length) + 1)
            torch._foreach_lerp_([local(each) for each in average], weights, 1 - kept)

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """All averages, by length and name of the weight."""
        for length, average in self._averages.items():
            for name, averaged in zip(self.trained, average, strict=True):
                yield f"{length:g}.{name}", averaged

    def of(self, length: float) -> dict[str, Tensor]:
        """The average of a length, by name of the weight."""
        return dict(zip(self.trained, self._averages[length], strict=True))

    @torch.no_grad()
    def distance(self, length: float) -> float:
        """Collective: the norm of an average minus the weights, as a share of the norm of the weights."""
        pairs = zip(self._averages[length], self.trained.values(), strict=True)
        norms = [[whole(torch.linalg.vector_norm(each)) for each in (average - w, w)] for average, w in pairs]
        apart, size = torch.linalg.vector_norm(torch.tensor(norms, dtype=torch.float64), dim=0).tolist()
        return float(apart / size) if size else 0.0

    @contextmanager
    def applied(self, length: float) -> Iterator[None]:
        """The weights are those of the average, inside the block."""
        before = [weight.detach().clone() for weight in self.trained.values()]
        self.apply(length)
        try:
            yield
        finally:
            self._set(before)

    def apply(self, length: float) -> None:
        """Replace the weights by the average."""
        self._set(self._averages[length])

    @torch.no_grad()
    def _set(self, values: Sequence[Tensor]) -> None:
        for weight, value in zip(self.trained.values(), values, strict=True):
            local(weight).copy_(local(value))
