"""Means with bootstrap intervals, and paired tests, against known values."""

import numpy as np
import pytest
from scipy.stats import t

from spinmeround.models.metrics.statistics import mean_interval, paired_test

pytestmark = pytest.mark.fast


def test_the_interval_of_normal_values_is_near_students() -> None:
    """For 200 normal values both ends agree with the t interval within a tenth of its width."""
    values = np.random.default_rng(0).normal(3.0, 1.0, 200)
    found = mean_interval(values)
    half = t.ppf(0.975, 199) * values.std(ddof=1) / np.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.2 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.2 * half)


def test_equal_values_give_equal_statistics() -> None:
    """The seed is fixed, so two calls agree to the last digit."""
    values = list(np.random.default_rng(1).normal(size=9))
    assert mean_interval(values) == mean_interval(values)
    assert paired_test(values, values[::-1]) == paired_test(values, values[::-1])


def test_one_head_and_equal_heads() -> None:
    """A single head has no interval, equal heads one of no width, and none at all no mean."""
    single, equal = mean_interval([0.5]), mean_interval([0.5, 0.5, 0.5])
    assert (single.mean, single.low, single.high) == (0.5, None, None)
    assert (equal.low, equal.high, equal.heads) == (0.5, 0.5, 3)
    with pytest.raises(ValueError, match="one or more"):
        mean_interval([])


def test_the_p_value_of_few_heads_is_exact() -> None:
    """If all five differences have one sign, 2 of the 2^5 signs are as extreme; of ten heads, 2 of 1024."""
    for heads in (5, 10):
        first = list(np.arange(1.0, heads + 1))
        found = paired_test(first, [0.0] * heads)
        assert found is not None
        assert found.p_value == pytest.approx(2 / 2**heads)
        assert found.difference.mean == pytest.approx(np.mean(first))


def test_the_test_is_paired() -> None:
    """A small shift of values that differ much between heads is certain in pairs; swapping the two flips its sign."""
    heads = np.random.default_rng(2).normal(0.0, 10.0, 40)
    shift = heads + np.random.default_rng(3).normal(0.5, 0.1, 40)
    found, back = paired_test(list(shift), list(heads)), paired_test(list(heads), list(shift))
    assert found is not None
    assert back is not None
    assert found.p_value is not None
    assert found.p_value < 0.001
    assert found.difference.low is not None
    assert found.difference.low > 0.4
    assert back.difference.mean == pytest.approx(-found.difference.mean)


def test_heads_without_a_value_are_left_out() -> None:
    """A head that either side lacks is no pair; equal sides have p = 1."""
    found = paired_test([1.0, None, 3.0], [1.0, 2.0, None])
    assert found is not None
    assert (found.difference.mean, found.difference.heads, found.p_value) == (0.0, 1, None)
    assert paired_test([None], [1.0]) is None
    same = paired_test([1.0, 2.0], [1.0, 2.0])
    assert same is not None
    assert same.p_value == 1.0
