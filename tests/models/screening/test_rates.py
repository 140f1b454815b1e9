"""Intervals of error rates, against known values and their own definition."""

import pytest

from spinmeround.models.screening.rates import Rate

pytestmark = pytest.mark.fast


def test_wilson_interval_of_a_published_example():
    """15 of 148: 0.0624 to 0.1605 (Newcombe 1998, table I, method 3)."""
    assert Rate(15, 148).interval == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_no_heads_say_nothing():
    assert (Rate(0, 0).interval, Rate(0, 0).text()) == ((0.0, 1.0), "unknown")


@pytest.mark.parametrize(("count", "trials", "width"), [(2, 42, 0.05), (13, 18, 0.05), (0, 10, 0.1), (0, 0, 0.2)])
def test_the_stated_number_of_heads_is_enough_and_one_less_is_not(count, trials, width):
    """At the same share, the interval reaches the width with the stated number of heads and not before."""
    more = Rate(count, trials).more_trials(width)
    share = count / trials if trials else 0.5
    assert Rate(round(share * (trials + more)), trials + more).width <= width
    assert Rate(round(share * (trials + more - 1)), trials + more - 1).width > width


def test_a_narrow_interval_needs_no_more_heads_and_an_impossible_one_is_refused():
    assert Rate(30, 1000).more_trials(0.05) == 0
    with pytest.raises(ValueError, match=r"width: expected more than 0 and less than 1, got 1\.5"):
        Rate(1, 2).more_trials(1.5)
    with pytest.raises(ValueError, match="1,000,000 heads can reach"):
        Rate(1, 2).more_trials(1e-4)
