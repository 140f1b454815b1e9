"""`spinmeround rehearse`: measures the stages of a profile on this machine and extrapolates to the full run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import OverridesOption
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
    typer.echo(_HEADER)
    costs: list[StageCost] = []
    with owned_folder(scratch, ".rehearsal") as place:
        if stub or small:
            extended = _stubbed(profile, chosen, place / "weights", small=small, checkout=panohead_checkout)
            chosen = load_profile(str(extended), overrides or [])
        for cost in stages(chosen, place / "store", heads=heads, views=views, model=model):
            if not isinstance(cost, StageCost):
                typer.echo(_model_row(cost, gpus))
                continue
            costs.append(cost)
            typer.echo(_stage_row(cost, chosen.plan.heads, gpus))
            for failed in cost.failed:
                typer.echo(f"{'':<9}{failed}", err=True)
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


def _row(stage: str, seconds: str, peak: str, size: str, hours: str, total: str) -> str:
    return f"{stage:<9}{seconds:>10}{peak:>10}{size:>11}{hours:>10}{total:>10}"


_HEADER = _row("stage", "s/head", "peak MB", "MB/head", "hours", "GB")


def _stage_row(cost: "StageCost", heads: int, devices: int) -> str:
    return _row(
        cost.stage,
        f"{cost.seconds_per_head:.2f}",
        f"{cost.peak_bytes / 1e6:.0f}",
        f"{cost.bytes_per_head * cost.growth / 1e6:.2f}",
        f"{cost.hours(heads, devices):.2f}",
        f"{cost.gigabytes(heads):.2f}",
    )


def _model_row(cost: "ModelCost", devices: int) -> str:
    size = f", leaves {cost.disk_bytes / 1e9:.2f} GB" if cost.disk_bytes else ""
    row = _row(cost.part, f"{cost.seconds:.2f}", f"{cost.peak_bytes / 1e6:.0f}", "", f"{cost.hours(devices):.2f}", "")
    return f"{row}  {cost.unit}; {cost.units:,.0f} in the full run{size}"


def _print_total(costs: "list[StageCost]", profile: "Profile", made: int, gpus: int) -> None:
    heads = profile.plan.heads
    hours, size = sum(cost.hours(heads, gpus) for cost in costs), sum(cost.gigabytes(heads) for cost in costs)
    peak = max(cost.peak_bytes for cost in costs) / 1e6
    typer.echo(_row("total", "", f"{peak:.0f}", "", f"{hours:.2f}", f"{size:.2f}"))
    typer.echo(f"total: {heads} heads of {profile.views.views} views, on {gpus} x the device used here")
    if made == 1:
        typer.echo("with one head, loading weights counts as work, a large overestimate; --heads 2 separates the two")
