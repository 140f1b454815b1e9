"""The commands that run the pipeline or a part of it: demo, build, stage, train, evaluate,
evaluate-inputs, evaluate-inversion, report.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import LaunchOptions, OverridesOption, RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values, table
from spinmeround.flows.cli.shared.run_flow import print_summary, run_flow
from spinmeround.storage.errors import ConfigError, shortened
from spinmeround.tasks.evaluation.params import PRESETS, PresetName
from spinmeround.tasks.training.params.phases import PHASES, PhaseName, field_of

RetryOption = Annotated[
    bool, typer.Option("--retry-quarantined", help="Retry heads that failed for good in an earlier run.")
]

DatasetOption = Annotated[
    Path | None,
    typer.Option("--dataset", help="Folder of another dataset than the profile's, for instance of an imported one."),
]


PresetOption = Annotated[
    PresetName | None,
    typer.Option(help="Views of a benchmark; --set changes fields of it."),
]


def register(app: typer.Typer, panel: str) -> None:
    """Add the commands."""
    for command in (demo, build, stage, train, evaluate, evaluate_inputs, evaluate_inversion, report):
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
    heads: Annotated[
        str,
        typer.Option(
            help="Heads to run it for, all by default: ids, seeds, ranges of seeds such as 10-20, split=test, "
            "dropped, dropped=REASON, quarantined; separated by commas."
        ),
    ] = "",
) -> None:
    """Run a single stage for some or all heads; the artifacts of the stages that it reads must exist.

    Selected heads that are quarantined in this stage are tried again.
    """
    print_summary(run_flow(options, "spinmeround.flows.stages:stage_flow", stage=name, heads=heads), options, "heads")


def train(
    options: RunOptions,
    launch: LaunchOptions,
    name: Annotated[
        PhaseName | None,
        typer.Argument(help="The phase to end with; default: the last one of the profile that has steps."),
    ] = None,
    begins: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Train this phase alone, beginning with a folder: a pipeline, a MultiviewUNet, a diffusers or "
            "Arc2Face UNet, a checkpoint, or the artifact of another training.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of this phase; more continue a finished training. 0 exports --from."),
    ] = None,
    dataset: DatasetOption = None,
) -> None:
    """Train the phases of a profile on its published dataset; resumes an interrupted training.

    Each phase begins with the result of the one before. With --from and --steps 0, writes a pipeline of that folder.
    """
    launched = launch.applied(options)
    overrides = [*(launched.overrides or []), *phase_overrides(launched, name, begins, steps)]
    chosen = replace(launched, overrides=overrides)
    summary = run_flow(chosen, "spinmeround.flows.training:training_flow", **given_dataset(dataset))
    print_summary(summary, chosen, "dataset", "training")


def given_dataset(dataset: Path | None) -> dict[str, str]:
    """The argument of the flows that take another dataset than the profile's."""
    return {} if dataset is None else {"dataset": str(dataset.absolute())}


def phase_overrides(options: RunOptions, name: PhaseName | None, begins: Path | None, steps: int | None) -> list[str]:
    """The overrides of the profile that select a phase, what it begins with and its steps. Raises ConfigError."""
    trained = options.load()[0].train.trained
    last: PhaseName = name if name is not None else next(reversed(trained), "multi-view")
    over = []
    if begins is not None:
        if not begins.is_dir():
            raise ConfigError(f"--from {begins}: expected a folder, found none")
        over.append(f"train.initial.unet={begins.absolute()}")
    if steps is not None:
        if steps == 0 and begins is None:
            raise ConfigError("--steps 0: expected --from, whose networks it exports as a pipeline")
        over.append(f"train.{field_of(last)}.steps={steps}")
    elif last not in trained:
        raise ConfigError(f"train.{field_of(last)}.steps: expected steps of {last}, got 0; give --steps")
    alone = begins is not None or steps == 0
    omitted = [each for each in PHASES if each != last and (alone or PHASES.index(each) > PHASES.index(last))]
    return [*over, *(f"train.{field_of(each)}.steps=0" for each in omitted)] if over or name else []


def evaluate(
    options: RunOptions,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with the pictures of another method, to score in the same table; repeat it for more. "
            "`evaluate-inputs` lists the wanted files."
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of the method of each --predictions, in order; default: the folder's name."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="summary.json or evaluation.json of another model on the same views, for a paired test."),
    ] = None,
    preset: PresetOption = None,
    dataset: DatasetOption = None,
    on: Annotated[
        Path | None,
        typer.Option(help="Folder of a dataset to evaluate on, if not the one that the model was trained on."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="An alias or NAME@VERSION in the store's registry, for instance production; default: the run's model."
        ),
    ] = None,
) -> None:
    """Measure the trained model on held-out heads, against ground truth, baselines and other methods."""
    from spinmeround.tasks.evaluation.against import against_table, read_result

    methods = method_overrides(predictions or [], name or [])
    overrides = [*preset_overrides(preset), *(options.overrides or []), *methods]
    chosen, other = replace(options, overrides=overrides), read_result(against) if against else None
    places = {**given_dataset(dataset), **({} if on is None else {"on": str(on.absolute())})}
    if model is not None:
        places["model"] = model
    summary = run_flow(chosen, "spinmeround.flows.evaluation:evaluation_flow", **places)
    print_summary(summary, chosen, "dataset", "evaluation")
    if other is not None:
        print_values({"against": table(*against_table(summary["evaluation"], other)).splitlines()})


def preset_overrides(preset: PresetName | None) -> list[str]:
    """The overrides of the profile that choose the views of a benchmark."""
    fields = PRESETS[preset] if preset else {}
    return [f"evaluate.{name}={json.dumps(value, allow_nan=False)}" for name, value in fields.items()]


def method_overrides(folders: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The overrides of the profile that add the predictions of other methods. Raises ConfigError."""
    if names and len(names) != len(folders):
        raise ConfigError(f"--name: expected one for each of {len(folders)} --predictions, got {len(names)}")
    chosen = names or [folder.absolute().name for folder in folders]
    for each in chosen:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", each) or chosen.count(each) > 1:
            raise ConfigError(
                f"--name {shortened(repr(each), 80)}: expected a name of letters, digits, - and _, of one method alone"
            )
    return [
        f"evaluate.predictions.{each}={json.dumps(str(folder.absolute()), allow_nan=False)}"
        for each, folder in zip(chosen, folders, strict=True)
    ]


def evaluate_inputs(
    dataset: Annotated[Path, typer.Argument(help="A published dataset, for instance runs/demo/datasets/*.zarr.")],
    to: Annotated[Path, typer.Option(help="New folder for the files.")],
    profile: Annotated[str, typer.Option("--profile", "-p", help="Name of a profile, or a .toml file.")] = "demo",
    preset: PresetOption = None,
    overrides: OverridesOption = None,
) -> None:
    """Write what another method needs to predict the evaluated views: given pictures, cameras, and names of files.

    `evaluate --predictions` scores the pictures that the method makes.
    """
    from spinmeround.flows.profile import load_profile
    from spinmeround.storage.dataset import HeadDataset
    from spinmeround.tasks.evaluation.inputs import write_inputs

    chosen = load_profile(profile, [*preset_overrides(preset), *(overrides or [])])
    wanted = write_inputs(HeadDataset.open(dataset), chosen.evaluate, chosen.embed, to)
    print_values({"inputs": str(to), "wanted": f"{len(wanted)} pictures, listed in {to / 'wanted.txt'}"})


def evaluate_inversion(
    dataset: Annotated[Path, typer.Argument(help="A published dataset, for instance runs/demo/datasets/*.zarr.")],
    to: Annotated[Path, typer.Option(help="Folder for the pictures; heads that it has are left as they are.")],
    profile: Annotated[str, typer.Option("--profile", "-p", help="Name of a profile, or a .toml file.")] = "demo",
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the fit, for instance steps=8; repeat it for more."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each of which fits other heads.")] = 1,
    overrides: OverridesOption = None,
) -> None:
    """Fit the profile's generator to the given views of the evaluated heads, as a baseline: GAN inversion.

    `evaluate --predictions` scores the pictures. An interrupted run continues with the next head.
    """
    from spinmeround.flows.profile import load_profile, parse_overrides
    from spinmeround.tasks.evaluation.inversion import write_inversions

    chosen = load_profile(profile, overrides or [])

    def on_progress(done: int, total: int) -> None:
        typer.echo(f"inversion: {done} of {total} heads", err=True)

    made = write_inversions(
        dataset,
        chosen.evaluate,
        chosen.embed,
        chosen.generator,
        parse_overrides(option or []),
        to,
        workers=workers,
        on_progress=on_progress,
    )
    print_values({"inversion": str(to), "heads": f"{made} made"})


def report(options: RunOptions, dataset: DatasetOption = None) -> None:
    """Write the report of a run, with the results that exist so far.

    That of another dataset, for instance of an imported one, is a file of its own beside it.
    """
    summary = run_flow(options, "spinmeround.flows.report:report_flow", **given_dataset(dataset))
    print_summary(summary, options, "report")
