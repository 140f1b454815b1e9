"""`spinmeround rehearse`: what the stages of a profile cost here, and what the whole of it would."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.storage.errors import ConfigError
from spinmeround.storage.files import owned_folder

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.tasks.rehearsal.model import ModelCost
    from spinmeround.tasks.rehearsal.stages import StageCost


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rehearse)


def rehearse(
    profile: Annotated[str, typer.Argument(help="Name of a profile, or a .toml file; 'weights stub' writes one.")],
    heads: Annotated[int, typer.Option(min=1, help="Heads that are made; from 2 on, loading is told apart.")] = 1,
    views: Annotated[int, typer.Option(min=1, help="Views of each, on the ring at eye level.")] = 8,
    gpus: Annotated[int, typer.Option(min=1, help="Devices like this one that would share the whole.")] = 1,
    set: Annotated[list[str] | None, typer.Option("--set", help="Override a field: section.field=value.")] = None,
    model: Annotated[bool, typer.Option(help="Train, sample and evaluate, too.")] = True,
    stub: Annotated[bool, typer.Option("--stub", help="Random numbers for all weights, of the true sizes.")] = False,
    small: Annotated[bool, typer.Option("--small", help="The same with small networks and pictures.")] = False,
    panohead_checkout: Annotated[
        Path | None, typer.Option(help="With --stub or --small: PanoHead's source, by default the profile's.")
    ] = None,
    scratch: Annotated[Path, typer.Option(help="Folder for what is made, which is removed again.")] = Path("runs"),
) -> None:
    """Make a few heads by every stage, then train, sample and evaluate for a step, and reckon the whole from that."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.rehearsal.stages import LAST_STAGE, StageCost
    from spinmeround.tasks.rehearsal.stages import rehearse as stages

    if panohead_checkout and not (stub or small):
        raise ConfigError(
            "--panohead-checkout: expected --stub or --small beside it, which make weights by that source"
        )
    chosen = load_profile(profile, set or [])
    asked = chosen.plan.heads
    typer.echo(f"{'stage':<9}{'s a head':>10}{'peak MB':>10}{'MB a head':>11}{'hours':>10}{'GB':>10}")
    costs: list[StageCost] = []
    with owned_folder(scratch, ".rehearsal") as place:
        folder = place / "store"
        if stub or small:
            extended = _stubbed(profile, chosen, place / "weights", small=small, checkout=panohead_checkout)
            chosen = load_profile(str(extended), set or [])
        for cost in stages(chosen, folder, heads=heads, views=views, model=model):
            if not isinstance(cost, StageCost):
                typer.echo(_model_row(cost, gpus))
                continue
            costs.append(cost)
            typer.echo(_row(cost, asked, gpus))
            for failed in cost.failed:
                typer.echo(f"{'':<9}{failed}", err=True)
            if cost.stage == LAST_STAGE:
                _show_heads(costs, asked, chosen.views.views, heads, gpus)


def _stubbed(profile: str, chosen: "Profile", folder: Path, *, small: bool, checkout: Path | None) -> Path:
    """A profile on stub weights, which are made in `folder`, and otherwise like `profile`."""
    from spinmeround.tasks.weights.stub import PROFILE, write_stubs

    named = chosen.generator.options.get("checkout")
    source = checkout or (Path(named) if named else None)
    if source is not None and not source.is_dir():
        raise ConfigError(
            f"generator.options.checkout: expected PanoHead's source at {source}, found no such folder; clone it, or "
            "say where it is by --panohead-checkout"
        )
    base = str(Path(profile).absolute()) if profile.endswith(".toml") else profile
    for path in write_stubs(folder, small=small, panohead_checkout=source, seed=0, base=base):
        typer.echo(f"made {path.name}", err=True)
    return folder / PROFILE


def _show_heads(costs: "list[StageCost]", asked: int, views: int, heads: int, gpus: int) -> None:
    hours, size = sum(cost.hours(asked, gpus) for cost in costs), sum(cost.gigabytes(asked) for cost in costs)
    peak = max(cost.peak_bytes for cost in costs) / 1e6
    typer.echo(f"{'whole':<9}{'':>10}{peak:>10.0f}{'':>11}{hours:>10.2f}{size:>10.2f}")
    typer.echo(f"whole: {asked} heads of {views} views, on {gpus} of the device that was used here")
    if heads == 1:
        typer.echo("one head: the loading of weights is reckoned as work, far too much; --heads 2 tells it apart")


def _model_row(cost: "ModelCost", devices: int) -> str:
    size = f", leaves {cost.disk_bytes / 1e9:.2f} GB" if cost.disk_bytes else ""
    return (
        f"{cost.part:<9}{cost.seconds:>10.2f}{cost.peak_bytes / 1e6:>10.0f}{'':>11}{cost.hours(devices):>10.2f}"
        f"{'':>10}  {cost.unit}, of {cost.units:,.0f}{size}"
    )


def _row(cost: "StageCost", heads: int, devices: int) -> str:
    took, size = cost.seconds_per_head, cost.bytes_per_head * cost.growth / 1e6
    row = f"{cost.stage:<9}{took:>10.2f}{cost.peak_bytes / 1e6:>10.0f}{size:>11.2f}"
    return f"{row}{cost.hours(heads, devices):>10.2f}{cost.gigabytes(heads):>10.2f}"
