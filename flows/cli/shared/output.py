"""What commands print: aligned `name value` lines and plain tables."""

from collections.abc import Mapping, Sequence

import typer

NAME_WIDTH = 10


def aligned(values: Mapping[str, object], *, width: int = NAME_WIDTH, indent: int = 0) -> str:
    """One line `name value` per entry, values aligned; a list takes a line per item, with the name on the first."""
    lines = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        lines += [f"{'' if number else name:<{width}} {item}" for number, item in enumerate(items)]
    return "\n".join(" " * indent + line for line in lines)


def print_values(values: Mapping[str, object], *, width: int = NAME_WIDTH, err: bool = False) -> None:
    """Print `aligned` lines on standard output, or on standard error; prints nothing for no values."""
    if text := aligned(values, width=width):
        typer.echo(text, err=err)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, names: int = 1) -> str:
    """A table with columns as wide as needed, aligned as by `table_row`."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(table_row(line, widths, names=names) for line in lines)


def table_row(cells: Sequence[str], widths: Sequence[int], *, names: int = 1) -> str:
    """One row of a table, for rows that are printed one by one.

    The first `names` cells and the last one are left-aligned, the others right-aligned.
    """
    last = len(cells) - 1
    return "  ".join(
        cell.ljust(width) if column < names or column == last else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
