"""Tables in Markdown."""

from markdown_it import MarkdownIt

from spinmeround.tasks.markdown import markdown_table, values_table


def cells(text: str) -> list[str]:
    """The cells of a table as a parser reads them."""
    tokens = MarkdownIt().enable("table").parse(text)
    return [token.content for token in tokens if token.type == "inline"]


def test_tables_are_read_back():
    """A parser finds the cells that were written, also those with the signs of a table and with several lines."""
    text = markdown_table(("name", "value"), [("a|b", 1), ("two\nlines", 0.5)])
    assert cells(text) == ["name", "value", "a|b", "1", "two lines", "0.5"]
    assert cells(values_table({"seed": 3})) == ["", "", "seed", "3"]
