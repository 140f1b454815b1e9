"""`spinmeround weights`: which external parts there are, whether they are here, and how they come here."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.storage.weights import PARTS, WEIGHTS_FOLDER, Hub, Part, find_part

if TYPE_CHECKING:
    from spinmeround.tasks.weights.check import Finding

app = typer.Typer(
    help="The external parts: PanoHead, InsightFace packs, Arc2Face, Stable Diffusion, LPIPS. Nothing comes unasked.",
    no_args_is_help=True,
)
ToOption = Annotated[Path, typer.Option("--to", help="Folder of all weights.")]


@app.command("list")
def list_parts(name: Annotated[str | None, typer.Argument(help="One part; else all.")] = None) -> None:
    """What each part is for, its licence, where it comes from, how it lies on the disk."""
    for each in [find_part(name)] if name else PARTS:
        typer.echo("\n".join(_described(each)))


@app.command()
def check(
    profile: Annotated[str, typer.Argument(help="Name of a profile, or a .toml file.")] = "panohead",
    set: Annotated[list[str] | None, typer.Option("--set", help="Override a field: section.field=value.")] = None,
) -> None:
    """Whether every part of a profile is here and is what it should be; exit status 1 where one is not."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.weights.check import check as check_part
    from spinmeround.tasks.weights.check import parts_of

    findings = [check_part(use) for use in parts_of(load_profile(profile, set or []))]
    for finding in findings:
        typer.echo("\n".join(_found(finding)))
    bad = [finding for finding in findings if not finding.good]
    typer.echo(f"profile {profile}: {len(findings)} parts, " + (f"{len(bad)} not here" if bad else "all here"))
    if bad:
        raise SystemExit(1)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Parts to fetch; 'spinmeround weights list' names them.")],
    to: ToOption = WEIGHTS_FOLDER,
) -> None:
    """Fetch parts from the hub, having read their terms; what was cut off goes on where it ended."""
    from spinmeround.storage.weights import fetch_part

    for each in [find_part(name) for name in names]:
        typer.echo(f"{each.name}: {each.licence}")
        place = fetch_part(each, to, say=typer.echo)
        typer.echo(f"{each.name}: {place}, SHA-256 recorded")


@app.command()
def stub(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; what is there already stays.")],
    small: Annotated[bool, typer.Option("--small", help="Small networks of the same form, for quick trials.")] = False,
    panohead_checkout: Annotated[
        Path | None, typer.Option(help="A checkout of PanoHead, to make a network of its own classes by.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = 0,
) -> None:
    """Write all parts as random numbers in the published formats, to rehearse a profile without its weights."""
    from spinmeround.tasks.weights.stub import write_stubs

    for path in write_stubs(folder, small=small, panohead_checkout=panohead_checkout, seed=seed):
        typer.echo(str(path))


def _described(each: Part) -> list[str]:
    lines = [
        each.name,
        f"  for      {each.purpose}",
        f"  terms    {each.licence}",
        f"  from     {each.source.page}",
        f"  get it   {each.command(each.place())}",
        f"  lies at  {each.place()}" + (f" ({', '.join(each.files)})" if each.files else ""),
    ]
    if isinstance(each.source, Hub):
        lines.insert(4, f"  files    {', '.join(each.source.files)}")
    return [*lines, f"  or       --set {each.field}=PATH"] if each.field else lines


def _found(finding: "Finding") -> list[str]:
    use = finding.use
    lines = [f"{finding.state:<8} {use.name:<17} {use.field}: {finding.seen}"]
    return [*lines, f"{'':<8} get it: {finding.command}"] if finding.command else lines
