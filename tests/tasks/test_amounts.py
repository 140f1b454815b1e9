"""Amounts with units."""

import pytest

from spinmeround.tasks.amounts import amount, duration


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000_000, "2.0 GB"), (123_456, "123 kB")]
)
def test_amounts(size, text):
    """At most three digits, and the unit."""
    assert amount(size) == text


def test_durations():
    """Long durations have coarse units."""
    assert [duration(seconds) for seconds in (0.44, 99.0, 600.0, 36_000.0, 864_000.0)] == [
        "0.4 s",
        "99.0 s",
        "10 min",
        "10.0 h",
        "10.0 days",
    ]
