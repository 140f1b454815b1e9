"""`spinmeround plan`: what a build of a profile will make, before anything runs."""

from dataclasses import replace
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import table


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    run_command(app, panel=panel)(plan)


def plan(
    options: RunOptions,
    name: Annotated[str | None, typer.Argument(metavar="[PROFILE]", help="Same as --profile.")] = None,
) -> None:
    """Show what a build will make, stage by stage, with estimates of time and disk; makes nothing."""
    from spinmeround.flows.run.plan_table import HEADER, plan_table
    from spinmeround.flows.run.session import plan_session

    profile, place = (options if name is None else replace(options, profile=name)).load()
    found = plan_table(plan_session(profile, place))
    for line in (*found.before, table(HEADER, found.rows), *found.after):
        typer.echo(line)
