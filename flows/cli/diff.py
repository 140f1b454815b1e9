"""`spinmeround diff`: what differs between two runs, in numbers and pictures."""

from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.output import print_values, table


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(rich_help_panel=panel)(diff)


def diff(
    first: Annotated[
        Path, typer.Argument(help="Folder of a run, for instance runs/demo, or one of its summaries/*.json.")
    ],
    second: Annotated[Path, typer.Argument(help="The other run.")],
    to: Annotated[
        Path | None, typer.Option(help="Contact sheet, .png or .webp, of heads of both runs and their difference.")
    ] = None,
) -> None:
    """Show what differs between two runs: parameters, heads, losses, metrics and datasets. Exits with status 0."""
    from spinmeround.tasks.overview.compare import compare_runs, comparison_sheet, comparison_tables
    from spinmeround.tasks.pictures.contact_sheet import check_sheet_name, save_contact_sheet

    if to is not None:
        check_sheet_name(to)
    found = compare_runs(first, second)
    if found.empty:
        typer.echo("no difference")
    for number, (_, header, rows) in enumerate(comparison_tables(found)):
        typer.echo("\n" * (number > 0) + table(header, rows))
    if to is not None:
        sheet = comparison_sheet(first, second, found)
        if sheet is None:
            print_values({"pictures": "none: the runs have no heads in common"})
        else:
            save_contact_sheet(to, sheet)
            print_values({"pictures": str(to)})
