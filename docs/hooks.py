"""Hooks of mkdocs: every command with its options on the page of commands, every metric on that of the evaluation."""

from collections.abc import Iterator
from typing import Any

MARK = "<!-- commands -->"
METRICS_MARK = "<!-- metrics -->"
RUN_OPTIONS = "Run options"
"""The group of options that most commands share; it is listed once."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of a page by what they stand for; mkdocs calls it for each page."""
    if METRICS_MARK in markdown:
        markdown = markdown.replace(METRICS_MARK, "\n".join(metrics()))
    if MARK not in markdown:
        return markdown
    import typer.main

    from spinmeround.flows.cli.app import app

    command = typer.main.get_command(app)
    lines = ["## Run options", *table(shared(command)), *sections(command, "spinmeround")]
    return markdown.replace(MARK, "\n".join(lines))


def metrics() -> Iterator[str]:
    """Markdown lines of the table of metrics."""
    from spinmeround.models.metrics.definitions import definition_rows

    yield from ("| metric | better | definition | range | computed on |", "| --- | --- | --- | --- | --- |")
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in definition_rows())


def sections(command: Any, name: str) -> Iterator[str]:
    """Markdown lines of a command and, for a group, of its subcommands."""
    if " " in name:
        yield f"\n{'#' * (1 + name.count(' '))} `{name}`\n"
        yield from (command.help or "").strip().splitlines()
    subcommands = getattr(command, "commands", {})
    own = [each for each in command.params if not in_run_options(each)]
    yield from table([] if subcommands else own)
    if len(own) < len(command.params):
        yield "\nIt also takes the [run options](#run-options)."
    for each, subcommand in subcommands.items():
        yield from sections(subcommand, f"{name} {each}")


def shared(command: Any) -> list[Any]:
    """The run options, from the first command that has them."""
    found = [each for each in command.params if in_run_options(each)]
    return found or next(filter(None, map(shared, getattr(command, "commands", {}).values())), [])


def in_run_options(parameter: Any) -> bool:
    return getattr(parameter, "rich_help_panel", None) == RUN_OPTIONS


def table(parameters: list[Any]) -> Iterator[str]:
    """Markdown lines of a table of options."""
    rows = [row(each) for each in parameters if each.name != "help" and not getattr(each, "hidden", False)]
    if rows:
        yield from ("", "| option | description |", "| --- | --- |", *rows)


def row(parameter: Any) -> str:
    """The names and the help of an option or argument, with its default."""
    argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    text = (parameter.help or "").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").strip()
    default = parameter.default
    shown = isinstance(default, int | float | str) and not isinstance(default, bool) and default != ""
    if shown and "default:" not in text:
        text += f" Default: `{default}`."
    return f"| {', '.join(f'`{each}`' for each in names)} | {text.strip()} |"
