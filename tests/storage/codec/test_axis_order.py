"""Chunks in another order of axes equal numpy's transposition, and are contiguous."""

import itertools
import sys

import numpy as np
import pytest

from spinmeround.storage.codec import reordered

pytestmark = pytest.mark.fast

ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("loaded", [True, False], ids=["torch", "numpy"])
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 1), (65, 3, 64), (2, 1, 9)], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_any_order_equals_a_transposition(
    dtype: str, shape: tuple[int, ...], loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every order of three axes from every other one, for no, one and several chunks, with and without torch."""
    import torch

    assert torch.__name__ in sys.modules
    if not loaded:
        monkeypatch.delitem(sys.modules, "torch")
    for count, order, wanted in itertools.product((0, 1, 3), ORDERS, ORDERS):
        stored = np.random.default_rng(0).integers(0, 200, (count, *shape)).astype(dtype)
        found = reordered(stored, order, wanted)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, stored.transpose(0, *(1 + order.index(axis) for axis in wanted)))
