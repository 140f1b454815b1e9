"""`spinmeround screen`: the limits by which heads are screened, and the population that they are compared with."""

from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.run_flow import run_flow

screen_app = typer.Typer(help="Choose what heads are screened by.", no_args_is_help=True)


@run_command(screen_app)
def calibrate(
    options: RunOptions,
    keep: Annotated[
        float | None, typer.Option(help="Share of clean heads to keep, at least; default: 0.95 without --recall.")
    ] = None,
    recall: Annotated[float | None, typer.Option(help="Share of defective heads to drop, at least.")] = None,
    labels: Annotated[
        str, typer.Option(help="'truth' for the generator's ground truth, or a decisions file of a review.")
    ] = "truth",
) -> None:
    """Score the profile's heads and fit the screen's limits to labelled heads; writes them to the run's folder."""
    from spinmeround.tasks.screening.params import calibrate_params

    params = calibrate_params(labels, keep=0.95 if keep is None and recall is None else keep, recall=recall)
    run_flow(options, "spinmeround.flows.calibration:calibration_flow", params=params)


@run_command(screen_app)
def population(options: RunOptions) -> None:
    """Score the profile's heads and fit a population to them, without labels; writes it to the run's folder.

    Heads that are far from it get high scores population*, once `score.population` names the file.
    """
    run_flow(options, "spinmeround.flows.calibration:population_flow")
