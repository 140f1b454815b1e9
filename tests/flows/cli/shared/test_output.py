"""The text that commands print."""

from spinmeround.flows.cli.shared.output import aligned, print_values, table


def test_values_are_aligned(capsys):
    """Values of one width start in one column, and items of a list repeat no name."""
    assert aligned({"sheet": "a.png", "run": 3}) == "sheet      a.png\nrun        3"
    assert aligned({"a": ["x", "y"], "b": "z"}, width=2, indent=1) == " a  x\n    y\n b  z"
    print_values({"note": "n"}, err=True)
    print_values({})
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "note       n\n")


def test_tables():
    """Numbers are right-aligned."""
    assert table(["a", "n", "t"], [["x", "10", "y"], ["long", "2", ""]]) == "a      n  t\nx     10  y\nlong   2"
    assert table(["a", "name", "t"], [["x", "y", "z"]], names=2) == "a  name  t\nx  y     z"
