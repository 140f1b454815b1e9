"""The text that commands print."""

import pytest

from spinmeround.flows.cli.shared.output import aligned, amount, duration, print_values, table


def test_values_are_aligned(capsys):
    """Values of one width start in one column, and items of a list repeat no name."""
    assert aligned({"sheet": "a.png", "run": 3}) == "sheet      a.png\nrun        3"
    assert aligned({"a": ["x", "y"], "b": "z"}, width=2, indent=1) == " a  x\n    y\n b  z"
    print_values({"note": "n"}, err=True)
    print_values({})
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "note       n\n")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000_000, "2.0 GB"), (123_456, "123 kB")]
)
def test_amounts(size, text):
    """At most three digits, and the unit."""
    assert amount(size) == text


def test_tables_and_durations():
    """Numbers are right-aligned; long durations have coarse units."""
    assert table(["a", "n", "t"], [["x", "10", "y"], ["long", "2", ""]]) == "a      n  t\nx     10  y\nlong   2"
    assert table(["a", "name", "t"], [["x", "y", "z"]], names=2) == "a  name  t\nx  y     z"
    assert [duration(seconds) for seconds in (0.44, 99.0, 600.0, 36_000.0, 864_000.0)] == [
        "0.4 s",
        "99.0 s",
        "10 min",
        "10.0 h",
        "10.0 days",
    ]
