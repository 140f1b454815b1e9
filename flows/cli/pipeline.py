"""The commands that run the pipeline or a part of it: demo, build, stage, train, evaluate, report."""

from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import LaunchOptions, RunOptions, run_command
from spinmeround.flows.cli.shared.run_flow import print_summary, run_flow

RetryOption = Annotated[
    bool, typer.Option("--retry-quarantined", help="Retry heads that failed for good in an earlier run.")
]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    for command in (demo, build, stage, train, evaluate, report):
        run_command(app, panel=panel)(command)


def demo(options: RunOptions, retry_quarantined: RetryOption = False) -> None:
    """Run the whole pipeline: build the dataset, train, evaluate, and write the report."""
    summary = run_flow(options, "spinmeround.flows.workflow:workflow_flow", retry_quarantined=retry_quarantined)
    print_summary(summary, options, "heads", "dataset", "training", "evaluation", "report")


def build(options: RunOptions, retry_quarantined: RetryOption = False) -> None:
    """Build and publish the dataset of a profile."""
    summary = run_flow(options, "spinmeround.flows.dataset:dataset_flow", retry_quarantined=retry_quarantined)
    print_summary(summary, options, "heads", "dataset")


def stage(
    name: Annotated[str, typer.Argument(help="Name of the stage, for instance sample, screen or render.")],
    options: RunOptions,
) -> None:
    """Run a single stage for all heads; the artifacts of the stages that it reads must exist."""
    print_summary(run_flow(options, "spinmeround.flows.stages:stage_flow", stage=name), options, "heads")


def train(options: RunOptions, launch: LaunchOptions) -> None:
    """Train on the published dataset of a profile; resumes an interrupted training."""
    chosen = launch.applied(options)
    print_summary(run_flow(chosen, "spinmeround.flows.training:training_flow"), chosen, "dataset", "training")


def evaluate(options: RunOptions) -> None:
    """Measure the trained model on held-out heads, against ground truth and baselines."""
    print_summary(run_flow(options, "spinmeround.flows.evaluation:evaluation_flow"), options, "dataset", "evaluation")


def report(options: RunOptions) -> None:
    """Write the report of a run, with the results that exist so far."""
    print_summary(run_flow(options, "spinmeround.flows.report:report_flow"), options, "report")
