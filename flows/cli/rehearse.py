"""`spinmeround rehearse`: measures the stages of a profile on this machine and extrapolates to the full run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import OverridesOption
from spinmeround.flows.cli.shared.output import print_values, table_row
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.files import owned_folder

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.tasks.rehearsal.model import ModelCost
    from spinmeround.tasks.rehearsal.stages import StageCost


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
    from spinmeround.tasks.rehearsal.stages import LAST_STAGE, StageCost
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
        for cost in stages(chosen, place / "store", heads=heads, views=views, model=model):
            if not isinstance(cost, StageCost):
                _print_part(cost, gpus)
                continue
            costs.append(cost)
            _print_stage(cost, chosen.plan.heads, gpus)
            if cost.stage == LAST_STAGE:
                _print_total(costs, chosen, heads, gpus)


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

_HEADER = ("stage", "s/head", "peak MB", "MB/head", "hours", "GB", "")
_WIDTHS = (8, 8, 8, 9, 8, 8, 0)


def _print_row(*cells: str) -> None:
    typer.echo(table_row(cells, _WIDTHS))


def _print_stage(cost: "StageCost", heads: int, devices: int) -> None:
    _print_row(
        cost.stage,
        f"{cost.seconds_per_head:.2f}",
        f"{cost.peak_bytes / 1e6:.0f}",
        f"{cost.bytes_per_head * cost.growth / 1e6:.2f}",
        f"{cost.hours(heads, devices):.2f}",
        f"{cost.gigabytes(heads):.2f}",
        "",
    )
    print_values({cost.stage: list(cost.failed)}, width=_WIDTHS[0], err=True)


def _print_part(cost: "ModelCost", devices: int) -> None:
    size = f", leaves {cost.disk_bytes / 1e9:.2f} GB" if cost.disk_bytes else ""
    note = f"{cost.unit}; {cost.units:,.0f} in the full run{size}"
    hours = f"{cost.hours(devices):.2f}"
    _print_row(cost.part, f"{cost.seconds:.2f}", f"{cost.peak_bytes / 1e6:.0f}", "", hours, "", note)
    if cost.steps:
        typer.echo(_training_plan(cost, devices))


def _training_plan(cost: "ModelCost", devices: int) -> str:
    """The time of the whole training, and the devices that it takes to have it sooner."""
    soonest = ", ".join(
        f"{days} days with {needed:,}" if (needed := cost.devices(24 * days)) else f"{days} days with no number"
        for days in _DAYS
    )
    return (
        f"{cost.part}: {cost.steps:,} steps take {cost.hours(devices) / 24:,.1f} days on {devices} x the device used "
        f"here ({cost.step_seconds:.2f} s of a step are not divided); {soonest} of them"
    )


def _print_total(costs: "list[StageCost]", profile: "Profile", made: int, gpus: int) -> None:
    heads = profile.plan.heads
    hours, size = sum(cost.hours(heads, gpus) for cost in costs), sum(cost.gigabytes(heads) for cost in costs)
    peak = max(cost.peak_bytes for cost in costs) / 1e6
    _print_row("total", "", f"{peak:.0f}", "", f"{hours:.2f}", f"{size:.2f}", "")
    typer.echo(f"total: {heads} heads of {profile.views.views} views, on {gpus} x the device used here")
    if made == 1:
        typer.echo("with one head, loading weights counts as work, a large overestimate; --heads 2 separates the two")
