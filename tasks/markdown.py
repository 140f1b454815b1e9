"""Tables in Markdown, for the artifacts of a run and for cards."""

from collections.abc import Iterable, Mapping, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; a cell with several lines is shown as one."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def values_table(values: Mapping[str, object]) -> str:
    """A table of names and values in Markdown."""
    return markdown_table(["", ""], list(values.items()))


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
