"""`spinmeround screen`: how heads are screened, and the population that they are compared with."""

from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.flows.cli.shared.run_flow import run_flow
from spinmeround.flows.cli.shared.serve import PortOption, serve_pages

screen_app = typer.Typer(help="Learn how heads are screened.", no_args_is_help=True)


@run_command(screen_app)
def calibrate(
    options: RunOptions,
    keep: Annotated[
        float | None, typer.Option(help="Share of clean heads to keep, at least; default: 0.95 without --recall.")
    ] = None,
    recall: Annotated[float | None, typer.Option(help="Share of defective heads to drop, at least.")] = None,
    labels: Annotated[
        str, typer.Option(help="'truth' for the generator's ground truth, a labels file, or a decisions file.")
    ] = "truth",
    method: Annotated[
        str, typer.Option(help="'learned': a verdict on all scores together; 'limits': a limit for each score.")
    ] = "learned",
    width: Annotated[
        float, typer.Option(help="Width of the error rates' intervals for which the missing labels are printed.")
    ] = 0.05,
) -> None:
    """Score the profile's heads and fit the screen to labelled heads; writes the results to the run's folder."""
    from spinmeround.tasks.screening.params import calibrate_params

    keep = 0.95 if keep is None and recall is None else keep
    params = calibrate_params(labels, keep=keep, recall=recall, method=method, width=width)
    run_flow(options, "spinmeround.flows.calibration:calibration_flow", params=params)


@run_command(screen_app)
def label(
    options: RunOptions,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Largest number of heads to show.")] = 100,
    uncertain: Annotated[
        bool,
        typer.Option("--uncertain", help="Show the heads first that the verdict is least sure about; default: random."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random order.")] = 0,
    verdict: Annotated[
        Path | None,
        typer.Option(help="Verdict file for --uncertain; default: the profile's, or that of the run's calibration."),
    ] = None,
    port: PortOption = 4281,
) -> None:
    """Keep or drop heads in the browser without seeing the screen's verdict; for 'screen calibrate --labels'.

    Serves the page until interrupted. Labels change no dataset.
    """
    from spinmeround.flows.review.labelling import open_labelling
    from spinmeround.flows.run.session import view_session

    profile, place = options.load()
    with view_session(profile, place) as session:
        backend = open_labelling(
            session,
            f"{options.command('screen calibrate')} --labels {session.folder.labels}",
            order="uncertain" if uncertain else "random",
            seed=seed,
            count=count,
            verdict=str(verdict or profile.screen.verdict or session.folder.verdict),
        )
        backend.page()  # fails for a defective labels file before anybody labels
        serve_pages(backend, port, "label")
        print_values(backend.tally())


@run_command(screen_app)
def population(options: RunOptions) -> None:
    """Score the profile's heads and fit a population to them, without labels; writes it to the run's folder.

    Heads that are far from it get high scores population*, once `score.population` names the file.
    """
    run_flow(options, "spinmeround.flows.calibration:population_flow")


@run_command(screen_app)
def inspector(
    options: RunOptions,
    steps: Annotated[int, typer.Option(min=2, help="Training steps, of 64 views each.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights, the batches and the anomalies.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads to train with.")] = 1,
) -> None:
    """Train an inspector on previews of the profile's heads, without labels; writes it to the run's folder.

    Previews that differ from theirs get high scores inspection*, once `score.inspector` names the file.
    """
    from spinmeround.tasks.embedded.params import InspectorParams

    params = InspectorParams(steps=steps, seed=seed, threads=threads)
    run_flow(options, "spinmeround.flows.calibration:inspector_flow", params=params)
