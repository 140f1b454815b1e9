"""`spinmeround rehearse`: measures the stages of a profile on this machine and extrapolates to the full run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import OverridesOption
from spinmeround.flows.cli.shared.output import print_values, table_row
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.files import owned_folder

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.tasks.rehearsal.costs import ModelCost, Resources, StageCost, TrainingForecast
    from spinmeround.tasks.training.params import TrainParams


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(rich_help_panel=panel)(rehearse)


def rehearse(
    profile: Annotated[str, typer.Argument(help="Name of a profile, or a .toml file; 'weights stub' writes one.")],
    heads: Annotated[
        int, typer.Option(min=1, help="Heads to make; with 2 or more, loading time is measured separately.")
    ] = 1,
    views: Annotated[int, typer.Option(min=1, help="Views of each head, on the ring at elevation 0.")] = 8,
    gpus: Annotated[int, typer.Option(min=1, help="Number of devices like this one in the full run.")] = 1,
    cores: Annotated[
        int, typer.Option(min=0, help="Cores in the full run; 0: this machine's, without a GPU those of --gpus such.")
    ] = 0,
    overrides: OverridesOption = None,
    model: Annotated[bool, typer.Option(help="Also measure training, generation and evaluation.")] = True,
    stub: Annotated[bool, typer.Option("--stub", help="Use random weights of the true sizes.")] = False,
    small: Annotated[
        bool, typer.Option("--small", help="Use random weights of small networks, and small views.")
    ] = False,
    panohead_checkout: Annotated[
        Path | None, typer.Option(help="With --stub or --small: PanoHead's source; default: the profile's.")
    ] = None,
    scratch: Annotated[Path, typer.Option(help="Folder for temporary files, which are removed.")] = Path("runs"),
) -> None:
    """Make a few heads by every stage, then train, generate and evaluate one step, and extrapolate to the full run."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.rehearsal.costs import ModelCost, Resources, StageCost
    from spinmeround.tasks.rehearsal.stages import LAST_STAGE
    from spinmeround.tasks.rehearsal.stages import rehearse as stages

    if panohead_checkout and not (stub or small):
        raise ConfigError("--panohead-checkout: expected together with --stub or --small, which make weights for it")
    chosen = load_profile(profile, overrides or [])
    _print_row(*_HEADER)
    costs: list[StageCost] = []
    with owned_folder(scratch, ".rehearsal") as place:
        if stub or small:
            extended = _stubbed(profile, chosen, place / "weights", small=small, checkout=panohead_checkout)
            chosen = load_profile(str(extended), overrides or [])
        resources = Resources.of(chosen, devices=gpus, cores=cores or _cores(gpus))
        for cost in stages(
            chosen, place / "store", heads=heads, views=views, devices=gpus, resources=resources, model=model
        ):
            if isinstance(cost, ModelCost):
                _print_part(cost)
            elif isinstance(cost, StageCost):
                costs.append(cost)
                _print_stage(cost, chosen.plan.heads, resources)
                if cost.stage == LAST_STAGE:
                    _print_total(costs, chosen, heads, gpus, resources)
            else:
                typer.echo(_training_plan(cost, chosen.train, gpus))


def _cores(devices: int) -> int:
    """Cores of the full run: this machine's, which has the GPUs; without a GPU the device is the machine itself."""
    from spinmeround.models.device import best_device

    here = len(os.sched_getaffinity(0))
    return here if best_device().type == "cuda" else here * devices


def _stubbed(profile: str, chosen: "Profile", folder: Path, *, small: bool, checkout: Path | None) -> Path:
    """Write random weights to `folder`; returns a profile that uses them and otherwise extends `profile`."""
    from spinmeround.tasks.weights.stub import PROFILE, write_stubs

    named = chosen.generator.options.get("checkout")
    source = checkout or (Path(named) if named else None)
    if source is not None and not source.is_dir():
        raise ConfigError(
            f"generator.options.checkout: expected PanoHead's source at {source}, found no such folder; clone it, or "
            "name its folder with --panohead-checkout"
        )
    base = str(Path(profile).absolute()) if profile.endswith(".toml") else profile
    for path in write_stubs(folder, small=small, panohead_checkout=source, seed=0, base=base):
        typer.echo(f"made {path.name}", err=True)
    return folder / PROFILE


_DAYS = (7, 30, 90)

_HEADER = (
    "stage",
    "s/head",
    "peak MB",
    "GPU MB",
    "MB/head",
    "hours",
    "GB",
    "measured here, and factors of the full run",
)
_WIDTHS = (8, 8, 8, 8, 9, 8, 8, 0)


def _print_row(*cells: str) -> None:
    typer.echo(table_row(cells, _WIDTHS))


def _print_stage(cost: "StageCost", heads: int, resources: "Resources") -> None:
    _print_row(
        cost.stage,
        f"{cost.seconds_per_head:.2f}",
        *_memory(cost),
        f"{cost.bytes_per_head * cost.growth / 1e6:.2f}",
        f"{cost.hours(heads, resources):.2f}",
        f"{cost.gigabytes(heads):.2f}",
        cost.basis(heads, resources),
    )
    print_values({cost.stage: list(cost.failed)}, width=_WIDTHS[0], err=True)


def _print_part(cost: "ModelCost") -> None:
    size = f"; leaves {cost.disk_bytes / 1e9:.2f} GB" if cost.disk_bytes else ""
    _print_row(cost.part, f"{cost.seconds:.2f}", *_memory(cost), "", f"{cost.hours:.2f}", "", f"{cost.basis}{size}")


def _memory(cost: "StageCost | ModelCost") -> tuple[str, str]:
    """Peak memory of the host and of the GPU, in MB; the latter is empty without a GPU."""
    device = "" if cost.device_bytes is None else f"{cost.device_bytes / 1e6:.0f}"
    return f"{cost.peak_bytes / 1e6:.0f}", device


def _training_plan(forecast: "TrainingForecast", train: "TrainParams", devices: int) -> str:
    """The time of the whole training in its processes, and the number of them that takes less."""
    processes, most = train.launch.total, forecast.most(devices)
    text = (
        f"train: {forecast.steps:,} steps take {forecast.hours(processes) / 24:,.1f} days in {processes} "
        f"process{'es' if processes > 1 else ''} (train.launch), one a device"
    )
    if most > processes:
        text += (
            f", {forecast.hours(most) / 24:,.1f} days in {most} (--set train.launch.launcher=torchrun --set "
            f"train.launch.processes={most})"
        )
    soonest = ", ".join(
        f"{days} days with {needed:,}" if (needed := forecast.needed(24 * days)) else f"{days} days with no number"
        for days in _DAYS
    )
    return (
        f"{text}; {soonest} of them. They share the {forecast.batch} groups of a step, so there are at most as many; "
        "their exchange of gradients, validation, samples and checkpoints are not included"
    )


def _print_total(costs: "list[StageCost]", profile: "Profile", made: int, gpus: int, resources: "Resources") -> None:
    heads = profile.plan.heads
    hours, size = sum(cost.hours(heads, resources) for cost in costs), sum(cost.gigabytes(heads) for cost in costs)
    peak = max(cost.peak_bytes for cost in costs) / 1e6
    _print_row("total", "", f"{peak:.0f}", "", "", f"{hours:.2f}", f"{size:.2f}", "the stages one after another")
    typer.echo(f"total: {heads} heads of {profile.views.views} views, on {gpus} x the device used here")
    if resources.devices < gpus:
        idle = gpus - resources.devices
        typer.echo(f"total: execution.gpus = {profile.execution.gpus} leaves {idle} of them idle")
    if made == 1:
        typer.echo("with one head, loading weights counts as work, a large overestimate; --heads 2 separates the two")
