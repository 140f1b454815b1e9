"""`spinmeround ablate`: the model against variants that each lack one condition."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from spinmeround.flows.cli.pipeline import DatasetOption, given_dataset
from spinmeround.flows.cli.shared.options import LaunchOptions, RunOptions, run_command
from spinmeround.flows.cli.shared.run_flow import print_summary, run_flow
from spinmeround.tasks.ablation.params import VARIANTS


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    run_command(app, panel=panel)(ablate)


def ablate(
    options: RunOptions,
    launch: LaunchOptions,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT",
            help=f"{', '.join(VARIANTS)}; repeat it for more than one. Default: those of the profile, which are all.",
        ),
    ] = None,
    dataset: DatasetOption = None,
) -> None:
    """Train the model without input image, identity or normals, and compare on unseen heads.

    Model and variants are trained by the stages of `train` with equal steps; each resumes where it was stopped.
    """
    launched = launch.applied(options)
    chosen = replace(launched, overrides=[*(launched.overrides or []), *variant_overrides(variants)])
    summary = run_flow(chosen, "spinmeround.flows.ablation:ablation_flow", **given_dataset(dataset))
    print_summary(summary, chosen, "dataset", "ablation")


def variant_overrides(variants: Sequence[str] | None) -> list[str]:
    """The override of the profile that chooses the variants."""
    return [f"ablate.variants={json.dumps(list(variants), allow_nan=False)}"] if variants else []
